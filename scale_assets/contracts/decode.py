"""Lines to Arrow: whole blocks at once, and line by line only where a block is refused.

A *wire* table holds what JSON can say (strings, 64-bit integers, doubles, booleans), before dates
and times are read. ``fast`` must accept nothing that ``strict`` refuses; what it refuses, strict
decides. tests/contracts/test_paths_agree.py compares the two on hostile lines.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.decimals import in_precision
from scale_assets.contracts.faults import Fault, LineFault, Rule

STRICT_BELOW_LINES = 32  # a refused block this small is read line by line
SEARCH_FAN_OUT = 8
HINT_BELOW_LINES = 2048  # in a refused block this small, go straight to the line that was named
COUNT_BYTES = 1 << 18
MAX_NESTING = 64  # pyarrow's reader crashes on very deep JSON, so deep lines never reach it
BLANK = b" \t\r"
NEWLINE, RETURN, OPEN, CLOSE = b"\n\r{}"
SOUND = {pa.float64().id: pc.is_finite, pa.decimal128(1).id: in_precision}


@dataclass(frozen=True)
class Refused:
    """A block that strict reading must look at, and which of its lines to suspect, if known."""

    line: int | None = None


@dataclass(frozen=True, kw_only=True)
class Decoder:
    """The two ways to read one kind of line, and the schema that both return."""

    wire_schema: pa.Schema
    fast: Callable[[bytes], pa.Table | Refused]  # whole lines
    strict: Callable[[bytes], dict[str, Any] | None]  # one line, None to ignore; raises LineFault
    skips_values: bool = False  # whether fast passes over values that the wire schema lacks
    unwrap: Callable[[bytes], tuple[bytes, int]] | None = None  # the lines inside their wrapping,
    # and the bytes that each line lost by it
    tombstone: bytes | None = None  # a line that only says that a deleted key may be forgotten


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """``rows[i]`` is the line of ``wire`` row i; the others are faults, ignored or blank."""

    wire: pa.Table
    rows: np.ndarray
    faults: dict[int, Fault]
    num_received: int
    num_tombstones: int = 0
    num_ignored: int = 0  # lines that strict reading passed over


def decode_block(
    decoder: Decoder, data: bytes, *, lines: list[bytes] | None, max_line_bytes: int
) -> Decoded:
    """Decode a block of lines; ``lines`` is given when newlines do not separate the records."""
    if lines is not None:
        return _search(decoder, lines, max_line_bytes, whole_was_refused=False)
    wire = fast_block(decoder, data, max_line_bytes)
    if isinstance(wire, pa.Table):
        rows = np.arange(wire.num_rows)
        return Decoded(wire=wire, rows=rows, faults={}, num_received=wire.num_rows)
    return _search(decoder, split_lines(data), max_line_bytes, whole_was_refused=True)


def count_newlines(data: bytes | memoryview) -> int:
    """Faster than ``bytes.count``, a piece at a time that the processor's cache holds."""
    bytes_ = np.frombuffer(data, np.uint8)
    pieces = range(0, len(bytes_), COUNT_BYTES)
    return sum(int(np.count_nonzero(bytes_[at : at + COUNT_BYTES] == NEWLINE)) for at in pieces)


def split_lines(data: bytes) -> list[bytes]:
    """Lines without their newline; what follows the last newline counts when there is any."""
    return data.removesuffix(b"\n").split(b"\n") if data else []


def fast_block(decoder: Decoder, data: bytes, max_line_bytes: int) -> pa.Table | Refused:
    """The wire table of a block that is clean throughout."""
    if decoder.unwrap is None:
        return fast_lines(decoder, data, max_line_bytes)
    inner, wrapping_bytes = decoder.unwrap(data)
    return fast_lines(decoder, inner, max_line_bytes - wrapping_bytes)


def fast_lines(decoder: Decoder, data: bytes, max_line_bytes: int) -> pa.Table | Refused:
    """One wire row per line, unless a line may not be exactly one plain object.

    No valid JSON has ``}``, newline, ``{`` inside an object, so when every line begins and ends
    with a brace, and the reader found as many objects as lines, each line is one object.
    """
    num_lines = count_objects(data, max_line_bytes)
    if not num_lines or (decoder.skips_values and _is_risky(data, num_lines)):
        return Refused()
    table = decoder.fast(data)
    if isinstance(table, Refused) or (table.num_rows == num_lines and is_sound(table)):
        return table
    return Refused()


def count_objects(data: bytes, max_line_bytes: int) -> int:
    """Lines in ``data`` when each is UTF-8, between braces, and short enough; else 0."""
    if not data or b"\0" in data or not is_utf8(data):
        return 0
    bytes_ = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(bytes_ == NEWLINE)
    if not ends.size or ends[-1] != len(data) - 1:
        ends = np.append(ends, len(data))
    starts = np.concatenate(([0], ends[:-1] + 1))
    sizes = ends - starts
    if sizes.min() < len(b"{}") or sizes.max() > max_line_bytes:
        return 0
    last = bytes_[ends - 1]
    if (last == RETURN).all():
        last = bytes_[ends - 2]
    between_braces = (bytes_[starts] == OPEN).all() and (last == CLOSE).all()
    return len(starts) if between_braces else 0


def is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_sound(table: pa.Table) -> bool:
    """False when pyarrow read what is none: NaN and Infinity, or more digits than a decimal has."""
    for column in table.itercolumns():
        values = pc.list_flatten(column) if pa.types.is_list(column.type) else column
        check = SOUND.get(values.type.id)
        if check is not None and pc.all(check(values)).as_py() is False:
            return False
    return True


def _is_risky(data: bytes, num_lines: int) -> bool:
    """Whether a skipped value may hold what JSON does not allow, or nest too deep to read."""
    if b"NaN" in data or b"Inf" in data:
        return True
    if data.count(b"[") + data.count(b"{") - num_lines < MAX_NESTING:
        return False
    bytes_ = np.frombuffer(data, np.uint8)
    openers = np.flatnonzero((bytes_ == OPEN) | (bytes_ == ord("[")))
    lines = np.searchsorted(np.flatnonzero(bytes_ == NEWLINE), openers)
    return bool((lines[MAX_NESTING:] == lines[:-MAX_NESTING]).any())


def _search(
    decoder: Decoder, lines: list[bytes], max_line_bytes: int, *, whole_was_refused: bool
) -> Decoded:
    """Find exactly the bad lines: split what is refused, read strictly what is small."""
    faults: dict[int, Fault] = {}
    received = [row for row, line in enumerate(lines) if line.strip(BLANK)]
    records = [row for row in received if lines[row].strip(BLANK) != decoder.tombstone]
    readable = [row for row in records if not _is_too_large(lines, row, max_line_bytes, faults)]
    pieces = _Pieces(decoder, lines, faults)
    pending = [readable]
    if whole_was_refused and len(readable) == len(lines):
        pending = _split(readable, Refused())
    while pending:
        rows = pending.pop()
        if len(rows) < STRICT_BELOW_LINES:
            pieces.read_strictly(rows)
            continue
        table = _fast_rows(decoder, lines, rows, max_line_bytes)
        if isinstance(table, Refused):
            pending.extend(_split(rows, table))
        else:
            pieces.add(table, rows)
    wire, kept = pieces.joined()
    return Decoded(
        wire=wire,
        rows=kept,
        faults=faults,
        num_received=len(received),
        num_tombstones=len(received) - len(records),
        num_ignored=pieces.num_ignored,
    )


def _is_too_large(
    lines: list[bytes], row: int, max_line_bytes: int, faults: dict[int, Fault]
) -> bool:
    size = len(lines[row])
    if size > max_line_bytes:
        reason = f"the line has {size} bytes; at most {max_line_bytes} are read"
        faults[row] = Fault(Rule.TOO_LARGE, reason)
    return size > max_line_bytes


def _split(rows: list[int], refused: Refused) -> list[list[int]]:
    """Smaller parts of a refused one, the last part first, so that popping keeps the order."""
    few = STRICT_BELOW_LINES - 1
    # The reader counts objects: of a line that holds two, it may name one past the last line.
    is_named = refused.line is not None and refused.line < len(rows) <= HINT_BELOW_LINES
    if not is_named:
        size = max(few, -(-len(rows) // SEARCH_FAN_OUT))
        return [rows[at : at + size] for at in range(0, len(rows), size)][::-1]
    at = cast("int", refused.line)
    parts = [rows[:at], rows[at : at + 1], rows[at + 1 :]] if at > few else [rows[:few], rows[few:]]
    return [part for part in parts if part][::-1]


def _fast_rows(
    decoder: Decoder, lines: list[bytes], rows: list[int], max_line_bytes: int
) -> pa.Table | Refused:
    records = [lines[row] for row in rows]
    is_broken = any(b"\n" in record for record in records)
    return Refused() if is_broken else fast_block(decoder, b"\n".join(records), max_line_bytes)


class _Pieces:
    """Wire rows in order, some read as tables and some line by line."""

    def __init__(self, decoder: Decoder, lines: list[bytes], faults: dict[int, Fault]) -> None:
        self.decoder, self.lines, self.faults = decoder, lines, faults
        self.tables: list[pa.Table] = []
        self.rows: list[int] = []
        self.records: list[dict[str, Any]] = []  # read strictly since the last table
        self.num_ignored = 0

    def add(self, table: pa.Table, rows: Sequence[int]) -> None:
        self._flush()
        self.tables.append(table)
        self.rows.extend(rows)

    def read_strictly(self, rows: Sequence[int]) -> None:
        for row in rows:
            try:
                record = self.decoder.strict(self.lines[row])
            except LineFault as refused:
                self.faults[row] = refused.fault
                continue
            if record is None:
                self.num_ignored += 1
            else:
                self.records.append(record)
                self.rows.append(row)

    def joined(self) -> tuple[pa.Table, np.ndarray]:
        self._flush()
        tables = self.tables or [self.decoder.wire_schema.empty_table()]
        return pa.concat_tables(tables), np.array(self.rows, dtype=np.int64)

    def _flush(self) -> None:
        if self.records:
            schema = self.decoder.wire_schema
            self.tables.append(pa.Table.from_pylist(self.records, schema=schema))
            self.records = []
