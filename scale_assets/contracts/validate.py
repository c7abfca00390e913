"""Received lines in, accepted and quarantined rows out: nothing is lost or cast in silence.

A blank line is not a record: it is not counted, but it takes a line number. A missing field and a
null are the same; both are refused where the field is required. Of a line's several faults one is
named. Keys repeated in one object are refused, because readers disagree on which value holds.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.checks import Exempt, check_table, rows_of
from scale_assets.contracts.columns import Columns, layout_of, read_columns
from scale_assets.contracts.decode import (
    NEWLINE,
    Decoded,
    Decoder,
    count_newlines,
    decode_block,
    split_lines,
)
from scale_assets.contracts.faults import Fault, Rule, shown
from scale_assets.contracts.model import Contract
from scale_assets.contracts.records import record_decoder
from scale_assets.contracts.uniqueness import repeated_keys
from scale_assets.contracts.wire import expected, to_contract_type

BLOCK_BYTES = 4 << 20
WINDOW_BYTES = 1 << 16
MAX_LINE_BYTES = 1 << 20
POSITION = pa.field("_position", pa.int64(), nullable=False)
QUARANTINE_SCHEMA = pa.schema(
    [
        pa.field("raw", pa.binary(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("rule", pa.string(), nullable=False),
        pa.field("field", pa.string()),
        POSITION,
    ]
)

Result = TypeVar("Result")
Lines = bytes | bytearray | memoryview | Iterable[bytes | bytearray | memoryview]


@dataclass(frozen=True, kw_only=True)
class Validated:
    """Rows that keep the contract, rows that do not, and their sum as received."""

    accepted: pa.Table  # the contract's columns and _position (0-based line number)
    quarantined: pa.Table  # QUARANTINE_SCHEMA; raw is the line's exact bytes without its newline
    num_received: int

    def __post_init__(self) -> None:
        assert self.accepted.num_rows + self.quarantined.num_rows == self.num_received


@dataclass(frozen=True, kw_only=True)
class Block:
    """Consecutive records; ``lines`` is given when newlines do not separate them."""

    data: bytes | memoryview
    first_position: int
    lines: list[bytes] | None = None
    num_lines: int = 0  # of ``data``

    def quarantine(self, faults: dict[int, Fault]) -> pa.Table:
        lines = (self.lines or split_lines(bytes(self.data))) if faults else []
        rows = sorted(faults)
        return quarantine_rows(rows, [lines[row] for row in rows], faults, self.first_position)


def quarantine_rows(
    rows: list[int], raws: list[bytes], faults: dict[int, Fault], first_position: int
) -> pa.Table:
    """The quarantine table of ``rows``, each with its raw bytes and its fault."""
    return pa.table(
        {
            "raw": raws,
            "reason": [faults[row].reason for row in rows],
            "rule": [faults[row].rule.value for row in rows],
            "field": [faults[row].field for row in rows],
            "_position": [first_position + row for row in rows],
        },
        schema=QUARANTINE_SCHEMA,
    )


def validate_lines(
    contract: Contract,
    data: Lines,
    *,
    first_position: int = 0,
    max_line_bytes: int = MAX_LINE_BYTES,
    unique: bool = False,
) -> Validated:
    """Validate JSON lines: whole lines as one buffer, or an iterable with one buffer per record.

    With ``unique`` (snapshots), later rows that repeat a key are refused too. Give input larger
    than memory in pieces that end with a line, counting ``first_position`` on.
    """
    decoder = record_decoder(contract)
    if not isinstance(data, bytes | bytearray | memoryview):
        data = list(data)

    def one(block: Block) -> Validated:
        return _validate_block(contract, decoder, block, max_line_bytes)

    validated = concat(contract, map_blocks(one, blocks_of(data, first_position)))
    if not unique or not (repeated := repeated_keys(contract, validated.accepted)):
        return validated
    return _set_aside(validated, repeated, data, first_position)


def _set_aside(
    validated: Validated, repeated: dict[int, Fault], data: Lines, first_position: int
) -> Validated:
    """Move accepted rows to quarantine, with their lines."""
    positions = validated.accepted.column("_position").to_numpy()
    faults = {int(positions[row]) - first_position: fault for row, fault in repeated.items()}
    if isinstance(data, bytes | bytearray | memoryview):
        lines = split_lines(bytes(data))
    else:
        lines = [bytes(record).removesuffix(b"\n") for record in data]
    rows = sorted(faults)
    refused = quarantine_rows(rows, [lines[row] for row in rows], faults, first_position)
    return Validated(
        accepted=_without(validated.accepted, list(repeated)),
        quarantined=pa.concat_tables([validated.quarantined, refused]).sort_by("_position"),
        num_received=validated.num_received,
    )


def _validate_block(
    contract: Contract, decoder: Decoder, block: Block, max_line_bytes: int
) -> Validated:
    layout = layout_of(contract)
    if layout is None or block.lines is not None:
        return _validate_lines(contract, decoder, block, max_line_bytes)
    columns = read_columns(layout, block.data, block.num_lines, max_line_bytes)
    sure = _surely_read(contract, block, columns)
    if not columns.unsure.size:
        return sure
    lines = [columns.line(block.data, line) for line in columns.unsure.tolist()]
    others = Block(data=b"", first_position=0, lines=lines)
    rest = _validate_lines(contract, decoder, others, max_line_bytes)
    positions = columns.unsure + block.first_position
    return _in_order(sure, _at_positions(rest, positions))


def _surely_read(contract: Contract, block: Block, columns: Columns) -> Validated:
    faults: dict[int, Fault] = {}
    check_table(contract, columns.table, faults)
    rows = sorted(faults)
    lines = columns.lines[rows].tolist()
    raws = [columns.line(block.data, line) for line in lines]
    by_line = dict(zip(lines, (faults[row] for row in rows), strict=True))
    positions = pa.array(columns.lines + block.first_position, POSITION.type)
    return Validated(
        accepted=_without(columns.table.append_column(POSITION, positions), rows),
        quarantined=quarantine_rows(lines, raws, by_line, block.first_position),
        num_received=len(columns.lines),
    )


def _at_positions(found: Validated, positions: np.ndarray) -> Validated:
    """The same rows, which were counted from 0, at these positions."""
    at = pa.array(positions, POSITION.type)

    def moved(rows: pa.Table) -> pa.Table:
        index = rows.schema.get_field_index(POSITION.name)
        return rows.set_column(index, POSITION, at.take(rows[POSITION.name]))

    return replace(found, accepted=moved(found.accepted), quarantined=moved(found.quarantined))


def _in_order(first: Validated, second: Validated) -> Validated:
    def merged(a: pa.Table, b: pa.Table) -> pa.Table:
        if not (a.num_rows and b.num_rows):
            return a if a.num_rows else b
        return pa.concat_tables([a, b]).sort_by(POSITION.name)

    return Validated(
        accepted=merged(first.accepted, second.accepted),
        quarantined=merged(first.quarantined, second.quarantined),
        num_received=first.num_received + second.num_received,
    )


def _without(table: pa.Table, rows: list[int]) -> pa.Table:
    if not rows:
        return table
    keep = np.ones(table.num_rows, dtype=bool)
    keep[rows] = False
    return table.filter(pa.array(keep))


def _validate_lines(
    contract: Contract, decoder: Decoder, block: Block, max_line_bytes: int
) -> Validated:
    decoded = decode_block(
        decoder, bytes(block.data), lines=block.lines, max_line_bytes=max_line_bytes
    )
    found: dict[int, Fault] = {}
    table = to_contract(contract, decoded.wire, found)
    accepted, quarantined = settle(block, decoded, table, found)
    return Validated(
        accepted=accepted.cast(contract.arrow_schema.append(POSITION)),
        quarantined=quarantined,
        num_received=decoded.num_received,
    )


def to_contract(
    contract: Contract,
    wire: pa.Table,
    faults: dict[int, Fault],
    *,
    exempt: Exempt | None = None,
) -> pa.Table:
    """Wire columns in the contract's types; faults (by wire row) for what broke a rule."""
    columns = []
    for field in contract.fields:
        column, bad = to_contract_type(wire.column(field.name), field)
        for row in rows_of(bad) if pc.any(bad).as_py() else ():
            value = shown(wire.column(field.name)[row].as_py())
            reason = f"{field.name} must be {expected(field)}, got {value}"
            faults.setdefault(row, Fault(Rule.BAD_FORMAT, reason, field.name))
        columns.append(column)
    table = pa.table(columns, names=[field.name for field in contract.fields])
    check_table(contract, table, faults, exempt=exempt)
    return table


def settle(
    block: Block, decoded: Decoded, table: pa.Table, found: dict[int, Fault]
) -> tuple[pa.Table, pa.Table]:
    """Split a block into accepted rows and quarantined lines; ``found`` is by wire row."""
    faults = decoded.faults | {int(decoded.rows[row]): fault for row, fault in found.items()}
    positions = decoded.rows + block.first_position
    table = table.append_column(POSITION, pa.array(positions, POSITION.type))
    return _without(table, list(found)), block.quarantine(faults)


def blocks_of(data: Lines, first_position: int) -> Iterator[Block]:
    """Cut the input at line ends into blocks of about BLOCK_BYTES, counting lines as it goes."""
    if isinstance(data, bytes | bytearray | memoryview):
        yield from _cut(data, first_position)
        return
    position = first_position
    records = (bytes(record).removesuffix(b"\n") for record in data)
    for broken, run in groupby(records, key=lambda record: b"\n" in record):
        lines = list(run)
        if broken:
            yield Block(data=b"", first_position=position, lines=lines)
        else:
            yield from _cut(b"\n".join(lines) + b"\n", position)
        position += len(lines)


def _cut(data: bytes | bytearray | memoryview, position: int) -> Iterator[Block]:
    whole, start = memoryview(data), 0
    while start < len(whole):
        end = _block_end(whole, start)
        block = whole[start:end]
        num_lines = count_newlines(block) + (block[-1] != NEWLINE)
        yield Block(data=block, first_position=position, num_lines=num_lines)
        position += num_lines
        start = end


def _block_end(whole: memoryview, start: int) -> int:
    """Behind the last newline of a block from here, else behind the first one beyond it."""
    full = start + BLOCK_BYTES
    if full >= len(whole):
        return len(whole)
    for stop in range(full, start, -WINDOW_BYTES):
        begin = max(start, stop - WINDOW_BYTES)
        if end := bytes(whole[begin:stop]).rfind(b"\n") + 1:
            return begin + end
    for begin in range(full, len(whole), WINDOW_BYTES):
        if end := bytes(whole[begin : begin + WINDOW_BYTES]).find(b"\n") + 1:
            return begin + end
    return len(whole)


def map_blocks(validate: Callable[[Block], Result], blocks: Iterable[Block]) -> list[Result]:
    """Validate blocks on every core (Arrow releases the lock), in order."""
    blocks = list(blocks)
    if len(blocks) == 1:
        return [validate(blocks[0])]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(validate, blocks))


def concat(contract: Contract, parts: list[Validated]) -> Validated:
    """The blocks' results as one; empty input gives empty tables with the same columns."""
    schema = contract.arrow_schema.append(POSITION)
    accepted = [part.accepted for part in parts]
    quarantined = [part.quarantined for part in parts]
    return Validated(
        accepted=pa.concat_tables(accepted or [schema.empty_table()]),
        quarantined=pa.concat_tables(quarantined or [QUARANTINE_SCHEMA.empty_table()]),
        num_received=sum(part.num_received for part in parts),
    )
