"""Changes to states, in SQL.

A value that was not sent is the last one known; a truncate is a change of each key that it removed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts import Contract
from scale_assets.contracts.change_schema import MOVED_FROM, UNCHANGED, moved_from
from scale_assets.contracts.model import TIMESTAMP
from scale_assets.ingest.columns import SOURCE_FIELDS, TX_ORDINAL, UNAVAILABLE
from scale_assets.lake.duckdb_types import duckdb_type, literal, quoted

# Changes without an lsn (a source's first snapshot, a source without a log) come first, as read.
SORT = ("lsn", TX_ORDINAL.name, *(field.name for field in SOURCE_FIELDS))
ORDER = ", ".join(f"{name} asc nulls first" for name in SORT)
NEWEST_FIRST = ", ".join(f"{name} desc nulls last" for name in SORT)
GONE = "op in ('d', 't')"  # a change after which its key does not exist


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What a set of changes holds besides plain inserts, updates and deletes."""

    has_truncates: bool
    unchanged: tuple[str, ...]  # fields that some change did not send
    has_moves: bool  # of keys, by changes that did not send every field

    @classmethod
    def of(cls, changes: pa.Table) -> "Facts":
        """Those of a table of changes; ``facts_sql`` tells the same of a SELECT."""
        unchanged = changes[UNCHANGED.name]
        is_partial = pc.greater(pc.fill_null(pc.list_value_length(unchanged), 0), 0)
        is_moved = pc.and_(pc.is_valid(changes[MOVED_FROM]), is_partial)
        return cls(
            has_truncates=_any(pc.equal(changes["op"], "t")),
            unchanged=tuple(sorted(pc.unique(pc.list_flatten(unchanged)).to_pylist())),
            has_moves=_any(is_moved),
        )


def _any(mask: pa.ChunkedArray) -> bool:
    return bool(pc.any(mask).as_py())


def needed_schema(contract: Contract) -> pa.Schema:
    """The columns of the changes that states are made of."""
    times = [pa.field(name, TIMESTAMP) for name in ("event_time", "received_at")]
    order = [pa.field("lsn", pa.int64()), TX_ORDINAL, *SOURCE_FIELDS]
    row = [*contract.arrow_schema, pa.field("op", pa.string()), *times]
    return pa.schema([*row, *order, UNCHANGED, moved_from(contract)])


def facts_sql(changes: str) -> str:
    """One row: has_truncates, unchanged, has_moves."""
    return f"""
        select
            coalesce(bool_or(op = 't'), false),
            coalesce(list_distinct(flatten(list({UNCHANGED.name}))), []),
            coalesce(bool_or({MOVED_FROM} is not null and len({UNCHANGED.name}) > 0), false)
        from ({changes})
    """


def states_sql(contract: Contract, changes: str, facts: Facts) -> str:
    """One row per change, truncates by key: the row's columns, op, times, order, _unavailable.

    ``_life`` counts how often the key had ceased to exist before.
    """
    rows = _with_truncates(contract, changes) if facts.has_truncates else changes
    if not facts.unchanged:
        nothing = f"null::{duckdb_type(UNAVAILABLE.type)} as {UNAVAILABLE.name}"
        dropped = f"{UNCHANGED.name}, {MOVED_FROM}"
        return f"select * exclude ({dropped}), 0 as _life, {nothing} from ({rows})"
    lived = f"""
        select *, count(*) filter ({GONE}) over (
            partition by {names(contract.primary_key)} order by {ORDER}
            rows between unbounded preceding and 1 preceding
        ) as _life
        from ({rows})
    """
    if facts.has_moves:
        return _resolved(_with_lineage(contract, lived), facts, by="_root")
    return _resolved(lived, facts, by=f"{names(contract.primary_key)}, _life")


def _with_truncates(contract: Contract, changes: str) -> str:
    """In place of each truncate, one change op = 't' of every key that existed then."""
    key = names(contract.primary_key)
    order = ", ".join(f"truncates.{name}" for name in SORT)
    return f"""
        with counted as (
            select *, count(*) filter (op = 't') over (
                order by {ORDER} rows between unbounded preceding and current row
            ) as _epoch
            from ({changes})
        ),
        truncates as (select * from counted where op = 't'),
        existing as (
            select {key}, _epoch from counted where op <> 't'
            qualify row_number() over (
                partition by {key}, _epoch order by {NEWEST_FIRST}
            ) = 1 and op <> 'd'
        )
        select * exclude (_epoch) from counted where op <> 't'
        union all by name
        select
            {", ".join(f"existing.{quoted(name)}" for name in contract.primary_key)},
            truncates.op, truncates.event_time, truncates.received_at, {order}
        from existing inner join truncates on truncates._epoch = existing._epoch + 1
    """


def _with_lineage(contract: Contract, lived: str) -> str:
    """``_root``: the first of the lives that a row led, under one key after the other.

    A life that begins with a change of key goes on where the old key's last life ended.
    """
    key = names(contract.primary_key)
    old = " and ".join(
        f"child._from.{quoted(name)} = parent.{quoted(name)}" for name in contract.primary_key
    )
    return f"""
        with recursive numbered as (
            select *, row_number() over (order by {ORDER}) as _number from ({lived})
        ),
        placed as (
            select *, min(_number) over (partition by {key}, _life) as _born from numbered
        ),
        lives as (
            select {key}, _born, {MOVED_FROM} as _from from placed where _number = _born
        ),
        parents as (
            select child._born as _born, parent._born as _parent
            from lives as child asof left join lives as parent
            on {old} and child._born > parent._born
        ),
        roots as (
            select _born, _born as _root from parents where _parent is null
            union all
            select parents._born, roots._root
            from parents inner join roots on parents._parent = roots._born
        )
        select placed.* exclude (_number, _born), roots._root
        from placed inner join roots on placed._born = roots._born
    """


def _resolved(rows: str, facts: Facts, *, by: str) -> str:
    window = (
        f"(partition by {by} order by {ORDER} rows between unbounded preceding and current row)"
    )
    known, values, missing = [], [], []
    for at, name in enumerate(facts.unchanged):
        is_sent = f"not coalesce(list_contains({UNCHANGED.name}, {literal(name)}), false)"
        sent = f"case when not {GONE} and {is_sent} then struct_pack(value := {quoted(name)}) end"
        known.append(f"last_value({sent} ignore nulls) over {window} as _known_{at}")
        values.append(f"case when not {GONE} then _known_{at}.value end as {quoted(name)}")
        missing.append(f"case when _known_{at} is null then {literal(name)} end")
    helpers = [f"_known_{at}" for at in range(len(facts.unchanged))]
    helpers += [UNCHANGED.name, MOVED_FROM, *(["_root"] if facts.has_moves else [])]
    return f"""
        select
            * exclude ({", ".join(helpers)}) replace ({", ".join(values)}),
            case when not {GONE} then nullif(
                list_filter([{", ".join(missing)}], lambda name: name is not null), []
            ) end as {UNAVAILABLE.name}
        from (select *, {", ".join(known)} from ({rows}))
    """


def names(columns: Sequence[str]) -> str:
    return ", ".join(quoted(column) for column in columns)
