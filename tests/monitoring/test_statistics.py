"""Statistics equal a naive computation, and none of them is one person's own value."""

import math
import random
from collections import Counter
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scale_assets.monitoring.statistics import MAX_CATEGORIES, MIN_GROUP, QUANTILES, statistics
from tests.monitoring.rows import FIRST, WATCHED, at, populated, row, table

ENOUGH = 2 * MIN_GROUP


def found(rows: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, Any]]:
    """By feature and number of the day."""
    computed = statistics(populated(table(rows)), WATCHED).to_pylist()
    return {(each["feature"], (each["feature_date"] - FIRST).days): each for each in computed}


numbers = st.one_of(
    st.none(), st.sampled_from([0.0, 1.0, math.nan, math.inf]), st.floats(-1e6, 1e6, width=32)
)
days = st.lists(st.lists(numbers, max_size=60), min_size=1, max_size=4)


@settings(deadline=None, max_examples=60)
@given(days)
def test_numbers_equal_numpy(values_of: list[list[float | None]]) -> None:
    rows = [
        row(user, day, n=value)
        for day, values in enumerate(values_of)
        for user, value in enumerate(values)
    ]

    computed = found(rows)

    assert {day for _, day in computed} == {day for day, values in enumerate(values_of) if values}
    for day, values in enumerate(values_of):
        if values:
            equals_naive(computed["n", day], values)


def equals_naive(got: dict[str, Any], values: list[float | None]) -> None:
    known = sorted(v for v in values if v is not None and math.isfinite(v))
    assert got["num_rows"] == len(values)
    assert got["num_nulls"] == len(values) - len(known)
    assert got["num_distinct"] == len(set(known))
    if len(known) < ENOUGH:
        assert [got[name] for name in ("mean", "std", "min", "max", *QUANTILES)] == [None] * 11
        return
    least, most = known[MIN_GROUP - 1], known[-MIN_GROUP]
    assert (got["min"], got["max"]) == (least, most)
    assert got["mean"] == pytest.approx(np.mean(known), rel=1e-9, abs=1e-6)
    assert got["std"] == pytest.approx(np.std(known, ddof=1), rel=1e-6, abs=1e-3)
    for name, fraction in QUANTILES.items():
        exact = min(max(np.quantile(known, fraction), least), most)
        assert got[name] == pytest.approx(exact, rel=1e-9, abs=1e-9)


categories = st.lists(st.sampled_from(["a", "b", "c", "", "it's", None]), min_size=1, max_size=80)


@settings(deadline=None, max_examples=40)
@given(categories)
def test_categories_equal_a_count(values: list[str | None]) -> None:
    got = found([row(user, 0, c=value) for user, value in enumerate(values)])["c", 0]

    counts = Counter(value for value in values if value is not None)
    shown = sorted(
        ((value, n) for value, n in counts.items() if n >= MIN_GROUP),
        key=lambda each: (-each[1], each[0]),
    )
    assert got["num_rows"] == len(values)
    assert got["num_nulls"] == values.count(None)
    assert got["num_distinct"] == len(counts)
    assert got["categories"] == [value for value, _ in shown]
    assert got["category_rows"] == [n for _, n in shown]
    assert got["mean"] is None


def test_only_the_most_frequent_categories_are_named() -> None:
    rows = [
        row(f"{category}-{n}", 0, c=f"{category:02}")
        for category in range(MAX_CATEGORIES + 5)
        for n in range(MIN_GROUP)
    ]

    got = found(rows)["c", 0]

    assert got["categories"] == [f"{category:02}" for category in range(MAX_CATEGORIES)]
    assert got["num_distinct"] == MAX_CATEGORIES + 5


def test_of_lists_the_length_and_of_times_the_age_is_measured() -> None:
    rows = [
        row(user, 2, l=[1] * user, t=at(2) - timedelta(hours=12 * user))
        for user in range(2 * ENOUGH)
    ]

    computed = found(rows)

    assert computed["l", 2]["p50"] == ENOUGH - 0.5
    assert computed["t", 2]["p50"] == (ENOUGH - 0.5) / 2
    assert computed["t", 2]["kind"] == "age"


def test_nothing_that_one_person_alone_has_is_kept() -> None:
    rows = [row(user, 0, n=1.0, c="common") for user in range(ENOUGH)]
    rows.append(row("ada", 0, n=987654.0, c="ada's own"))

    computed = found(rows)

    number = computed["n", 0]
    assert (number["min"], number["p99"], number["max"]) == (1.0, 1.0, 1.0)
    assert computed["c", 0]["categories"] == ["common"]


def test_an_entity_counts_once_a_date_with_its_newest_row() -> None:
    rows = [row(user, 0, hour=9, n=5.0) for user in range(ENOUGH)]
    rows += [row(0, 0, hour=hour, n=100.0) for hour in range(9)]

    got = found(rows)["n", 0]

    assert got["num_rows"] == ENOUGH
    assert (got["mean"], got["num_distinct"]) == (5.0, 1)


def test_of_two_rows_of_an_instant_the_one_known_later_counts() -> None:
    late = [row(user, 0, n=2.0, known_at=at(3)) for user in range(ENOUGH)]
    early = [row(user, 0, n=1.0) for user in range(ENOUGH)]

    assert found(late + early)["n", 0]["mean"] == 2.0


def test_rows_that_neither_side_uses_do_not_count() -> None:
    unusable = [row(1, 0, known_at=None), row(2, 0) | {"at": None}, row(3, 0) | {"user_id": None}]

    got = found([row(0, 0, n=1.0), *unusable])

    assert {key[1]: each["num_rows"] for key, each in got.items()} == {0: 1}


def test_sums_do_not_depend_on_the_order_of_the_rows() -> None:
    source = random.Random(1)
    rows = [row(user, 0, n=source.gauss(1e6, 1e5) / 3) for user in range(5000)]
    shuffled = random.Random(2).sample(rows, len(rows))

    assert found(rows) == found(shuffled)


def test_only_the_dates_asked_for() -> None:
    rows = [row(user, day, n=1.0) for user in range(3) for day in range(3)]
    wanted = {FIRST + timedelta(days=1)}

    got = statistics(populated(table(rows)), WATCHED, days=wanted)

    assert set(got["feature_date"].to_pylist()) == wanted
