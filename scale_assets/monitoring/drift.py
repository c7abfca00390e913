"""How far values have moved from a reference: the population stability index, and null shares.

The index is sum((p - q) * ln(p / q)) over bins, with p and q the shares of the compared values and of
the reference: Jeffreys' divergence (H. Jeffreys, Proc. R. Soc. A 186, 1946), in use under this name
since N. Siddiqi, Credit Risk Scorecards (2006), whose rule of thumb calls 0.1 a change and 0.25 a
shift. Numbers are binned at the reference's deciles, strings by category. Samples of one distribution
give (bins - 1) * (1 / compared + 1 / reference) on average (B. Yurdakul, Statistical Properties of
Population Stability Index, Western Michigan University, 2018): what exceeds that is judged.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

PSEUDO_COUNT = 0.5  # added to every bin, so that an empty one is rare and not impossible

Counts = npt.NDArray[np.float64]


class Verdict(StrEnum):
    """What the measures of a feature come to."""

    NONE = "none"  # too little to compare, or not to be judged
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


FROM_LEAST = list(Verdict)


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """From which value on a measure warns and fails."""

    warn: float
    fail: float

    def verdict(self, value: float | None) -> Verdict:
        if value is None:
            return Verdict.NONE
        if value >= self.fail:
            return Verdict.FAIL
        return Verdict.WARN if value >= self.warn else Verdict.OK


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How one feature is judged."""

    psi: Bounds
    null_share: Bounds  # of the change of the share

    def verdict(self, excess: float | None, null_change: float | None) -> Verdict:
        """The graver one of the two; ``excess`` is the index beyond what chance gives."""
        found = (self.psi.verdict(excess), self.null_share.verdict(null_change))
        return max(found, key=FROM_LEAST.index)


@dataclass(frozen=True, kw_only=True)
class Shift:
    """What moved; None where one side has no value to compare."""

    psi: float | None
    null_share: float | None
    reference_null_share: float | None
    num_values: int  # compared, nulls left out
    num_bins: int

    @property
    def null_change(self) -> float | None:
        if self.null_share is None or self.reference_null_share is None:
            return None
        return abs(self.null_share - self.reference_null_share)


def stability_index(compared: Sequence[float], shares: Sequence[float], size: float) -> float:
    """The index of counts per bin against a reference's shares per bin, which ``size`` values made."""
    counts = np.asarray(compared, dtype=np.float64)
    smoothing = PSEUDO_COUNT * len(counts)
    p = (counts + PSEUDO_COUNT) / (counts.sum() + smoothing)
    q = (np.asarray(shares, dtype=np.float64) * size + PSEUDO_COUNT) / (size + smoothing)
    return float(((p - q) * np.log(p / q)).sum())


def by_chance(num_bins: int, num_compared: int, num_reference: int) -> float:
    """The index that two samples of one distribution have on average.

    Of entities, not of rows: an entity's rows resemble each other.
    """
    return (num_bins - 1) * (1 / num_compared + 1 / num_reference)


def shift(compared: Mapping[Hashable, Counts], reference: Mapping[Hashable, Counts]) -> Shift:
    """Compare counts per stratum; in each, the nulls come first and then the bins.

    Strata that the reference lacks are left out. In the others it is weighted as the compared
    values are: what moves only because there are more rows of one stratum is no drift.
    """
    # In order, so that the sums are the same to the last digit in every run.
    common = sorted(compared.keys() & reference.keys(), key=str)
    rows = sum(compared[stratum].sum() for stratum in common)
    if not rows:
        return Shift(psi=None, null_share=None, reference_null_share=None, num_values=0, num_bins=0)
    nulls = sum(compared[stratum][0] for stratum in common)
    expected_nulls = sum(
        compared[stratum].sum() * reference[stratum][0] / reference[stratum].sum()
        for stratum in common
    )
    psi, num_values = _index_of_values(
        [(compared[stratum][1:], reference[stratum][1:]) for stratum in common]
    )
    return Shift(
        psi=psi,
        null_share=float(nulls / rows),
        reference_null_share=float(expected_nulls / rows),
        num_values=num_values,
        num_bins=len(compared[common[0]]) - 1,
    )


def _index_of_values(strata: Sequence[tuple[Counts, Counts]]) -> tuple[float | None, int]:
    both = [(p, q) for p, q in strata if p.sum() and q.sum()]
    if not both:
        return None, 0
    counts = np.sum([p for p, _ in both], axis=0)
    weighted = np.sum([q / q.sum() * p.sum() for p, q in both], axis=0)
    size = float(sum(q.sum() for _, q in both))
    return stability_index(counts, weighted / weighted.sum(), size), int(counts.sum())
