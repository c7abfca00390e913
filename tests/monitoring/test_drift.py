"""Known answers of the measure: nothing for equals, much for what moved."""

import math

import numpy as np
import pytest

from scale_assets.monitoring.drift import (
    Bounds,
    Limits,
    Verdict,
    by_chance,
    shift,
    stability_index,
)

LIMITS = Limits(psi=Bounds(warn=0.1, fail=0.25), null_share=Bounds(warn=0.05, fail=0.2))


def counts(*numbers: float) -> np.ndarray:
    """Nulls first, then the bins."""
    return np.array(numbers, dtype=np.float64)


def test_equal_distributions_have_index_0() -> None:
    assert stability_index([250, 250, 500], [0.25, 0.25, 0.5], 1000) == 0.0


def test_the_index_of_two_halves_that_became_one_to_three() -> None:
    found = stability_index([250_000, 750_000], [0.5, 0.5], 1_000_000)

    assert found == pytest.approx(0.25 * math.log(3), rel=1e-4)


def test_it_is_the_same_from_either_side() -> None:
    there = stability_index([20, 80], [0.7, 0.3], 100)

    assert stability_index([70, 30], [0.2, 0.8], 100) == pytest.approx(there)


def test_an_empty_bin_is_large_and_finite() -> None:
    assert 1 < stability_index([0, 1000], [0.5, 0.5], 1000) < 10


def test_samples_of_one_distribution_have_the_index_that_chance_gives() -> None:
    random = np.random.default_rng(3)
    drawn = [
        stability_index(
            random.multinomial(1000, [0.1] * 10), random.multinomial(1000, [0.1] * 10) / 1000, 1000
        )
        for _ in range(200)
    ]

    assert np.mean(drawn) == pytest.approx(by_chance(10, 1000, 1000), rel=0.15)


def test_a_change_of_the_null_share_is_told_apart_from_the_values() -> None:
    found = shift({0: counts(300, 350, 350)}, {0: counts(0, 500, 500)})

    assert found.psi == pytest.approx(0, abs=1e-9)
    assert (found.null_share, found.reference_null_share) == (0.3, 0.0)
    assert found.null_change == pytest.approx(0.3)
    assert found.num_values == 700


def test_more_rows_of_one_stratum_are_no_drift() -> None:
    reference = {"young": counts(0, 90, 10), "old": counts(50, 5, 45)}
    compared = {"young": counts(0, 9, 1), "old": counts(500, 50, 450)}

    found = shift(compared, reference)

    assert found.psi == pytest.approx(0, abs=0.01)
    assert found.null_change == pytest.approx(0)


def test_what_moved_within_a_stratum_is() -> None:
    reference = {"young": counts(0, 90, 10), "old": counts(0, 10, 90)}
    compared = {"young": counts(0, 10, 90), "old": counts(0, 90, 10)}

    mixed = shift({0: sum(compared.values())}, {0: sum(reference.values())})
    within = shift({"young": compared["young"]}, reference)

    assert mixed.psi == pytest.approx(0)
    assert within.psi is not None
    assert within.psi > 1


def test_strata_that_the_reference_lacks_are_left_out() -> None:
    known, new = counts(0, 50, 50), counts(0, 0, 1000)

    found = shift({1: known, 2: new}, {1: known})

    assert found.psi == pytest.approx(0)
    assert found.num_values == 100


@pytest.mark.parametrize(
    ("compared", "reference"),
    [({}, {0: counts(0, 1)}), ({0: counts(0, 1)}, {}), ({0: counts(0, 1)}, {1: counts(0, 1)})],
)
def test_nothing_in_common_is_no_measure(compared: dict, reference: dict) -> None:
    found = shift(compared, reference)

    assert (found.psi, found.null_change, found.num_values) == (None, None, 0)


def test_a_feature_that_was_always_null_has_no_index_but_a_null_share() -> None:
    found = shift({0: counts(10, 90)}, {0: counts(100, 0)})

    assert found.psi is None
    assert found.null_change == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("psi", "nulls", "expected"),
    [
        (None, None, Verdict.NONE),
        (0.09, 0.0, Verdict.OK),
        (0.1, 0.0, Verdict.WARN),
        (0.25, 0.0, Verdict.FAIL),
        (0.0, 0.05, Verdict.WARN),
        (0.1, 0.2, Verdict.FAIL),
        (None, 0.2, Verdict.FAIL),
    ],
)
def test_the_graver_measure_decides(psi: float, nulls: float, expected: Verdict) -> None:
    assert LIMITS.verdict(psi, nulls) is expected
