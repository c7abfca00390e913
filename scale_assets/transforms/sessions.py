"""Sessions: runs of one visitor's events with no pause longer than the inactivity gap.

A session belongs to the date it starts on. An event that arrives late can lengthen a session that
started days before, or join two, so the dates to rewrite reach as far as a session can.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from scale_assets.transforms.measures import Measures
from scale_assets.transforms.tables import (
    DateRange,
    Lineage,
    Rewrite,
    Snapshot,
    TransformError,
    declares_lineage,
)

if TYPE_CHECKING:
    from datetime import date

    from pyspark.sql import DataFrame

DAY = timedelta(days=1)
NO_MEASURES = Measures()


def _lineage(*, keys: Sequence[str], event_time: str = "event_time", **others: Any) -> Lineage:
    measures = {name: value for name, value in others.items() if name != "gap_minutes"}
    identity = [("events", column) for column in (*keys, event_time)]
    times = {
        name: [("events", event_time)] for name in ("session_start", "session_end", "session_date")
    }
    named = {key: [("events", key)] for key in keys}
    measured = Measures(**measures).lineage("events")
    return {"session_id": identity, **named, **times, **measured}


@declares_lineage(_lineage)
def sessions(
    *,
    events: Snapshot,
    dates: DateRange,
    keys: Sequence[str],
    event_time: str = "event_time",
    gap_minutes: float = 30,
    count: str | None = None,
    sums: Mapping[str, str] | None = None,
    distinct: Mapping[str, str] | None = None,
    minima: Mapping[str, str] | None = None,
    maxima: Mapping[str, str] | None = None,
) -> Rewrite:
    """One row per session: session_id, keys, session_start, session_end, session_date, measures.

    Two events of one visitor share a session if no pause between them exceeds ``gap_minutes``.
    The result replaces ``dates`` and every neighbouring date whose sessions events of ``dates``
    can have changed; it equals what a run over all events would put there.

    Args:
        events: Partitioned by the UTC date of ``event_time``.
        dates: Dates whose events are new or changed.
        keys: Columns that identify a visitor; null is a visitor of its own.
        event_time: Timestamp column.
        gap_minutes: The longest pause inside a session.
        count: Name of the column that counts events.
        sums: Output column to the input column that it adds up.
        distinct: Output column to the input column whose different values it counts.
        minima: Output column to the input column whose smallest value it holds.
        maxima: Output column to the input column whose largest value it holds.
    """
    if gap_minutes <= 0:
        raise TransformError(f"gap_minutes must be greater than 0, got {gap_minutes}")
    measures = Measures(
        count=count,
        sums=sums or {},
        distinct=distinct or {},
        minima=minima or {},
        maxima=maxima or {},
    )
    events.require({"keys": list(keys), "event_time": [event_time]})
    made_here = ["session_id", "session_start", "session_end", "session_date"]
    measures.check(events, taken=[*keys, *made_here])
    visits = _Visits(
        events=events, keys=list(keys), event_time=event_time, gap=timedelta(minutes=gap_minutes)
    )
    rewritten = DateRange(visits.first_reached(dates.first), dates.last + visits.reach)
    read = DateRange(rewritten.first - visits.reach, visits.last_needed(rewritten.last))
    rows = visits.summarize(read, measures)
    starts_there = rows["session_date"].between(rewritten.first, rewritten.last)
    return Rewrite(rows=rows.where(starts_there), dates=rewritten)


@dataclass(frozen=True, kw_only=True)
class _Visits:
    """The events of one snapshot, cut into sessions over any range of dates."""

    events: Snapshot
    keys: list[str]
    event_time: str
    gap: timedelta

    @property
    def reach(self) -> timedelta:
        """Whole days within which an event has its neighbours in the same session."""
        return DAY * math.ceil(self.gap / DAY)

    def first_reached(self, first: "date") -> "date":
        """Earliest start among the sessions that an event on ``first`` or later could continue.

        Looks back twice as far until no such session may have begun before the days looked at.
        """
        from pyspark.sql import functions as sf

        look_back = self.reach
        while True:
            window = DateRange(first - look_back, first - DAY)
            if not self.events.files(window):
                return first
            open_ones = self.summarize(window).where(
                sf.col("session_end") >= sf.lit(_midnight(first) - self.gap)
            )
            earliest = _as_datetime(open_ones, sf.min("session_start"))
            if earliest is None:
                return first
            if earliest > _midnight(window.first) + self.gap:
                return earliest.date()
            before = DateRange(window.first - self.reach, window.first - DAY)
            if not self.events.files(before):
                return earliest.date()
            look_back *= 2

    def last_needed(self, last: "date") -> "date":
        """The date up to which events may belong to sessions that start on ``last`` or before."""
        from pyspark.sql import functions as sf

        look_ahead = self.reach
        while True:
            window = DateRange(last, last + look_ahead)
            after = DateRange(last + DAY, window.last)
            further = DateRange(window.last + DAY, window.last + self.reach)
            if not self.events.files(after) or not self.events.files(further):
                return window.last
            begun = self.summarize(window).where(sf.col("session_start") < _midnight(last + DAY))
            latest = _as_datetime(begun, sf.max("session_end"))
            if latest is None or latest < _midnight(window.last + DAY) - self.gap:
                return window.last
            look_ahead *= 2

    def summarize(self, dates: DateRange, measures: Measures = NO_MEASURES) -> "DataFrame":
        """One row per session among the events of ``dates`` alone."""
        from pyspark.sql import Window
        from pyspark.sql import functions as sf

        in_order = Window.partitionBy(*self.keys).orderBy(self.event_time)
        so_far = in_order.rowsBetween(Window.unboundedPreceding, Window.currentRow)
        micros = sf.unix_micros(self.event_time)
        pause = micros - sf.lag(micros).over(in_order)
        starts = sf.coalesce(pause > sf.lit(self.gap // timedelta(microseconds=1)), sf.lit(True))
        needed = {*self.keys, self.event_time, *measures.sources().values()}
        start = sf.min(self.event_time)
        return (
            self.events.read(dates)
            .select(*sorted(needed))
            .withColumn("_starts", starts.cast("int"))
            .withColumn("_session", sf.sum("_starts").over(so_far))
            .groupBy(*self.keys, "_session")
            .agg(
                start.alias("session_start"),
                sf.max(self.event_time).alias("session_end"),
                *measures.columns(),
            )
            .select(
                self._session_id().alias("session_id"),
                *self.keys,
                "session_start",
                "session_end",
                sf.to_date("session_start").alias("session_date"),
                *measures.names(),
            )
        )

    def _session_id(self) -> Any:
        from pyspark.sql import functions as sf

        known = [sf.coalesce(sf.col(key).cast("string"), sf.lit("")) for key in self.keys]
        started = sf.date_format("session_start", "yyyyMMdd'T'HHmmss.SSSSSS")
        return sf.concat_ws("-", *known, started)


def _midnight(day: "date") -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)


def _as_datetime(rows: "DataFrame", column: Any) -> datetime | None:
    """One aggregate as UTC, whatever this process's own time zone is."""
    from pyspark.sql import functions as sf

    micros = rows.agg(sf.unix_micros(column).alias("micros")).first()["micros"]
    return (
        None
        if micros is None
        else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)
    )
