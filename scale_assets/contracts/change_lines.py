"""Debezium change events in, typed changes out; wrapped as {"schema", "payload"} or not.

A change carries its row's contract columns (from ``after``; for a delete only the key, from
``before``; for a truncate none), ``op`` (c, u, d, r or t), ``event_time`` (source.ts_ms),
``received_at`` (ts_ms), and where in the source's log it stands. A record without a value, ``null``
or absent, is a tombstone. An update of the key is received as the two changes that it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.change_schema import change_schema
from scale_assets.contracts.changes import changes_of, check_envelopes, with_moves
from scale_assets.contracts.decode import Decoded, decode_block
from scale_assets.contracts.envelope_members import MESSAGE
from scale_assets.contracts.envelopes import envelope_decoder
from scale_assets.contracts.faults import Fault
from scale_assets.contracts.model import Contract
from scale_assets.contracts.validate import (
    MAX_LINE_BYTES,
    QUARANTINE_SCHEMA,
    Block,
    Lines,
    blocks_of,
    map_blocks,
    settle,
)

TOMBSTONE = b"null"
Record = bytes | bytearray | memoryview


@dataclass(frozen=True, kw_only=True)
class ValidatedChanges:
    """Like Validated, for change events; what is ignored is received, neither kept nor refused."""

    accepted: pa.Table  # see change_schema
    quarantined: pa.Table
    num_received: int
    num_tombstones: int
    num_messages: int  # heartbeats, marks of transactions, schema changes, messages

    def __post_init__(self) -> None:
        settled = self.accepted.num_rows + self.quarantined.num_rows + self.num_ignored
        assert settled == self.num_received

    @property
    def num_ignored(self) -> int:
        return self.num_tombstones + self.num_messages


def validate_change_lines(
    contract: Contract,
    data: Record | Iterable[Record | None],
    *,
    first_position: int = 0,
    max_line_bytes: int = MAX_LINE_BYTES,
) -> ValidatedChanges:
    """Validate change events: whole lines as one buffer, or an iterable with one per record.

    Of an iterable every item counts: one that is None, empty or blank is a tombstone.
    """
    schema = change_schema(contract)
    records: Lines = data if isinstance(data, Record) else [_record(each) for each in data]

    def one(block: Block) -> ValidatedChanges:
        return _validate_block(contract, schema, block, max_line_bytes)

    parts = map_blocks(one, blocks_of(records, first_position))
    accepted = [part.accepted for part in parts] or [schema.empty_table()]
    quarantined = [part.quarantined for part in parts] or [QUARANTINE_SCHEMA.empty_table()]
    return ValidatedChanges(
        accepted=pa.concat_tables(accepted),
        quarantined=pa.concat_tables(quarantined),
        num_received=sum(part.num_received for part in parts),
        num_tombstones=sum(part.num_tombstones for part in parts),
        num_messages=sum(part.num_messages for part in parts),
    )


def _record(value: Record | None) -> Record:
    return TOMBSTONE if value is None or not bytes(value).strip() else value


def _validate_block(
    contract: Contract, schema: pa.Schema, block: Block, max_line_bytes: int
) -> ValidatedChanges:
    decoder = envelope_decoder(contract)
    decoded = decode_block(
        decoder, bytes(block.data), lines=block.lines, max_line_bytes=max_line_bytes
    )
    decoded = _without_messages(decoded)
    found: dict[int, Fault] = {}
    check_envelopes(decoded.wire, found)
    changes = changes_of(contract, decoded.wire, found)
    settled, quarantined = settle(block, decoded, changes, found)
    accepted = with_moves(contract, settled)
    return ValidatedChanges(
        accepted=accepted.cast(schema),
        quarantined=quarantined,
        num_received=decoded.num_received + accepted.num_rows - settled.num_rows,
        num_tombstones=decoded.num_tombstones,
        num_messages=decoded.num_ignored,
    )


def _without_messages(decoded: Decoded) -> Decoded:
    is_change = pc.fill_null(pc.not_equal(decoded.wire["op"], MESSAGE), True)
    wire = decoded.wire.filter(is_change)
    num_messages = decoded.wire.num_rows - wire.num_rows
    if not num_messages:
        return decoded
    return replace(
        decoded,
        wire=wire,
        rows=decoded.rows[is_change.to_numpy(zero_copy_only=False)],
        num_ignored=decoded.num_ignored + num_messages,
    )
