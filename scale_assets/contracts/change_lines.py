"""Debezium change events in, typed changes out; wrapped as {"schema", "payload"} or not.

A change carries its row's contract columns (from ``after``; for a delete only the key, from
``before``), ``op`` (c, u, d or r), ``event_time`` (source.ts_ms), ``received_at`` (ts_ms), and the
source's ``lsn`` and transaction ``tx_id`` where it has them. A line ``null`` is a tombstone.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.change_schema import OPS, change_schema
from scale_assets.contracts.checks import rows_of
from scale_assets.contracts.decode import decode_block
from scale_assets.contracts.envelopes import AFTER, BEFORE, envelope_decoder
from scale_assets.contracts.faults import Fault, Rule, shown
from scale_assets.contracts.model import TIMESTAMP, Contract
from scale_assets.contracts.validate import (
    MAX_LINE_BYTES,
    QUARANTINE_SCHEMA,
    Block,
    Lines,
    blocks_of,
    map_blocks,
    settle,
    to_contract,
)
from scale_assets.contracts.wire import count_to_time


@dataclass(frozen=True, kw_only=True)
class ValidatedChanges:
    """Like Validated, for change events; tombstones are received, and neither kept nor refused."""

    accepted: pa.Table  # see change_schema
    quarantined: pa.Table
    num_received: int
    num_tombstones: int

    def __post_init__(self) -> None:
        settled = self.accepted.num_rows + self.quarantined.num_rows + self.num_tombstones
        assert settled == self.num_received


def validate_change_lines(
    contract: Contract,
    data: Lines,
    *,
    first_position: int = 0,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> ValidatedChanges:
    """Validate change events: whole lines as one buffer, or an iterable with one per event."""
    schema = change_schema(contract)

    def one(block: Block) -> ValidatedChanges:
        return _validate_block(contract, schema, block, max_line_bytes)

    parts = map_blocks(one, blocks_of(data, first_position))
    accepted = [part.accepted for part in parts] or [schema.empty_table()]
    quarantined = [part.quarantined for part in parts] or [QUARANTINE_SCHEMA.empty_table()]
    return ValidatedChanges(
        accepted=pa.concat_tables(accepted),
        quarantined=pa.concat_tables(quarantined),
        num_received=sum(part.num_received for part in parts),
        num_tombstones=sum(part.num_tombstones for part in parts),
    )


def _validate_block(
    contract: Contract, schema: pa.Schema, block: Block, max_line_bytes: int
) -> ValidatedChanges:
    decoder = envelope_decoder(contract)
    decoded = decode_block(decoder, block.data, lines=block.lines, max_line_bytes=max_line_bytes)
    found: dict[int, Fault] = {}
    check_envelopes(decoded.wire, found)
    changes = _changes(contract, decoded.wire, found)
    accepted, quarantined = settle(block, decoded, changes, found)
    return ValidatedChanges(
        accepted=accepted.cast(schema),
        quarantined=quarantined,
        num_received=decoded.num_received,
        num_tombstones=decoded.num_tombstones,
    )


def check_envelopes(wire: pa.Table, faults: dict[int, Fault]) -> None:
    """An event must say what happened, when, and to which row."""
    op = wire.column("op")
    is_delete = pc.fill_null(pc.equal(op, "d"), False)
    known = pc.fill_null(pc.is_in(op, value_set=pa.array(OPS)), False)
    breaches = (
        (pc.invert(known), "op", f"op must be one of {', '.join(OPS)}"),
        (pc.and_not(pc.invert(wire.column("has_after")), is_delete), "after", "after is missing"),
        (pc.and_not(is_delete, wire.column("has_before")), "before", "a delete without before"),
        (pc.is_null(wire.column("event_ms")), "source.ts_ms", "source.ts_ms is missing"),
        (pc.is_null(wire.column("received_ms")), "ts_ms", "ts_ms is missing"),
    )
    for mask, field, reason in breaches:
        for row in rows_of(mask) if pc.any(mask).as_py() else ():
            got = f", got {shown(op[row].as_py())}" if field == "op" else ""
            faults.setdefault(row, Fault(Rule.BAD_ENVELOPE, reason + got, field))


def _changes(contract: Contract, wire: pa.Table, faults: dict[int, Fault]) -> pa.Table:
    is_delete = pc.fill_null(pc.equal(wire.column("op"), "d"), False)
    columns = {}
    for field in contract.fields:
        after = wire.column(AFTER + field.name)
        deleted = pa.scalar(None, after.type)
        if field.name in contract.primary_key:
            deleted = wire.column(BEFORE + field.name)
        columns[field.name] = pc.if_else(is_delete, deleted, after)
    values = contract.names - set(contract.primary_key)
    exempt = dict.fromkeys(values, is_delete)
    table = to_contract(contract, pa.table(columns), faults, exempt=exempt)
    table = table.append_column("op", wire.column("op"))
    for name, source in (("event_time", "event_ms"), ("received_at", "received_ms")):
        column, bad = count_to_time(wire.column(source), TIMESTAMP, unit="ms")
        for row in rows_of(bad) if pc.any(bad).as_py() else ():
            got = wire.column(source)[row].as_py()
            reason = f"{name} = {got} ms since 1970 lies outside years 1 to 9999"
            faults.setdefault(row, Fault(Rule.BAD_ENVELOPE, reason, name))
        table = table.append_column(name, column)
    return table.append_column("lsn", wire.column("lsn")).append_column(
        "tx_id", wire.column("tx_id")
    )
