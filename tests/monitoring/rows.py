"""Rows of a watched table, and what is computed of them in a DuckDB of its own."""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

import duckdb
import pyarrow as pa

from scale_assets.features.asof import connect
from scale_assets.monitoring.population import Alignment, Comparison, Slice, store_population
from scale_assets.monitoring.watched import Feature, Kind, Watched

FIRST = date(2014, 1, 6)  # a Monday
TIME = pa.timestamp("us", tz="UTC")
KINDS = {
    "n": (pa.float64(), Kind.NUMBER),
    "c": (pa.string(), Kind.CATEGORY),
    "l": (pa.list_(pa.int64()), Kind.LENGTH),
    "t": (TIME, Kind.AGE),
}
SCHEMA = pa.schema(
    [("user_id", pa.string()), ("at", TIME), ("known_at", TIME), ("phase", pa.int64())]
    + [(name, type_) for name, (type_, _) in KINDS.items()]
)
WATCHED = Watched(
    name="visits",
    table="visits",
    entity=("user_id",),
    time="at",
    known_at="known_at",
    features=tuple(Feature(name=name, kind=kind) for name, (_, kind) in KINDS.items()),
)


def at(day: int, hour: int = 0) -> datetime:
    return datetime.combine(FIRST + timedelta(days=day), time(hour), UTC)


def row(user: object, day: int, *, hour: int = 0, **values: Any) -> dict[str, Any]:
    moment = at(day, hour)
    return {
        "user_id": str(user),
        "at": moment,
        "known_at": values.pop("known_at", moment),
        "phase": values.pop("phase", 0),
        **dict.fromkeys(KINDS),
        **values,
    }


def table(rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist([dict(each) for each in rows], SCHEMA)


def comparison(
    *,
    reference: Slice | None = None,
    current: Slice | None = None,
    aligned: bool = False,
    min_entities: int = 10,
) -> Comparison:
    """By default the first week beside the later ones."""
    boundary = FIRST + timedelta(days=7)
    return Comparison(
        reference=reference or Slice(end=boundary),
        current=current or Slice(start=boundary),
        window_days=7,
        alignment=Alignment(column="phase", width=1) if aligned else None,
        min_entities=min_entities,
    )


def populated(
    rows: pa.Table, declared: Comparison | None = None, *, days: Collection[date] | None = None
) -> duckdb.DuckDBPyConnection:
    """A connection whose table ``population`` is of these rows."""
    connection = connect()
    connection.register("given", rows)
    store_population(
        connection, WATCHED, "select * from given", declared or comparison(), days=days
    )
    return connection
