"""A run replaces whole partitions in one commit, or publishes nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from scale_assets.lake import Lake
from scale_assets.transforms.interactions import interaction_counts
from scale_assets.transforms.materialize import GrainBroken, Published, materialize
from scale_assets.transforms.tables import DateRange, Snapshot, TransformError
from tests.transforms.clickstream import day, event, put_events

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

KEYS = ["user", "event_date", "received_at"]


def count(spark: "SparkSession", lake: Lake, dates: DateRange, **changed: Any) -> Published:
    settings: dict[str, Any] = {
        "table": "counts",
        "inputs": {"events": "raw/clicks"},
        "params": {"keys": KEYS, "count": "num_events", "sums": {"num_clicks": "num_clicks"}},
        "partition_by": "event_date",
        "key": KEYS,
    }
    return materialize(
        interaction_counts, spark=spark, lake=lake, dates=dates, **{**settings, **changed}
    )


def counts_in(lake: Lake) -> list[tuple[str, int, int]]:
    rows = lake.read("counts").sort_by([("event_date", "ascending"), ("received_at", "ascending")])
    return [(row["user"], row["num_events"], row["num_clicks"]) for row in rows.to_pylist()]


def test_late_events_make_rows_of_their_own(spark: "SparkSession", tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    early = [event("ada", 10, num_clicks=2), event("ada", 20, num_clicks=3)]
    put_events(lake, early)
    count(spark, lake, DateRange(day(0), day(0)))
    put_events(lake, [*early, event("ada", 15, late_days=3, num_clicks=7)])

    published = count(spark, lake, DateRange(day(0), day(0)))

    assert counts_in(lake) == [("ada", 2, 5), ("ada", 1, 7)]
    assert published.rows_per_date == {day(0): 2}
    assert lake.schema("counts").field("received_at").type == pa.timestamp("us", tz="UTC")


def test_other_dates_stay_and_a_date_without_events_is_emptied(
    spark: "SparkSession", tmp_path: Path
) -> None:
    lake = Lake(tmp_path)
    put_events(lake, [event("ada", 10), event("bob", 24 * 60 + 10)])
    first = count(spark, lake, DateRange(day(0), day(2)))
    put_events(lake, [event("eve", 2 * 24 * 60)])  # the events of the first two days are gone

    second = count(spark, lake, DateRange(day(1), day(1)))

    assert counts_in(lake) == [("ada", 1, 1)]
    assert second.rows_per_date == {}
    assert second.version == first.version + 1


def test_a_first_run_without_events_makes_an_empty_table(
    spark: "SparkSession", tmp_path: Path
) -> None:
    lake = Lake(tmp_path)
    put_events(lake, [event("ada", 10)])

    count(spark, lake, DateRange(day(5), day(6)))

    assert lake.read("counts").num_rows == 0
    assert lake.schema("counts").names == [*KEYS, "num_clicks", "num_events"]


def test_a_repeated_key_publishes_nothing(spark: "SparkSession", tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    put_events(lake, [event("ada", 10), event("bob", 10)])

    with pytest.raises(GrainBroken, match="2015-09-10"):
        count(spark, lake, DateRange(day(0), day(0)), key=["event_date"])

    assert not lake.exists("counts")
    assert not list(tmp_path.rglob("_staging/*"))


def test_each_date_is_one_file(spark: "SparkSession", tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    put_events(lake, [event(user, 24 * 60 * n) for user in "abcdef" for n in range(5)])

    count(spark, lake, DateRange(day(0), day(4)))

    assert len(lake.files("counts")) == 5


def test_partition_values_keep_their_text(spark: "SparkSession", tmp_path: Path) -> None:
    """A "01" is a text, odd characters are escaped in folders, and null is not a text."""
    lake = Lake(tmp_path)
    values = ["01", "a b", "c/d", "é%", "x=y", None]
    table = pa.table({"code": pa.array(values, pa.string()), "n": list(range(len(values)))})
    lake.overwrite("odd", table, partition_by=["code"])

    rows = Snapshot(spark=spark, lake=lake, table="odd").read().toArrow().to_pylist()

    assert {row["n"]: row["code"] for row in rows} == dict(enumerate(values))


def test_reading_dates_of_a_table_without_date_partitions_is_refused(
    spark: "SparkSession", tmp_path: Path
) -> None:
    lake = Lake(tmp_path)
    lake.overwrite("sites", pa.table({"site_id": [1]}))

    with pytest.raises(TransformError, match="partition column of type date"):
        Snapshot(spark=spark, lake=lake, table="sites").read(DateRange(day(0), day(1)))


def test_a_function_that_drops_the_partition_column_is_named(
    spark: "SparkSession", tmp_path: Path
) -> None:
    def users(*, events: Snapshot, dates: DateRange) -> "DataFrame":
        return events.read(dates).select("user")

    lake = Lake(tmp_path)
    put_events(lake, [event("ada", 10)])

    with pytest.raises(TransformError, match=r"partition_by \(event_date\)"):
        materialize(
            users,
            spark=spark,
            lake=lake,
            table="users",
            inputs={"events": "raw/clicks"},
            params={},
            dates=DateRange(day(0), day(0)),
            partition_by="event_date",
            key=["user"],
        )


def test_days_must_be_in_order() -> None:
    with pytest.raises(TransformError, match="must not be after"):
        DateRange(day(2), day(1))
