"""One row per key that exists: its newest values, and when they happened and reached us."""

import pyarrow as pa
from deltalake import DeltaTable

from scale_assets.contracts import Contract
from scale_assets.ingest.news import NEWS, News
from scale_assets.ingest.states import (
    GONE,
    NEWEST_FIRST,
    UNAVAILABLE,
    UTC_TIME,
    Facts,
    names,
    states_sql,
)
from scale_assets.lake.duckdb_types import literal, quoted
from scale_assets.lake.fit import arrow_schema, fit
from scale_assets.lake.merge import merge_states

# Fields to take from the row that is there, and fields that have no value because the row is new.
CARRIED, LOST = "_carried", "_lost"
IS_GONE = "_is_gone"


def current_schema(contract: Contract) -> pa.Schema:
    """Columns of the current table. ``_unavailable`` names fields whose value was never sent."""
    times = [pa.field(name, UTC_TIME) for name in ("event_time", "received_at")]
    return pa.schema([*contract.arrow_schema, *times, UNAVAILABLE])


def current_rows_sql(contract: Contract, changes: str, facts: Facts) -> str:
    """Every row of the table, from all changes."""
    return f"""
        select {names(current_schema(contract).names)}
        from ({states_sql(contract, changes, facts)})
        qualify {_is_newest(contract)} and not {GONE}
        order by {names(contract.primary_key)}
    """


def merge_current(handle: DeltaTable, contract: Contract, news: News) -> None:
    """Bring the table to the news by one merge, from exactly the snapshot of the handle.

    Raises:
        ConcurrentCommit: Somebody committed since the handle read.
    """
    unchanged = news.facts.unchanged
    columns = current_schema(contract).names
    expressions = [*map(quoted, columns), f"{GONE} as {IS_GONE}"]
    if unchanged:
        for name, holds in ((CARRIED, "_life = 0"), (LOST, "_life > 0")):
            expressions.append(f"case when {holds} then {UNAVAILABLE.name} end as {name}")
    newest = news.connection.sql(f"""
        select {", ".join(expressions)}
        from ({states_sql(contract, f"from {NEWS}", news.facts)})
        qualify {_is_newest(contract)}
    """)
    rows = newest.to_arrow_table()
    inserts = {name: f"source.{quoted(name)}" for name in columns}
    updates = {name: inserts[name] for name in columns if name not in contract.primary_key}
    updates |= {name: _carried(name) for name in unchanged}
    if unchanged:
        inserts[UNAVAILABLE.name] = f"coalesce(source.{LOST}, source.{CARRIED})"
        updates[UNAVAILABLE.name] = _STILL_UNAVAILABLE
    merge_states(
        handle,
        _fitted(rows, handle),
        keys=contract.primary_key,
        gone=f"source.{IS_GONE}",
        updates=updates,
        inserts=inserts,
        metadata=news.shown.metadata(),
    )


_STILL_UNAVAILABLE = f"""
    case
        when source.{LOST} is not null then source.{LOST}
        when array_length(array_intersect(source.{CARRIED}, target.{UNAVAILABLE.name})) > 0
            then array_intersect(source.{CARRIED}, target.{UNAVAILABLE.name})
    end
"""


def _carried(name: str) -> str:
    column = quoted(name)
    is_carried = f"array_has(source.{CARRIED}, {literal(name)})"
    return f"case when {is_carried} then target.{column} else source.{column} end"


def _is_newest(contract: Contract) -> str:
    key = names(contract.primary_key)
    return f"row_number() over (partition by {key} order by {NEWEST_FIRST}) = 1"


def _fitted(rows: pa.Table, handle: DeltaTable) -> pa.Table:
    """The table's columns in its types, and what steers the merge as it is."""
    schema = arrow_schema(handle)
    steering = [name for name in rows.column_names if name not in schema.names]
    fitted = fit(rows.drop_columns(steering), schema)
    for name in steering:
        fitted = fitted.append_column(name, rows[name])
    return fitted
