"""A range run must leave the table that one run over all events would have made."""

import gzip
import json
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scale_assets.lake import Lake
from scale_assets.transforms.sessions import sessions
from scale_assets.transforms.tables import DateRange, Rewrite, Snapshot, TransformError
from tests.transforms.clickstream import Event, day, event, put_events, sessions_by_loop

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

MEASURES: dict[str, Any] = {
    "count": "num_events",
    "sums": {"num_clicks": "num_clicks"},
    "maxima": {"received_at": "received_at"},
}


def run(spark: "SparkSession", lake: Lake, dates: DateRange, *, gap_minutes: float = 30) -> Rewrite:
    events = Snapshot(spark=spark, lake=lake, table="raw/clicks")
    return sessions(events=events, dates=dates, keys=["user"], gap_minutes=gap_minutes, **MEASURES)


def rows_of(rewrite: Rewrite) -> list[dict[str, Any]]:
    rows = rewrite.rows.drop("session_id").toArrow().to_pylist()
    return sorted(rows, key=lambda row: (row["user"], row["session_start"]))


def test_a_late_event_joins_two_sessions_across_midnight(
    spark: "SparkSession", tmp_path: Path
) -> None:
    lake = Lake(tmp_path)
    before_and_after = [event("ada", 24 * 60 - 20), event("ada", 24 * 60 + 35)]
    put_events(lake, [*before_and_after, event("ada", 24 * 60 + 8, late_days=2)])

    rewrite = run(spark, lake, DateRange(day(1), day(1)))

    assert rewrite.dates == DateRange(day(0), day(2))
    joined = rows_of(rewrite)
    assert [row["num_events"] for row in joined] == [3]
    assert joined[0]["session_date"] == day(0)


@pytest.mark.parametrize(
    ("pause_minutes", "num_sessions"),
    [
        pytest.param(30, 1, id="a pause as long as the gap keeps a session"),
        pytest.param(30.001, 2, id="a longer one ends it"),
    ],
)
def test_the_gap_is_the_longest_pause_inside_a_session(
    spark: "SparkSession", tmp_path: Path, pause_minutes: float, num_sessions: int
) -> None:
    lake = Lake(tmp_path)
    put_events(lake, [event("ada", 600), event("ada", 600 + pause_minutes)])

    assert len(rows_of(run(spark, lake, DateRange(day(0), day(0))))) == num_sessions


def test_a_session_over_several_days_is_rewritten_from_its_start(
    spark: "SparkSession", tmp_path: Path
) -> None:
    lake = Lake(tmp_path)
    robot = [event("robot", minutes) for minutes in range(15 * 60, 6 * 24 * 60, 25)]
    put_events(lake, robot)

    rewrite = run(spark, lake, DateRange(day(4), day(4)))

    assert rewrite.dates.first == day(0)
    assert rows_of(rewrite) == sessions_by_loop(robot, gap=timedelta(minutes=30))


@st.composite
def clickstreams(draw: st.DrawFn) -> tuple[list[Event], list[Event], DateRange, float]:
    """Events there before, events that came since, the dates of the latter, and a gap."""
    gap_minutes = draw(st.sampled_from([30, 300, 1500]))
    pauses = st.lists(
        st.sampled_from([5, gap_minutes, gap_minutes + 1, 700, 2000]), min_size=1, max_size=9
    )
    early: list[Event] = []
    late: list[Event] = []
    touched = sorted(draw(st.tuples(st.integers(1, 5), st.integers(1, 5))))
    dates = DateRange(day(touched[0]), day(touched[1]))
    for user in ("ada", "bob"):
        minutes = draw(st.integers(0, 3000))
        for pause in draw(pauses):
            minutes += pause
            is_late = draw(st.booleans())
            one = event(user, minutes, late_days=3 * is_late)
            (late if is_late and one.event_time.date() in dates else early).append(one)
    return early, late, dates, gap_minutes


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(clickstreams())
def test_rewriting_touched_dates_equals_a_full_recompute(
    spark: "SparkSession",
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[list[Event], list[Event], DateRange, float],
) -> None:
    early, late, dates, gap_minutes = case
    gap = timedelta(minutes=gap_minutes)
    lake = Lake(tmp_path_factory.mktemp("lake"))
    put_events(lake, early + late)

    rewrite = run(spark, lake, dates, gap_minutes=gap_minutes)

    kept = [
        row for row in sessions_by_loop(early, gap=gap) if row["session_date"] not in rewrite.dates
    ]
    table = sorted(kept + rows_of(rewrite), key=lambda row: (row["user"], row["session_start"]))
    assert table == sessions_by_loop(early + late, gap=gap)


def test_sessions_of_a_real_day_of_edits(
    spark: "SparkSession", shared_data_dir: Path, tmp_path: Path
) -> None:
    file = shared_data_dir / "wikiticker" / "wikiticker-2015-09-12-sampled.json.gz"
    with gzip.open(file, "rt") as lines:
        edits = [json.loads(line) for line in lines]
    events = [
        Event(edit["user"], time, time + timedelta(days=1), max(edit["delta"] or 0, 0))
        for edit in edits
        for time in [datetime.fromisoformat(edit["time"])]
    ]
    lake = Lake(tmp_path)
    put_events(lake, events)
    days = {one.event_time.date() for one in events}

    rewrite = run(spark, lake, DateRange(min(days), max(days)))

    expected = sessions_by_loop(events, gap=timedelta(minutes=30))
    assert rows_of(rewrite) == expected
    assert sum(row["num_events"] for row in expected) == 39_244
    ids = Counter(rewrite.rows.select("session_id").toArrow()["session_id"].to_pylist())
    assert max(ids.values()) == 1


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        pytest.param({"gap_minutes": 0}, "gap_minutes must be greater than 0", id="no gap"),
        pytest.param({"keys": ["usr"]}, r"keys: .*no column \['usr'\]", id="unknown key"),
        pytest.param({"sums": {"n": "clicks"}}, "sums: .*clicks", id="unknown measure"),
        pytest.param({"count": "session_id"}, "share a name", id="taken name"),
    ],
)
def test_impossible_parameters_are_named(
    spark: "SparkSession", tmp_path: Path, wrong: dict[str, Any], message: str
) -> None:
    lake = Lake(tmp_path)
    put_events(lake, [event("ada", 0)])
    events = Snapshot(spark=spark, lake=lake, table="raw/clicks")

    with pytest.raises(TransformError, match=message):
        sessions(
            **{"events": events, "dates": DateRange(day(0), day(0)), "keys": ["user"], **wrong}
        )
