"""One row per change: values valid from its event_time to the key's next change, or open.

A delete is a row too (op = 'd'), and a truncate one of each key that it removed (op = 't'): from
then on the key did not exist. Open rows are stored apart from closed ones, in segments of about a
million, so that closing some rewrites their segments and nothing else.
"""

from dataclasses import replace

import pyarrow as pa
from deltalake import DeltaTable

from scale_assets.contracts import Contract
from scale_assets.contracts.change_schema import UNCHANGED
from scale_assets.ingest.news import NEWS, News, facts_of
from scale_assets.ingest.states import ORDER, UNAVAILABLE, UTC_TIME, Facts, names, states_sql
from scale_assets.lake.commits import rewrite
from scale_assets.lake.fit import arrow_schema
from scale_assets.lake.history import rows_per_partition
from scale_assets.lake.snapshots import relation_sql

SEGMENT = pa.field("_segment", pa.int32())  # null: the row is closed
SEGMENT_ROWS = 1 << 20
PERIODS = "periods"  # the news after the open rows that they close, in DuckDB


def history_schema(contract: Contract) -> pa.Schema:
    """Columns of the history. ``_unavailable`` names fields whose value was never sent."""
    times = [pa.field(name, UTC_TIME) for name in ("valid_from", "valid_to", "received_at")]
    columns = [pa.field("op", pa.string()), *times, UNAVAILABLE, SEGMENT]
    return pa.schema([*contract.arrow_schema, *columns])


def history_rows_sql(contract: Contract, changes: str, facts: Facts) -> str:
    """Every row of the table, from all changes."""
    key = names(contract.primary_key)
    states = states_sql(contract, changes, facts)
    return f"""
        select {names(history_schema(contract).names)}
        from ({_segmented(contract, _periods(contract, states), at="null", taken=0, last=0)})
        order by {SEGMENT.name}, {key}, {ORDER}
    """


def rewrite_history(handle: DeltaTable, contract: Contract, news: News) -> None:
    """Bring the table to the news in one commit, from exactly the snapshot of the handle.

    Raises:
        ConcurrentCommit: Somebody committed since the handle read.
    """
    key = names(contract.primary_key)
    open_rows = _rows(handle, f"{SEGMENT.name} IS NOT NULL")
    found = news.connection.sql(
        f"select distinct {SEGMENT.name} from ({open_rows}) semi join {NEWS} using ({key})"
    )
    touched = sorted(segment for (segment,) in found.fetchall())
    there = _rows(handle, f"{SEGMENT.name} IN ({', '.join(map(str, touched)) or 'NULL'})")
    changed = _changed_rows(handle, contract, news, there)
    kept = news.connection.sql(f"from ({there}) anti join {NEWS} using ({key})")
    rewrite(
        handle,
        [changed, kept.to_arrow_reader()] if touched else [changed],
        replace=[(SEGMENT.name, "in", [str(each) for each in touched])] if touched else None,
        metadata=news.shown.metadata(),
    )


def _changed_rows(handle: DeltaTable, contract: Contract, news: News, there: str) -> pa.Table:
    """The news as rows of the table, and before them the open rows that they close."""
    key = names(contract.primary_key)
    row = names(contract.arrow_schema.names)
    news.connection.execute(f"""
        create temp table {PERIODS} as
        from {NEWS}
        union all by name
        select
            {row}, op, valid_from as event_time, received_at,
            {UNAVAILABLE.name} as {UNCHANGED.name}, {SEGMENT.name} as _there
        from ({there}) semi join {NEWS} using ({key})
    """)
    # An open row that says op = 't' is of its key alone.
    facts = replace(facts_of(news.connection, f"from {PERIODS}"), has_truncates=False)
    states = states_sql(contract, f"from {PERIODS}", facts)
    rows = rows_per_partition(handle, SEGMENT.name)
    last = max((int(segment) for segment in rows if segment is not None), default=0)
    segmented = _segmented(
        contract,
        _periods(contract, states),
        at=f"max(_there) over (partition by {key})",
        taken=rows.get(str(last), 0),
        last=last,
    )
    columns = names(history_schema(contract).names)
    return news.connection.sql(f"select {columns} from ({segmented})").to_arrow_table()


def _periods(contract: Contract, states: str) -> str:
    return f"""
        select * exclude (event_time), event_time as valid_from, lead(event_time) over (
            partition by {names(contract.primary_key)} order by {ORDER}
        ) as valid_to
        from ({states})
    """


def _segmented(contract: Contract, periods: str, *, at: str, taken: int, last: int) -> str:
    """Closed rows in none; open ones where their key is (``at``), else filling up the last one."""
    is_open = "valid_to is null"
    key = names(contract.primary_key)
    number = f"row_number() over (partition by {is_open}, _at is null order by {key})"
    filled = f"{last} + ({taken} + {number} - 1) // {SEGMENT_ROWS}"
    return f"""
        select
            * exclude (_at),
            case when {is_open} then coalesce(_at, {filled})::int end as {SEGMENT.name}
        from (select *, {at} as _at from ({periods}))
    """


def _rows(handle: DeltaTable, where: str) -> str:
    return relation_sql(
        files=handle.file_uris(file_pruning_predicate=where),
        schema=arrow_schema(handle),
        partition_columns=[SEGMENT.name],
    )
