"""Flat wire rows of change events to typed changes: what is deleted, unchanged, or moved."""

from collections.abc import Iterator
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.change_schema import MOVED_FROM, OPS, TRANSACTION, UNCHANGED, moved_from
from scale_assets.contracts.checks import rows_of
from scale_assets.contracts.envelope_members import AFTER, BEFORE
from scale_assets.contracts.envelope_members import TRANSACTION as TRANSACTION_MEMBERS
from scale_assets.contracts.faults import Fault, Rule, shown
from scale_assets.contracts.log_positions import log_positions
from scale_assets.contracts.model import TIMESTAMP, Contract
from scale_assets.contracts.unavailable import is_unavailable
from scale_assets.contracts.validate import to_contract
from scale_assets.contracts.wire import count_to_time


def check_envelopes(wire: pa.Table, faults: dict[int, Fault]) -> None:
    """An event must say what happened, when, and to which row; a truncate concerns them all."""
    op = wire.column("op")
    is_delete, is_truncate = _is(wire, "d"), _is(wire, "t")
    known = pc.fill_null(pc.is_in(op, value_set=pa.array(OPS)), False)
    has_no_after = pc.invert(pc.or_(wire.column("has_after"), is_truncate))
    breaches = (
        (pc.invert(known), "op", f"op must be one of {', '.join(OPS)}"),
        (pc.and_not(has_no_after, is_delete), "after", "after is missing"),
        (pc.and_not(is_delete, wire.column("has_before")), "before", "a delete without before"),
        (pc.is_null(wire.column("event_ms")), "source.ts_ms", "source.ts_ms is missing"),
        (pc.is_null(wire.column("received_ms")), "ts_ms", "ts_ms is missing"),
    )
    for mask, field, reason in breaches:
        for row in rows_of(mask) if pc.any(mask).as_py() else ():
            got = f", got {shown(op[row].as_py())}" if field == "op" else ""
            faults.setdefault(row, Fault(Rule.BAD_ENVELOPE, reason + got, field))


def changes_of(contract: Contract, wire: pa.Table, faults: dict[int, Fault]) -> pa.Table:
    """The changes, a row per wire row; faults (by wire row) for what broke a rule."""
    unchanged = _unchanged(contract, wire)
    table = _rows(contract, wire, unchanged, faults).append_column("op", wire.column("op"))
    for name, source in (("event_time", "event_ms"), ("received_at", "received_ms")):
        column, bad = count_to_time(wire.column(source), TIMESTAMP, unit="ms")
        for row in rows_of(bad) if pc.any(bad).as_py() else ():
            got = wire.column(source)[row].as_py()
            reason = f"{name} = {got} ms since 1970 lies outside years 1 to 9999"
            faults.setdefault(row, Fault(Rule.BAD_ENVELOPE, reason, name))
        table = table.append_column(name, column)
    lsn, ordinal = log_positions(wire)
    for name, column in (("lsn", lsn), ("tx_id", wire.column("tx_id")), ("tx_ordinal", ordinal)):
        table = table.append_column(name, column)
    return (
        table.append_column(TRANSACTION, _transactions(wire))
        .append_column(UNCHANGED, _lists(unchanged, wire.num_rows))
        .append_column(moved_from(contract), _moves(contract, wire, table, faults))
    )


def with_moves(contract: Contract, changes: pa.Table) -> pa.Table:
    """Each update of a key as a delete of the old one and, right after it, an insert."""
    moved = changes.column(MOVED_FROM)
    rows = np.flatnonzero(pc.is_valid(moved).to_numpy())
    if not len(rows):
        return changes
    deletes = changes.take(pa.array(rows))
    old_keys = deletes.column(MOVED_FROM)
    for name in (*contract.names, UNCHANGED.name, MOVED_FROM):
        at, field = deletes.schema.get_field_index(name), deletes.schema.field(name)
        is_key = name in contract.primary_key
        column = pc.struct_field(old_keys, name) if is_key else pa.nulls(len(rows), field.type)
        deletes = deletes.set_column(at, field, column)
    inserts = _with_op(changes, pc.if_else(pc.is_valid(moved), "c", changes.column("op")))
    both = pa.concat_tables([_with_op(deletes, pa.repeat("d", len(rows))), inserts])
    order = np.argsort(np.concatenate([rows, np.arange(changes.num_rows)]), kind="stable")
    return both.take(pa.array(order))


def _rows(
    contract: Contract, wire: pa.Table, unchanged: dict[str, np.ndarray], faults: dict[int, Fault]
) -> pa.Table:
    """The contract's columns; null where there is no row, or no value was sent."""
    is_delete, is_truncate = _is(wire, "d"), _is(wire, "t")
    is_gone = pc.or_(is_delete, is_truncate)
    columns, exempt = {}, {}
    for field in contract.fields:
        after, is_null = wire.column(AFTER + field.name), is_gone
        nothing = pa.scalar(None, after.type)
        if field.name in contract.primary_key:
            after, is_null = pc.if_else(is_delete, wire[BEFORE + field.name], after), is_truncate
        elif field.name in unchanged:
            is_null = pc.or_(is_gone, pa.chunked_array([unchanged[field.name]]))
        columns[field.name] = pc.if_else(is_null, nothing, after)
        exempt[field.name] = is_null
    return to_contract(contract, pa.table(columns), faults, exempt=exempt)


def _unchanged(contract: Contract, wire: pa.Table) -> dict[str, np.ndarray]:
    """Fields whose value some event did not send, and which events those are."""
    values = (field for field in contract.fields if field.name not in contract.primary_key)
    masks = ((field.name, is_unavailable(wire.column(AFTER + field.name))) for field in values)
    return {name: mask for name, mask in masks if mask.any()}


def _lists(unchanged: dict[str, np.ndarray], num_rows: int) -> pa.Array:
    """Per row the names of its unchanged fields; null where there is none."""
    if not unchanged:
        return pa.nulls(num_rows, UNCHANGED.type)
    names: list[list[str] | None] = [None] * num_rows
    for name, mask in unchanged.items():
        for row in np.flatnonzero(mask):
            names[row] = [*(names[row] or ()), name]
    return pa.array(names, UNCHANGED.type)


def _transactions(wire: pa.Table) -> pa.Array:
    columns = [column for column, _ in TRANSACTION_MEMBERS.values()]
    members = [wire.column(column).combine_chunks() for column in columns]
    if all(member.null_count == wire.num_rows for member in members):
        return pa.nulls(wire.num_rows, TRANSACTION.type)
    is_absent = reduce(pc.and_, (pc.is_null(member) for member in members))
    return pa.StructArray.from_arrays(members, fields=list(TRANSACTION.type), mask=is_absent)


def _moves(
    contract: Contract, wire: pa.Table, changes: pa.Table, faults: dict[int, Fault]
) -> pa.Array:
    """The old key of each update that changed it; null everywhere else."""
    type_ = moved_from(contract).type
    rows = np.flatnonzero(_may_move(contract, wire))
    if not len(rows):
        return pa.nulls(wire.num_rows, type_)
    old_keys = _old_keys(contract, wire, rows, faults)
    new_keys = changes.select(list(contract.primary_key)).take(pa.array(rows)).to_pylist()
    moves: list[dict[str, object] | None] = [None] * wire.num_rows
    for row, old, new in zip(rows, old_keys, new_keys, strict=True):
        if old != new:
            moves[row] = old
    return pa.array(moves, type_)


def _may_move(contract: Contract, wire: pa.Table) -> np.ndarray:
    """Updates whose old key is written otherwise than the new one."""
    is_whole, differs = _is(wire, "u"), pc.is_null(wire.column("op"))
    for name in contract.primary_key:
        before, after = wire.column(BEFORE + name), wire.column(AFTER + name)
        is_whole = pc.and_(is_whole, pc.is_valid(before))
        if pa.types.is_nested(before.type):
            differs = is_whole
        else:
            differs = pc.or_(differs, pc.fill_null(pc.not_equal(before, after), False))
    mask: np.ndarray = pc.and_(is_whole, differs).to_numpy(zero_copy_only=False)
    return mask


def _old_keys(
    contract: Contract, wire: pa.Table, rows: np.ndarray, faults: dict[int, Fault]
) -> Iterator[dict[str, object]]:
    before = wire.take(pa.array(rows))
    nulls = pa.chunked_array([pa.nulls(len(rows))])
    columns = {
        field.name: before.column(BEFORE + field.name)
        if field.name in contract.primary_key
        else nulls.cast(before.schema.field(AFTER + field.name).type)
        for field in contract.fields
    }
    found: dict[int, Fault] = {}
    values = contract.names - set(contract.primary_key)
    exempt = dict.fromkeys(values, pa.repeat(True, len(rows)))
    old = to_contract(contract, pa.table(columns), found, exempt=exempt)
    for at, fault in found.items():
        faults.setdefault(int(rows[at]), fault)
    yield from old.select(list(contract.primary_key)).to_pylist()


def _is(wire: pa.Table, op: str) -> pa.ChunkedArray:
    return pc.fill_null(pc.equal(wire.column("op"), op), False)


def _with_op(changes: pa.Table, ops: pa.ChunkedArray | pa.Array) -> pa.Table:
    return changes.set_column(changes.schema.get_field_index("op"), "op", ops)
