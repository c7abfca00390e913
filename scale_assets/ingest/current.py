"""One row per key that exists: its newest values, and when they happened and reached us."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.contracts import Contract
from scale_assets.ingest.columns import UNAVAILABLE, current_schema
from scale_assets.ingest.news import NEWS, News
from scale_assets.ingest.states import GONE, NEWEST_FIRST, Facts, names, states_sql
from scale_assets.lake.commits import Filter, Part, halves, replace_partitions
from scale_assets.lake.duckdb_types import literal, quoted
from scale_assets.lake.files import local_files
from scale_assets.lake.fit import arrow_schema, fit
from scale_assets.lake.history import num_bytes
from scale_assets.lake.merge import merge_states
from scale_assets.lake.snapshots import files_table

IS_GONE = "_is_gone"
# Fields to take from the row that is there, and fields without a value because the row is new.
CARRIED, LOST = "_carried", "_lost"
# Up to so many bytes of Parquet a table is read into memory and written anew. Changes of random keys
# make MERGE rewrite all of it too, after a join over all columns instead of one over the key.
REWRITTEN_BYTES = 128 << 20


def current_rows_sql(contract: Contract, changes: str, facts: Facts) -> str:
    """Every row of the table, from all changes."""
    return f"""
        select {names(current_schema(contract).names)}
        from ({states_sql(contract, changes, facts)})
        qualify {_is_newest(contract)} and not {GONE}
        order by {names(contract.primary_key)}
    """


def bring_current(handle: DeltaTable, contract: Contract, news: News) -> None:
    """Bring the table to the news in one commit, from exactly the snapshot of the handle.

    Raises:
        ConcurrentCommit: Somebody committed since the handle read.
    """
    if news.facts.unchanged or num_bytes(handle) > REWRITTEN_BYTES:
        _merge(handle, contract, news)
    else:
        _rewrite(handle, contract, news)


def _rewrite(handle: DeltaTable, contract: Contract, news: News) -> None:
    """The rows that stay, and the newest change of each key; where no row goes, these are added."""
    schema = arrow_schema(handle)
    newest = _newest_changes(contract, news)
    new = newest.filter(pc.invert(newest[IS_GONE])).drop_columns([IS_GONE])
    there = files_table(local_files(handle), schema)
    is_replaced = news.concern(there, contract.primary_key)
    parts = [Part(fit(new, schema), is_lasting=False)] if len(new) else []
    if pc.any(is_replaced).as_py():
        kept = halves(there.filter(pc.invert(is_replaced)))
        parts = [*(Part(half, is_lasting=False) for half in kept), *parts]
        replaced: list[Filter] | None = []  # all
    elif parts:
        replaced = None
    else:
        return
    replace_partitions(handle, parts, replace=replaced, metadata=news.shown.metadata())


def _merge(handle: DeltaTable, contract: Contract, news: News) -> None:
    columns = current_schema(contract).names
    inserts = {name: f"source.{quoted(name)}" for name in columns}
    updates = {name: inserts[name] for name in columns if name not in contract.primary_key}
    if news.facts.unchanged:
        rows = _newest_states(contract, news)
        updates |= {name: _carried(name) for name in news.facts.unchanged}
        inserts[UNAVAILABLE.name] = f"coalesce(source.{LOST}, source.{CARRIED})"
        updates[UNAVAILABLE.name] = _STILL_UNAVAILABLE
    else:
        rows = _newest_changes(contract, news)
    merge_states(
        handle,
        _fitted(rows, handle),
        keys=contract.primary_key,
        gone=f"source.{IS_GONE}",
        updates=updates,
        inserts=inserts,
        metadata=news.shown.metadata(),
    )


def _newest_changes(contract: Contract, news: News) -> pa.Table:
    """The newest change of each key, all of whose values were sent."""
    key = list(contract.primary_key)
    numbered = news.rows.select(key).append_column("_row", pa.array(np.arange(len(news.rows))))
    last = numbered.group_by(key).aggregate([("_row", "max")])["_row_max"]
    newest = news.rows.take(last)
    columns = [name for name in current_schema(contract).names if name != UNAVAILABLE.name]
    is_gone = pc.is_in(newest["op"], value_set=pa.array(["d", "t"]))
    return newest.select(columns).append_column(IS_GONE, is_gone)


def _newest_states(contract: Contract, news: News) -> pa.Table:
    """The newest state of each key, and which of its values the news do not tell."""
    columns = names(current_schema(contract).names)
    with news.in_duckdb() as connection:
        return connection.sql(f"""
            select
                {columns}, {GONE} as {IS_GONE},
                case when _life = 0 then {UNAVAILABLE.name} end as {CARRIED},
                case when _life > 0 then {UNAVAILABLE.name} end as {LOST}
            from ({states_sql(contract, f"from {NEWS}", news.facts)})
            qualify {_is_newest(contract)}
        """).to_arrow_table()


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
