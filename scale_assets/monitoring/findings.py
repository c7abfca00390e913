"""What the newest window of a view came to, for a check to tell."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from scale_assets.lake import Lake
from scale_assets.monitoring.drift import FROM_LEAST, Verdict

MAX_SHOWN = 40
MAX_NAMED = 5
LEAST_NULL_CHANGE = 0.005  # a smaller one is not worth a word


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One feature in one window, as the drift table holds it."""

    feature: str
    psi: float | None
    psi_by_chance: float | None
    null_share: float | None
    reference_null_share: float | None
    psi_warn: float | None
    psi_fail: float | None
    verdict: Verdict

    @property
    def excess(self) -> float | None:
        """How much of the index chance does not explain."""
        if self.psi is None or self.psi_by_chance is None:
            return None
        return self.psi - self.psi_by_chance

    @property
    def measured(self) -> str:
        """In words, with the threshold that it is judged by."""
        text = f"{self.feature} has no index"
        if self.psi is not None:
            text = f"{self.feature} {self.psi:.3f} ({self.psi_by_chance:.3f} by chance"
            text += ")" if self.psi_warn is None else f", warns {self.psi_warn:g} beyond)"
        if self.null_share is None or self.reference_null_share is None:
            return text
        if abs(self.null_share - self.reference_null_share) < LEAST_NULL_CHANGE:
            return text
        return f"{text}, {self.null_share:.1%} null and not {self.reference_null_share:.1%}"


@dataclass(frozen=True, kw_only=True)
class Findings:
    """All features of a view in its newest window."""

    window: tuple[date, date] | None
    num_entities: int
    num_reference_entities: int
    features: Sequence[Finding]  # the gravest first

    @property
    def drifted(self) -> list[Finding]:
        return [each for each in self.features if each.verdict in {Verdict.WARN, Verdict.FAIL}]

    @property
    def worst(self) -> Verdict:
        return self.features[0].verdict if self.features else Verdict.NONE

    @property
    def sentence(self) -> str:
        if self.window is None:
            return "No verdict: nothing to compare yet."
        span = f"{self.window[0]} to {self.window[1]}"
        if self.worst is Verdict.NONE:
            return (
                f"No verdict for {span}: {self.num_entities:,} entities to compare with "
                f"{self.num_reference_entities:,} are too few, or no feature is judged."
            )
        if not self.drifted:
            return f"No feature drifted in {span}."
        named = "; ".join(each.measured for each in self.drifted[:MAX_NAMED])
        more = len(self.drifted) - MAX_NAMED
        return f"Drifted in {span}: {named}" + (f"; and {more} more." if more > 0 else ".")

    def numbers(self) -> dict[str, Any]:
        """What a plot over runs shows."""
        judged = [each.excess for each in self.features if each.psi_warn is not None]
        known = [excess for excess in judged if excess is not None]
        return {
            "num_drifted": len(self.drifted),
            "num_entities": self.num_entities,
            "num_reference_entities": self.num_reference_entities,
            **({"max_psi_beyond_chance": max(known)} if known else {}),
        }

    def markdown(self) -> str:
        """A table of the features, the gravest first."""
        rows = [
            f"| {each.feature} | {each.verdict} | {_number(each.psi)} |"
            f" {_number(each.psi_by_chance)} | {_number(each.psi_warn)} |"
            f" {_number(each.psi_fail)} | {_share(each.null_share)} |"
            f" {_share(each.reference_null_share)} |"
            for each in self.features[:MAX_SHOWN]
        ]
        header = (
            "| feature | verdict | PSI | by chance | warns beyond it by | fails by | nulls |"
            " nulls in reference |"
        )
        more = len(self.features) - MAX_SHOWN
        return "\n".join(
            [
                header,
                "|---|---|---:|---:|---:|---:|---:|---:|",
                *rows,
                f"\n{more} more" * (more > 0),
            ]
        )


def newest_findings(lake: Lake, table: str, view: str) -> Findings:
    """The features of a view in its newest window with enough entities to compare, or in its newest."""
    rows = lake.read(table, filters=[("view", "=", view)]).to_pylist()
    if not rows:
        return Findings(window=None, num_entities=0, num_reference_entities=0, features=())
    compared = [row for row in rows if row["null_share"] is not None]
    newest = max(row["window_start"] for row in compared or rows)
    rows = [row for row in rows if row["window_start"] == newest]
    found = [
        Finding(
            **{name: row[name] for name in Finding.__dataclass_fields__ if name != "verdict"},
            verdict=Verdict(row["verdict"]),
        )
        for row in rows
    ]
    found.sort(key=lambda each: (-FROM_LEAST.index(each.verdict), -(each.psi or 0), each.feature))
    return Findings(
        window=(newest, rows[0]["window_end"]),
        num_entities=rows[0]["num_entities"],
        num_reference_entities=rows[0]["num_reference_entities"],
        features=found,
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
