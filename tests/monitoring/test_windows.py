"""Drift of windows of rows: planted changes are found, and nothing else."""

import random
from datetime import timedelta
from typing import Any

import pytest

from scale_assets.monitoring.drift import Bounds, Limits
from scale_assets.monitoring.population import Comparison, Slice
from scale_assets.monitoring.windows import drift_per_window
from tests.monitoring.rows import FIRST, WATCHED, comparison, populated, row, table

LIMITS = dict.fromkeys(
    ("n", "c", "l", "t"),
    Limits(psi=Bounds(warn=0.1, fail=0.25), null_share=Bounds(warn=0.05, fail=0.2)),
)
CATEGORIES = ("red", "green", "blue")


def population(seed: int, *, week: int, size: int = 400, **changed: Any) -> list[dict[str, Any]]:
    """A week's rows; ``changed`` gives a feature's values as functions of the usual ones."""
    source = random.Random(seed)
    rows = []
    for user in range(size):
        values: dict[str, Any] = {
            "n": round(source.gauss(50, 10)),
            "c": source.choices(CATEGORIES, [5, 3, 2])[0],
            "l": [0] * source.randrange(8),
        }
        values |= {name: change(values[name]) for name, change in changed.items()}
        rows.append(row(user, 7 * week + user % 7, **values))
    return rows


def measured(
    rows: list[dict[str, Any]], declared: Comparison | None = None, limits: Any = LIMITS
) -> dict[tuple[str, int], dict[str, Any]]:
    """By feature and number of the week."""
    declared = declared or comparison()
    found = drift_per_window(
        populated(table(rows), declared), WATCHED, declared, limits
    ).to_pylist()
    return {(each["feature"], (each["window_start"] - FIRST).days // 7): each for each in found}


def test_the_same_rows_again_have_no_drift() -> None:
    found = measured(population(1, week=0) + population(1, week=1))

    assert {key for key in found if key[1] == 1} == {(name, 1) for name in "nclt"}
    assert [found[name, 1]["psi"] for name in "ncl"] == pytest.approx([0, 0, 0])
    assert {found[name, 1]["verdict"] for name in "ncl"} == {"ok"}


def test_chance_alone_is_not_found() -> None:
    rows = population(1, week=0) + [
        r for week in range(1, 9) for r in population(week + 1, week=week)
    ]

    found = measured(rows)

    assert {key for key, each in found.items() if each["verdict"] in {"warn", "fail"}} == set()


def test_each_planted_change_is_found_in_its_window_and_feature_alone() -> None:
    swapped = {"red": "blue", "blue": "red", "green": "green"}
    rows = [
        *population(1, week=0),
        *population(2, week=1),
        *population(3, week=2, n=lambda value: value * 60),  # another unit
        *population(4, week=3, c=swapped.get),
        *population(5, week=4, l=lambda value: value if len(value) < 5 else None),
        *population(6, week=5, c=lambda value: "violet" if value == "green" else value),
        *population(7, week=6, l=lambda value: value * 3),
    ]

    found = measured(rows)

    failed = {key for key, each in found.items() if each["verdict"] == "fail"}
    assert failed == {("n", 2), ("c", 3), ("l", 4), ("c", 5), ("l", 6)}
    assert found["l", 4]["null_share"] == pytest.approx(3 / 8, abs=0.08)
    assert found["l", 4]["reference_null_share"] == 0


def test_too_few_entities_have_no_verdict() -> None:
    rows = population(1, week=0) + population(2, week=1, size=30, n=lambda value: value + 1000)

    found = measured(rows, comparison(min_entities=31))

    assert found["n", 1]["num_entities"] == 30
    assert (found["n", 1]["psi"], found["n", 1]["verdict"]) == (None, "none")
    assert measured(rows, comparison(min_entities=30))["n", 1]["verdict"] == "fail"


def test_days_of_one_entity_do_not_make_a_sample() -> None:
    rows = population(1, week=0) + [row("ada", 7 + day, n=1000.0) for day in range(7)]

    assert measured(rows)["n", 1]["verdict"] == "none"


def test_a_feature_without_limits_is_measured_and_not_judged() -> None:
    rows = population(1, week=0) + population(2, week=1, n=lambda value: value + 1000)

    got = measured(rows, limits={})["n", 1]

    assert got["psi"] > 1
    assert (got["verdict"], got["psi_warn"]) == ("none", None)


def test_conditions_choose_both_sides() -> None:
    def cohort(name: str, moved: float) -> list[dict[str, Any]]:
        rows = population(1, week=0, n=lambda value: value + moved)
        return [each | {"user_id": f"{name}-{each['user_id']}"} for each in rows]

    declared = comparison(
        reference=Slice(where="user_id like 'old-%'"), current=Slice(where="user_id like 'new-%'")
    )

    found = measured(cohort("old", 0) + cohort("new", 100) + cohort("other", 500), declared)

    assert found["n", 0]["num_entities"] == 400
    assert found["n", 0]["num_reference_entities"] == 400
    assert found["n", 0]["verdict"] == "fail"


def test_aligned_rows_are_compared_with_those_of_their_phase() -> None:
    """A value that grows with the phase drifts, unless phases are compared with themselves."""

    def phase(number: int, week: int, size: int) -> list[dict[str, Any]]:
        rows = population(number, week=week, size=size, n=lambda value: value + 100 * number)
        return [each | {"phase": number, "user_id": f"{number}-{each['user_id']}"} for each in rows]

    rows = phase(1, 0, 300) + phase(2, 0, 100) + phase(2, 1, 300) + phase(3, 1, 50)

    plain, aligned = (measured(rows, comparison(aligned=each))["n", 1] for each in (False, True))

    assert plain["verdict"] == "fail"
    assert aligned["verdict"] == "ok"
    assert aligned["num_entities"] == 300  # the reference has nobody of phase 3
    assert aligned["num_reference_entities"] == 100


def test_only_the_windows_asked_for() -> None:
    rows = [each for week in range(4) for each in population(week, week=week)]
    declared = comparison()
    connection = populated(table(rows), declared)
    wanted = {FIRST + timedelta(days=14)}

    found = drift_per_window(connection, WATCHED, declared, LIMITS, windows=wanted)

    assert set(found["window_start"].to_pylist()) == wanted
