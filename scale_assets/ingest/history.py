"""One row per change: values valid from its event_time to the key's next change, or open.

A delete is a row too (op = 'd'), and a truncate one of each key that it removed (op = 't'): from
then on the key did not exist. Open rows are stored apart from closed ones, in segments of about a
million, so that closing some rewrites their segments and nothing else.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.contracts import Contract
from scale_assets.contracts.change_schema import UNCHANGED
from scale_assets.ingest.news import NEWS, News
from scale_assets.ingest.states import ORDER, UNAVAILABLE, UTC_TIME, Facts, names, states_sql
from scale_assets.lake.commits import rewrite
from scale_assets.lake.fit import arrow_schema
from scale_assets.lake.history import rows_per_partition
from scale_assets.lake.snapshots import relation_sql

if TYPE_CHECKING:
    import duckdb

SEGMENT = pa.field("_segment", pa.int32())  # null: the row is closed
SEGMENT_ROWS = 1 << 20
CLOSING = "closing"  # open rows that the news close, in DuckDB


def history_schema(contract: Contract) -> pa.Schema:
    """Columns of the history. ``_unavailable`` names fields whose value was never sent."""
    times = [pa.field(name, UTC_TIME) for name in ("valid_from", "valid_to", "received_at")]
    columns = [pa.field("op", pa.string()), *times, UNAVAILABLE, SEGMENT]
    return pa.schema([*contract.arrow_schema, *columns])


def history_rows_sql(contract: Contract, changes: str, facts: Facts) -> str:
    """Every row of the table, from all changes."""
    key = names(contract.primary_key)
    number = f"row_number() over (partition by valid_to is null order by {key})"
    return f"""
        select
            *, case when valid_to is null then ({number} - 1) // {SEGMENT_ROWS} end as {SEGMENT.name}
        from ({_periods_sql(contract, states_sql(contract, changes, facts))})
        order by {SEGMENT.name}, {key}
    """


def rewrite_history(handle: DeltaTable, contract: Contract, news: News) -> None:
    """Bring the table to the news in one commit, from exactly the snapshot of the handle.

    Raises:
        ConcurrentCommit: Somebody committed since the handle read.
    """
    with news.in_duckdb() as connection:
        touched = _touched(connection, handle, contract)
        rewrite(
            handle,
            _rows(connection, handle, contract, news, touched),
            replace=[(SEGMENT.name, "in", [str(each) for each in touched])] if touched else None,
            metadata=news.shown.metadata(),
        )


def _touched(
    connection: "duckdb.DuckDBPyConnection", handle: DeltaTable, contract: Contract
) -> list[int]:
    """Segments that hold an open row of some key of the news."""
    segments = _segments(handle)
    if len(segments) <= 1:
        return list(segments)
    key = names(contract.primary_key)
    there = _segments_sql(handle, list(segments))
    found = connection.sql(
        f"select distinct {SEGMENT.name} from ({there}) semi join {NEWS} using ({key})"
    )
    return sorted(segment for (segment,) in found.fetchall())


def _rows(
    connection: "duckdb.DuckDBPyConnection",
    handle: DeltaTable,
    contract: Contract,
    news: News,
    touched: list[int],
) -> Iterator[pa.Table]:
    """The touched segments without what closes, one after the other; then all that is new."""
    closing = []
    for segment in touched:
        rows = connection.sql(_marked_sql(contract, _segments_sql(handle, [segment])))
        marked = rows.to_arrow_table()
        is_closing = marked["_is_closing"]
        kept = marked.drop_columns(["_is_closing"])
        closing.append(kept.filter(is_closing))
        kept = kept.filter(pc.invert(is_closing))
        middle = len(kept) // 2
        yield from (kept[:middle], kept[middle:])  # two halves are written side by side
    before = pa.concat_tables(closing or [arrow_schema(handle).empty_table()])
    yield _changed_rows(connection, handle, contract, news, before)


def _marked_sql(contract: Contract, there: str) -> str:
    key = names(contract.primary_key)
    return f"""
        select there.*, touched._is_touched is not null as _is_closing
        from ({there}) as there
        left join (select distinct {key}, true as _is_touched from {NEWS}) as touched
        using ({key})
    """


def _changed_rows(
    connection: "duckdb.DuckDBPyConnection",
    handle: DeltaTable,
    contract: Contract,
    news: News,
    closing: pa.Table,
) -> pa.Table:
    """The news as rows of the table, and the open rows that they close."""
    connection.register(CLOSING, closing)
    row = names(contract.arrow_schema.names)
    changes = f"""
        from {NEWS}
        union all by name
        select
            {row}, op, valid_from as event_time, received_at,
            {UNAVAILABLE.name} as {UNCHANGED.name}, {SEGMENT.name} as _there
        from {CLOSING}
    """
    partial = pc.unique(pc.list_flatten(closing[UNAVAILABLE.name])).to_pylist()
    unchanged = tuple(sorted({*news.facts.unchanged, *partial}))
    states = states_sql(contract, changes, replace(news.facts, unchanged=unchanged))
    there = "first_value(_there) over key_in_order as _there"
    rows = connection.sql(_periods_sql(contract, states, there)).to_arrow_table()
    segments = _filled_up(rows["_there"], _segments(handle))
    is_open = pc.is_null(rows["valid_to"])
    return rows.drop_columns(["_there"]).append_column(SEGMENT, pc.if_else(is_open, segments, None))


def _periods_sql(contract: Contract, states: str, *more: str) -> str:
    """States as periods, each closed by the next of its key."""
    valid_to = "lead(event_time) over key_in_order as valid_to"
    columns = [names(contract.arrow_schema.names), "op", "event_time as valid_from", valid_to]
    return f"""
        select {", ".join([*columns, "received_at", UNAVAILABLE.name, *more])}
        from ({states})
        window key_in_order as (partition by {names(contract.primary_key)} order by {ORDER})
    """


def _segments(handle: DeltaTable) -> dict[int, int]:
    """Open rows of each segment."""
    rows = rows_per_partition(handle, SEGMENT.name)
    return {int(segment): count for segment, count in rows.items() if segment is not None}


def _segments_sql(handle: DeltaTable, segments: list[int]) -> str:
    chosen = f"{SEGMENT.name} IN ({', '.join(map(str, segments))})"
    return relation_sql(
        files=handle.file_uris(file_pruning_predicate=chosen),
        schema=arrow_schema(handle),
        partition_columns=[SEGMENT.name],
    )


def _filled_up(segments: pa.ChunkedArray, taken: dict[int, int]) -> pa.Array:
    """Segments, where they are null the last one until it is full, and those that follow."""
    last = max(taken, default=0)
    filled = segments.combine_chunks()
    is_new = pc.is_null(filled).to_numpy(zero_copy_only=False)
    numbers = taken.get(last, 0) + np.arange(is_new.sum())
    following = pa.array(last + numbers // SEGMENT_ROWS, SEGMENT.type)
    return pc.replace_with_mask(filled.cast(SEGMENT.type), pa.array(is_new), following)
