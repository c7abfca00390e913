"""Spark joins as DuckDB does: the same cases, read from the same Delta snapshots, equal tables."""

import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from scale_assets.features import spark_asof
from scale_assets.features.asof import AsOfView, connect, join_as_of
from scale_assets.features.spark_asof import SparkHistories, SparkJoinError
from scale_assets.lake import Lake
from scale_assets.lake.spark_rows import spark_rows
from tests.features.asof_cases import (
    ORIGINS,
    Label,
    Row,
    history_table,
    label_table,
    mismatches,
    random_case,
    view,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

EDGE_ROWS: list[Row] = [
    ("at once", 5, 5, 1, "p"),
    ("late", 1, 5, 1, "p"),
    ("late", 3, 4, 2, "q"),
    ("unknown", 5, None, 1, "p"),
    ("unknown", 5, 6, 2, "q"),
    ("unknown", 5, 5, None, "p"),
    ("tied", 5, 5, None, "q"),
    ("tied", 5, 5, 1, None),
    ("tied", 5, 5, 1, "p"),
    (None, 5, 5, 1, "p"),
]
EDGE_LABELS: list[Label] = [
    *((key, hour) for key in ("at once", "late", "unknown", "tied") for hour in (2, 4, 5, 6, 9)),
    ("at once", 5),  # again
    (None, 5),
    ("at once", None),
    ("nobody", 5),
]


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Lake:
    return Lake(tmp_path_factory.mktemp("lake"))


def both(
    lake: Lake,
    spark: "SparkSession",
    labels: pa.Table,
    views: list[AsOfView],
    *,
    hide_backfills: bool,
) -> pa.Table:
    """Spark's answer, which is DuckDB's to the last type."""
    histories = SparkHistories(spark, lambda name: spark_rows(spark, lake.open(name)))
    answers = []
    for engine in (None, histories):
        with connect() as connection:
            answers.append(
                join_as_of(
                    connection,
                    labels,
                    views,
                    time="time",
                    hide_backfills=hide_backfills,
                    with_times=True,
                    spark=engine,
                )
            )
    assert answers[0].schema == answers[1].schema
    assert answers[0].equals(answers[1])
    return answers[1]


def stored_view(lake: Lake, name: str, history: pa.Table, ttl: int | None) -> AsOfView:
    lake.overwrite(name, history)
    declared = view(name, ttl)
    return AsOfView(
        name,
        lake.duckdb_relation_sql(name),
        declared.keys,
        declared.columns,
        declared.feature_time,
        declared.known_at,
        declared.ttl,
    )


@pytest.mark.parametrize("hide_backfills", [True, False], ids=["hidden", "visible"])
def test_edges(spark: "SparkSession", lake: Lake, hide_backfills: bool) -> None:
    history, labels = EDGE_ROWS, EDGE_LABELS
    one = stored_view(lake, "one", history_table(history, ORIGINS[0]), 2)

    found = both(lake, spark, label_table(labels, ORIGINS[0]), [one], hide_backfills=hide_backfills)

    wrong = mismatches(
        found, labels, [("one", history, 2)], origin=ORIGINS[0], hide_backfills=hide_backfills
    )
    assert wrong == []


@pytest.mark.parametrize("num_labels", [600, pytest.param(10_000, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("hide_backfills", [True, False], ids=["hidden", "visible"])
def test_random_entity_rows(
    spark: "SparkSession",
    lake: Lake,
    num_labels: int,
    hide_backfills: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """0 mismatches, 0 future values, rows in = rows out; also where the days lie in many buckets."""
    monkeypatch.setattr(spark_asof, "BUCKET", timedelta(hours=5))
    history, labels = random_case(4, num_labels=num_labels)
    other, _ = random_case(5, num_labels=num_labels)
    views = [
        stored_view(lake, "one", history_table(history, ORIGINS[1]), None),
        stored_view(lake, "two", history_table(other, ORIGINS[1]), 9),
    ]

    found = both(lake, spark, label_table(labels, ORIGINS[1]), views, hide_backfills=hide_backfills)

    named = [("one", history, None), ("two", other, 9)]
    wrong = mismatches(found, labels, named, origin=ORIGINS[1], hide_backfills=hide_backfills)
    assert wrong == []


def test_a_view_without_keys(spark: "SparkSession", lake: Lake) -> None:
    lake.overwrite("all", history_table([("", 1, 1, 5, ""), ("", 3, 6, 6, "")], ORIGINS[0]))
    everybody = AsOfView(
        "all", lake.duckdb_relation_sql("all"), (), (("x", "x"),), "ft", "ka", None
    )
    labels = label_table([("a", 0), ("b", 4), (None, 9)], ORIGINS[0])

    found = both(lake, spark, labels, [everybody], hide_backfills=True)

    assert found["x"].to_pylist() == [None, 5, 6]


def test_a_session_in_another_zone_is_refused(spark: "SparkSession", lake: Lake) -> None:
    one = stored_view(lake, "one", history_table([], ORIGINS[0]), None)
    spark.conf.set("spark.sql.session.timeZone", "Europe/Berlin")
    try:
        with pytest.raises(SparkJoinError, match="Europe/Berlin"):
            both(lake, spark, label_table([("a", 1)], ORIGINS[0]), [one], hide_backfills=True)
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


def test_importing_it_loads_no_spark() -> None:
    code = "import sys, scale_assets.features.spark_asof; print('pyspark' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert said.stdout.strip() == "False"


def test_an_empty_history_gives_nulls(spark: "SparkSession", lake: Lake) -> None:
    one = stored_view(lake, "one", history_table([], ORIGINS[0]), None)

    found = both(lake, spark, label_table([("a", 5)], ORIGINS[0]), [one], hide_backfills=True)

    assert found["one_x"].to_pylist() == [None]
