"""The same point-in-time join as ``asof``, one Spark job per view: for histories of a cluster's size.

Entity rows and history are one set, ordered by time within the entity: what an entity row gets is the
largest (feature_time, known_at, values) that was visible up to it. So that an entity with very
many rows does not end in one task, the order is kept within buckets of time, and what earlier
buckets had is added from their maxima.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.errors import ScaleError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from scale_assets.features.asof import AsOfView

BUCKET = timedelta(days=7)
"""Rows of one entity within so much time are sorted by one task."""
_MICROS = timedelta(microseconds=1)


class SparkJoinError(ScaleError):
    """A session that would read times otherwise than they are stored."""


@dataclass(frozen=True)
class SparkHistories:
    """A session whose time zone is UTC, and what it reads for each view, by the view's name."""

    spark: "SparkSession"
    history: Callable[[str], "DataFrame"]

    def matches(self, view: "AsOfView", keyed: pa.Table, *, hide_backfills: bool) -> pa.Table:
        """What each entity row gets of one view, in no order; rows that get nothing may be absent.

        Args:
            view: Names of keys, times and columns; its ``relation`` only tells their types.
            keyed: Entity rows: _row, _time in microseconds, _key0, _key1, ... none of them null.
            hide_backfills: As for ``join_as_of``.

        Returns:
            _row, _feature_time and _known_at in microseconds, and the columns by number.
        """
        from pyspark.sql import functions as sf

        _require_utc(self.spark)
        keys = [f"_key{number}" for number, _ in enumerate(view.keys)]
        last = pc.max(keyed["_time"]).as_py()
        rows = _named(self.history(view.name), view, keys, last=last, hide_backfills=hide_backfills)
        entities = self.spark.createDataFrame(keyed)
        best = _best(_only_of(rows, entities, keys), entities, keys)
        if view.ttl is not None:
            oldest = sf.col("_time") - sf.lit(min(view.ttl // _MICROS, 1 << 61))
            best = best.where(sf.col("_best._feature_time") >= oldest)
        values = (f"_{number}" for number, _ in enumerate(view.columns))
        names = ("_feature_time", "_known_at", *values)
        found: pa.Table = best.select("_row", *(f"_best.{name}" for name in names)).toArrow()
        return found


def _named(
    history: "DataFrame",
    view: "AsOfView",
    keys: list[str],
    *,
    last: int | None,
    hide_backfills: bool,
) -> "DataFrame":
    """Keys, the moment from which a row is visible, and the row as a struct that orders by time."""
    from pyspark.sql import functions as sf

    feature_time = _micros(history[view.feature_time])
    known_at = _micros(history[view.known_at]) if view.known_at else feature_time
    is_known = known_at.isNotNull()
    visible_at = sf.greatest(feature_time, known_at) if hide_backfills else feature_time
    if not hide_backfills:
        known_at = sf.coalesce(known_at, feature_time)
    values = [history[source].alias(f"_{n}") for n, (source, _) in enumerate(view.columns)]
    best = sf.struct(
        feature_time.alias("_feature_time"),
        known_at.alias("_known_at"),
        is_known.alias("_is_known"),
        *values,
    )
    bounds = (feature_time <= sf.lit(last)) & visible_at.isNotNull()
    if hide_backfills:
        bounds &= is_known
    chosen = [history[source].alias(key) for key, (_, source) in zip(keys, view.keys, strict=True)]
    return history.where(bounds).select(*chosen, visible_at.alias("_at"), best.alias("_best"))


def _only_of(rows: "DataFrame", entities: "DataFrame", keys: list[str]) -> "DataFrame":
    """History of the wanted entities: few of them are broadcast, and the rest is never shuffled."""
    return rows.join(entities.select(*keys).distinct(), keys, "left_semi") if keys else rows


def _best(rows: "DataFrame", entities: "DataFrame", keys: list[str]) -> "DataFrame":
    from pyspark.sql import Window
    from pyspark.sql import functions as sf

    absent = sf.lit(None).cast(rows.schema["_best"].dataType)
    asked = entities.select(*keys, sf.col("_time").alias("_at"), absent.alias("_best"), "_row")
    both = rows.withColumn("_row", sf.lit(None).cast("long")).unionByName(asked)
    bucket = sf.floor(sf.col("_at") / sf.lit(BUCKET // _MICROS))
    both = both.withColumn("_bucket", bucket)
    # A window's default frame takes in the rows of the same moment, whichever comes first.
    within = sf.max("_best").over(Window.partitionBy(*keys, "_bucket").orderBy("_at"))
    earlier = (
        Window.partitionBy(*keys).orderBy("_bucket").rowsBetween(Window.unboundedPreceding, -1)
    )
    totals = both.groupBy(*keys, "_bucket").agg(sf.max("_best").alias("_total"))
    before = totals.withColumn("_before", sf.max("_total").over(earlier)).drop("_total")
    found = both.withColumn("_within", within).where(sf.col("_row").isNotNull())
    joined = found.join(before, [*keys, "_bucket"])
    best = sf.greatest(sf.col("_within"), sf.col("_before"))  # ignores null
    return joined.select("_row", sf.col("_at").alias("_time"), best.alias("_best"))


def _micros(column: "Column") -> "Column":
    from pyspark.sql import functions as sf

    return sf.unix_micros(column.cast("timestamp"))


def _require_utc(spark: "SparkSession") -> None:
    zone = spark.conf.get("spark.sql.session.timeZone")
    if zone != "UTC":
        raise SparkJoinError(
            f"spark.sql.session.timeZone is {zone!r}; point-in-time joins need 'UTC', so that naive "
            "times are read as they were written"
        )
