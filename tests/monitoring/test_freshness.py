"""Ages of the newest value: as they were, by what was known then."""

from datetime import datetime, timedelta
from pathlib import Path

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


def test_a_row_that_lacks_its_known_at_makes_nothing_fresh() -> None:
    rows = [row("ada", 0), row("ada", 1), row("ada", 2, known_at=None)]

    assert found(rows, at(2))[-1].newest == at(1)


def test_what_the_clock_has_not_reached_is_not_there() -> None:
    rows = [row("ada", 0), row("ada", 1), row("ada", 9)]

    assert found(rows, at(2))[-1] == Age(at=at(2), newest=at(1))


def test_latest_rows_alone_tell_of_the_present_only() -> None:
    rows = [row("ada", 3), row("bob", 1)]

    assert found(rows, at(4)) == [Age(at=at(4), newest=at(3))]


def test_an_empty_table_has_no_age() -> None:
    assert found([], at(4)) == []


def test_the_table_does_not_tell_how_often_it_was_brought_up_to_date(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    last = [Age(at=at(3), newest=at(2, 12))]
    keep_ages(lake, "ages", "other", last, max_age=None)
    for earlier in (1, 2):
        keep_ages(lake, "ages", "v", [Age(at=at(earlier), newest=at(0))], max_age=None)

    keep_ages(lake, "ages", "v", last, max_age=timedelta(days=1))

    rows = lake.read("ages", filters=[("view", "=", "v")]).to_pylist()
    assert [(each["age_hours"], each["max_age_hours"]) for each in rows] == [(12.0, 24.0)]
    assert lake.num_rows("ages") == 2
