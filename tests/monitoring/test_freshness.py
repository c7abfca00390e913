"""Ages of the newest value: as they were, by what was known then."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from scale_assets.features.asof import connect
from scale_assets.lake import Lake
from scale_assets.monitoring.freshness import Age, ages, keep_ages
from tests.monitoring.rows import WATCHED, at, row, table


def found(rows: list[dict], clock: datetime) -> list[Age]:
    with connect() as connection:
        connection.register("given", table(rows))
        return ages(connection, WATCHED, "select * from given", clock)


def test_a_gap_ages_and_the_next_value_ends_it() -> None:
    rows = [row("ada", 0), row("ada", 1), row("ada", 4)]

    got = found(rows, at(5, 12))

    assert [age.hours for age in got] == [0, 0, 24, 48, 0, 24, 36]
    assert got[-1].at == at(5, 12)


def test_a_value_counts_from_when_it_was_known() -> None:
    rows = [row("ada", 0), row("ada", 1, known_at=at(3))]

    assert [age.hours for age in found(rows, at(3))] == [0, 24, 48, 48]


def test_what_the_clock_has_not_reached_is_not_there() -> None:
    rows = [row("ada", 0), row("ada", 1), row("ada", 9)]

    assert found(rows, at(2))[-1] == Age(at=at(2), newest=at(1))


def test_latest_rows_alone_tell_of_the_present_only() -> None:
    rows = [row("ada", 3), row("bob", 1)]

    assert found(rows, at(4)) == [Age(at=at(4), newest=at(3))]


def test_an_empty_table_has_no_age() -> None:
    assert found([], at(4)) == []


@pytest.mark.parametrize(
    ("is_history", "expected"), [(True, [24.0, 0.0]), (False, [7.0, 24.0, 0.0])]
)
def test_only_what_a_table_can_no_longer_tell_is_kept(
    tmp_path: Path, is_history: bool, expected: list[float]
) -> None:
    lake = Lake(tmp_path)
    keep_ages(lake, "ages", "v", [Age(at=at(1, 7), newest=at(1))], max_age=None)
    keep_ages(lake, "ages", "v", [Age(at=at(2), newest=at(1))], max_age=None)
    last = [Age(at=at(3), newest=at(3))]
    again = [Age(at=at(2), newest=at(1)), *last] if is_history else last

    keep_ages(lake, "ages", "v", again, max_age=timedelta(days=1))
    keep_ages(lake, "ages", "v", again, max_age=timedelta(days=1))  # repeated, as by a retry

    rows = lake.read("ages").to_pylist()
    assert [each["age_hours"] for each in rows] == expected
    assert rows[-1]["max_age_hours"] == 24
