"""Windowed features against a loop that looks at every click, and against an earlier run."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import pytest

from tests.dbt_project.conftest import EARLIER
from tests.dbt_project.tiny_lake import (
    CANCELLED_ON_DAY,
    DAY,
    LENGTH_DAYS,
    NEVER_DATED,
    STARTS,
    STUDENTS,
    clicks,
    instant,
)

Row = dict[str, Any]


def rows(connection: duckdb.DuckDBPyConnection, query: str) -> list[Row]:
    found = connection.sql(query)
    return [dict(zip(found.columns, row, strict=True)) for row in found.fetchall()]


def known_clicks(presentation: str, feature_time: datetime) -> list[Row]:
    return [
        row
        for row in clicks()
        if row["presentation_id"] == presentation
        and instant(row["event_date"]) < feature_time
        and row["received_at"] <= feature_time
    ]


def within(found: list[Row], feature_time: datetime, num_days: int) -> list[Row]:
    start = feature_time - timedelta(days=num_days)
    return [row for row in found if instant(row["event_date"]) >= start]


def expected_activity() -> Iterator[tuple[str, datetime, Row]]:
    for presentation, starts_on in STARTS.items():
        for student in STUDENTS:
            first = student * 3 - 15 if (presentation, student) != NEVER_DATED else 0
            end = CANCELLED_ON_DAY.get((presentation, student), LENGTH_DAYS + 1)
            for day in range(first, end):
                feature_time = instant(starts_on + (day + 1) * DAY)
                known = [
                    row
                    for row in known_clicks(presentation, feature_time)
                    if row["student_id"] == student
                ]
                expected: Row = {"presentation_day": day}
                for name, num_days in [("7d", 7), ("14d", 14), ("28d", 28), ("total", 999)]:
                    found = within(known, feature_time, num_days)
                    expected[f"clicks_{name}"] = sum(row["num_clicks"] for row in found)
                    expected[f"active_days_{name}"] = len({row["event_date"] for row in found})
                    expected[f"sites_{name}"] = len({row["site_id"] for row in found})
                # Sessions of the tiny lake are days.
                expected["sessions_7d"] = expected["active_days_7d"]
                last = max((row["event_date"] for row in known), default=None)
                expected["days_since_last_click"] = (
                    None if last is None else (feature_time - instant(last)).days - 1
                )
                yield f"{presentation}-{student}", feature_time, expected


def test_activity_equals_a_loop_over_all_clicks(warehouse: duckdb.DuckDBPyConnection) -> None:
    found = {
        (row["registration_id"], row["feature_time"]): row
        for row in rows(warehouse, "select * from registration_activity")
    }
    expected = {(key, at): values for key, at, values in expected_activity()}

    assert found.keys() == expected.keys()
    for key, values in expected.items():
        assert {name: found[key][name] for name in values} == values, key


def test_late_clicks_are_in_the_sample() -> None:
    assert any(row["received_at"] > instant(row["event_date"] + 8 * DAY) for row in clicks())


def test_a_late_click_of_a_known_session_is_in_the_sample() -> None:
    """It must not move the session that counted before."""
    arrivals: dict[tuple[str, int, date], set[datetime]] = {}
    for row in clicks():
        key = (row["presentation_id"], row["student_id"], row["event_date"])
        arrivals.setdefault(key, set()).add(row["received_at"])
    assert any(min(times) <= EARLIER < max(times) for times in arrivals.values())


def test_site_popularity_equals_a_loop_over_all_clicks(
    warehouse: duckdb.DuckDBPyConnection,
) -> None:
    found = rows(warehouse, "select * from site_popularity")
    assert len(found) > 300
    for row in found:
        known = known_clicks(row["presentation_id"], row["feature_time"])
        mine = [each for each in known if each["site_id"] == row["site_id"]]
        for name, num_days in [("1d", 1), ("3d", 3), ("7d", 7), ("28d", 28), ("total", 999)]:
            students = {each["student_id"] for each in within(mine, row["feature_time"], num_days)}
            assert row[f"students_{name}"] == len(students), (row, name)


@pytest.mark.parametrize(
    ("mart", "time"),
    [
        ("registration_activity", "feature_time"),
        ("registration_assessments", "feature_time"),
        ("registration_profile", "feature_time"),
        ("site_popularity", "feature_time"),
    ],
)
def test_an_earlier_run_had_the_same_rows(
    warehouse: duckdb.DuckDBPyConnection,
    earlier: duckdb.DuckDBPyConnection,
    mart: str,
    time: str,
) -> None:
    then = f"select * from {mart} where {time} <= timestamptz '{EARLIER.isoformat()}' order by all"

    before, after = rows(earlier, then), rows(warehouse, then)

    assert len(before) > 5
    assert before == after


def test_final_result_is_nowhere(warehouse: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        warehouse,
        "select table_name from information_schema.columns "
        "where table_schema = 'main' and column_name = 'final_result'",
    )
    assert found == []
