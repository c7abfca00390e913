"""The rows that numbers are of: the newest one of each entity and date, in a DuckDB table.

Every entity counts once a date, however often its row was written. A view over a stream has no
rows: its are the entities with an event received on the date, as of the date's end, at most
``MAX_STREAM_ENTITIES`` of them (the same ones in every run), for each is computed from its events.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.lake.duckdb_types import quoted
from scale_assets.monitoring.watched import Watched

if TYPE_CHECKING:
    import duckdb

MAX_STREAM_ENTITIES = 50
FIRST_MONDAY = date(1970, 1, 5)
AT = "_at"  # the instant that a row of a stream's view is as of


@dataclass(frozen=True, kw_only=True)
class Slice:
    """Some of the rows: dates from ``start`` to before ``end``, and those that ``where`` says."""

    start: date | None = None
    end: date | None = None
    where: str | None = None  # SQL over the table's columns

    def sql(self, day: str) -> str:
        parts = [
            *([f"{day} >= date '{self.start}'"] if self.start else []),
            *([f"{day} < date '{self.end}'"] if self.end else []),
            *([f"coalesce(({self.where}), false)"] if self.where else []),
        ]
        return f"({' and '.join(parts) or 'true'})"

    def may_hold(self, days: Collection[date]) -> bool:
        """Whether some of the dates are within the bounds."""
        return any(
            (self.start is None or self.start <= day) and (self.end is None or day < self.end)
            for day in days
        )


@dataclass(frozen=True, kw_only=True)
class Alignment:
    """Rows are compared with those of about the same value: its multiples of ``width``."""

    column: str
    width: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What is compared with what: windows of dates with the reference."""

    reference: Slice
    current: Slice
    window_days: int
    alignment: Alignment | None
    min_entities: int

    def window(self, day: date) -> date:
        """The first date of the window that holds a date; those of 7 days start on Mondays."""
        return day - timedelta(days=(day - FIRST_MONDAY).days % self.window_days)

    def window_sql(self, day: str) -> str:
        since = f"({day} - date '{FIRST_MONDAY}')"
        length = self.window_days
        return f"({day} - (({since} % {length} + {length}) % {length})::integer)"


def store_population(
    connection: "duckdb.DuckDBPyConnection",
    watched: Watched,
    relation: str,
    comparison: Comparison,
    *,
    days: Collection[date] | None,
) -> None:
    """Make the table ``population``; with ``days``, of their rows and what they are compared with.

    Its columns are _entity, _day, _window, _is_reference, _is_current, _stratum, _time, _known_at,
    and c0, c1, ... for the features in their order.
    """
    time = quoted(watched.time)
    if watched.stream is not None:
        relation, time = _stream_rows(connection, watched, relation, comparison, days), AT
    time = f"{time}::timestamptz"
    known_at = time if watched.stream or not watched.known_at else quoted(watched.known_at)
    day = f"({time})::date"
    aligned = comparison.alignment
    stratum = f"floor({quoted(aligned.column)} / {aligned.width})::bigint" if aligned else "0"
    features = ", ".join(f"{f.sql(time)} as c{n}" for n, f in enumerate(watched.features))
    entity = ", ".join(quoted(name) for name in watched.entity)
    # What lacks a key or a time is used by neither training nor serving.
    is_usable = " and ".join(
        f"{each} is not null" for each in (*map(quoted, watched.entity), time, known_at)
    )
    is_wanted = _is_wanted(comparison, days, comparison.reference)
    connection.execute(
        f"create table population as select hash({entity}) as _entity, {day} as _day,"
        f" {comparison.window_sql('_day')} as _window,"
        f" {comparison.reference.sql('_day')} as _is_reference,"
        f" {comparison.current.sql('_day')} as _is_current, {stratum} as _stratum,"
        f" {time} as _time, {known_at} as _known_at, {features}"
        f" from ({relation}) where {is_usable} and {is_wanted}"
    )
    _keep_newest(connection, len(watched.features))


def _is_wanted(comparison: Comparison, days: Collection[date] | None, reference: Slice) -> str:
    """Rows of the dates, of the windows that they are in, and of the reference."""
    if days is None:
        return "true"
    windows = dates_sql({comparison.window(day) for day in days})
    return f"(_day in {dates_sql(days)} or _window in {windows} or {reference.sql('_day')})"


def dates_sql(days: Collection[date]) -> str:
    """A list of dates."""
    listed = ", ".join(f"date '{day}'" for day in sorted(days))
    return f"[{listed}]::date[]"


def _keep_newest(connection: "duckdb.DuckDBPyConnection", num_features: int) -> None:
    """One row per entity and date; equal times leave it to the values, so that it is always one."""
    (is_repeated,) = connection.execute(
        "select count(*) > count(distinct (_entity, _day)) from population"
    ).fetchall()[0]
    if is_repeated:
        values = ", ".join(["0", *(f"c{n}" for n in range(num_features))])
        connection.execute(
            "create or replace table population as select * from population qualify row_number()"
            " over (partition by _entity, _day"
            f" order by _time desc, _known_at desc, hash({values})) = 1"
        )


def _stream_rows(
    connection: "duckdb.DuckDBPyConnection",
    watched: Watched,
    events: str,
    comparison: Comparison,
    days: Collection[date] | None,
) -> str:
    """A SELECT of entities, the end of a date on which they had an event, and values as of then."""
    from scale_assets.features.streaming.recompute import values_as_of

    assert watched.stream is not None
    view = watched.stream
    keys = ", ".join(f"{key.sql('e')} as {quoted(key.name)}" for key in view.columns.keys)
    names = ", ".join(quoted(key.name) for key in view.columns.keys)
    # A slice may read features, which are not known yet: its bounds choose, the rest comes later.
    wanted = _is_wanted(comparison, days, replace(comparison.reference, where=None))
    entities = connection.sql(
        f"with seen as (select distinct {keys}, {day_end(view.columns.received_at)} as {AT}"
        f" from ({events}) e)"
        f" select {names}, {AT} from (select *, {AT}::date as _day,"
        f" {comparison.window_sql('_day')} as _window from seen)"
        f" where {wanted} qualify row_number() over (partition by {AT}"
        f" order by md5_number_lower(concat_ws('|', {names})), {names}) <= {MAX_STREAM_ENTITIES}"
    ).to_arrow_table()
    values = values_as_of(
        connection, view.aggregates, events, entities, columns=view.columns, time=AT
    ).select([feature.name for feature in watched.features])
    table = pa.table(
        {name: found[name] for found in (entities, values) for name in found.column_names}
    )
    connection.register("stream_population", table)
    return "select * from stream_population"


def day_end(time: str) -> str:
    """The first midnight (UTC) at or after a column's time."""
    column = f"{quoted(time)}::timestamptz"
    return f"(date_trunc('day', {column} - interval 1 microsecond) + interval 1 day)"
