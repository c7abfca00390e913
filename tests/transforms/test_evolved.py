"""Spark reads a table whose contract went on: columns added, a type rewritten."""

from typing import TYPE_CHECKING

from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import Lake
from scale_assets.transforms.tables import Snapshot
from tests.ingest.conftest import event, feed, lake
from tests.ingest.test_evolution import COLOR, contract, deliver

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["feed", "lake"]  # fixtures


def test_spark_reads_old_and_new_rows(spark: "SparkSession", lake: Lake, feed: EventFeed) -> None:
    deliver(feed, "a.jsonl", event(1))
    ingest(lake, feed)
    feed.contract_path.write_text(contract("1.1.0", COLOR))
    deliver(feed, "b.jsonl", event(2, color="red"))
    ingest(lake, feed)

    def read() -> list[tuple[object, ...]]:
        found = Snapshot(spark=spark, lake=lake, table=feed.table).read()
        columns = ("event_id", "num_clicks", "color")
        return sorted(tuple(row) for row in found.select(*columns).collect())

    assert read() == [("e1", 1, None), ("e2", 1, "red")]
    feed.contract_path.write_text(contract("2.0.0", COLOR, clicks="number"))
    deliver(feed, "c.jsonl", event(3, num_clicks=1.5))
    ingest(lake, feed)

    assert read() == [("e1", 1.0, None), ("e2", 1.0, "red"), ("e3", 1.5, None)]
