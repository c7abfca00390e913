"""The same aggregates from the events themselves, as of any instant: what the states must equal."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.features.reader import quoted
from scale_assets.features.streaming.aggregates import (
    COUNT,
    Aggregate,
    AggregateError,
    Aggregates,
    Last,
    Windowed,
)
from scale_assets.features.streaming.declared import EventColumns

if TYPE_CHECKING:
    import duckdb

KNOWN = "max(s._received) is not null"


def values_as_of(
    connection: "duckdb.DuckDBPyConnection",
    aggregates: Aggregates,
    events: str,
    entities: pa.Table,
    *,
    columns: EventColumns,
    time: str,
) -> pa.Table:
    """Each entity row once, in order, with every feature as of its ``time``.

    Only events received by then count. ``feature_time`` and ``known_at`` tell of the last ones. An
    entity without any has no features, as it has none online: all are null, counts too.

    Args:
        connection: A private one in UTC, as ``asof.connect`` makes.
        aggregates: The view's features.
        events: A SELECT of the stream's table.
        entities: Join keys and a time; naive times are UTC.
        columns: The stream's columns.
        time: The entity rows' column.

    Raises:
        AggregateError: The entity rows lack a join key or the time.
    """
    for name in (time, *(key.name for key in columns.keys)):
        if name not in entities.column_names:
            raise AggregateError(f"entity rows lack column {name!r}; have {entities.column_names}")
    connection.register("stream_entities", entities)
    same_entity = " and ".join(
        f"e.{quoted(key.name)}::varchar = s._key{at}" for at, key in enumerate(columns.keys)
    )
    aggregated = ", ".join(
        f"{_value(feature)} as {quoted(feature.name)}" for feature in aggregates.features
    )
    kept = ", ".join(
        [
            *(f"{key.sql('events')} as _key{at}" for at, key in enumerate(columns.keys)),
            *(quoted(name) for name in aggregates.columns),
        ]
    )
    event_time, received_at = (
        f"epoch_us({quoted(name)}::timestamptz)"
        for name in (columns.event_time, columns.received_at)
    )
    return connection.sql(
        f"""
        with numbered as (
            select row_number() over () as _row, epoch_us({quoted(time)}::timestamptz) as _now, *
            from stream_entities
        ),
        stream as (
            select {kept}, {received_at} as _received, least({event_time}, _received) as _happened
            from ({events}) as events
            where {event_time} is not null and {received_at} is not null
        )
        select {aggregated}, make_timestamptz(max(s._happened)) as feature_time,
            make_timestamptz(max(s._received)) as known_at
        from numbered e left join stream s on {same_entity} and s._received <= e._now
        group by e._row, e._now order by e._row
        """
    ).to_arrow_table()


def _value(feature: Aggregate) -> str:
    match feature:
        case Windowed():
            oldest = tile_of(f"e._now - {_micros(feature.window)}", feature.tile)
            amount = "1" if feature.measure == COUNT else f"s.{quoted(feature.measure)}"
            inside = f"{tile_of('s._happened', feature.tile)} >= {oldest}"
            return (
                f"case when {KNOWN} then coalesce(sum({amount}) filter ({inside}), 0)::bigint end"
            )
        case Last():
            value = f"s.{quoted(feature.column)}"
            values = (
                f"list({value}::bigint order by s._happened, {value}) filter ({value} is not null)"
            )
            return (
                f"case when {KNOWN} then coalesce(list_slice({values},"
                f" greatest(len({values}) - {feature.limit - 1}, 1), len({values})), []) end"
            )
    return "(e._now - max(s._happened)) // 1000000"


def tile_of(micros: str, tile: timedelta) -> str:
    """SQL for the number of the tile that holds an instant; rounds down before 1970 too."""
    length = _micros(tile)
    return f"((({micros}) - ((({micros}) % {length}) + {length}) % {length}) // {length})"


def _micros(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)
