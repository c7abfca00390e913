"""Where in its source's log a change stands, as one number and an ordinal below it.

| source | lsn | ordinal |
|---|---|---|
| PostgreSQL | ``lsn`` | none |
| MySQL, MariaDB | number of the binlog ``file`` x 2^40 + ``pos`` | ``row`` |
| SQL Server, Db2, Informix | first 64 of the 80 bits of ``change_lsn``, else ``commit_lsn`` | \
the last 16 bits x 2^16 + ``event_serial_no`` |
| Oracle | ``scn`` | none |

Any other source has neither: its changes stand in the order in which they were read. The numbers of
one server grow; after a failover to a server with a log of its own, start the feed again.
"""

import re

import pyarrow as pa
import pyarrow.compute as pc

FILE_SHIFT_BITS = 40  # binlogs up to 1 TiB, and eight million of them
MAX_FILE_NUMBER, MAX_POS = 2 ** (63 - FILE_SHIFT_BITS) - 1, 2**FILE_SHIFT_BITS - 1
HEX_LSN = re.compile(r"^([0-7][0-9a-fA-F]{7}):([0-9a-fA-F]{8}):([0-9a-fA-F]{4})$")
SERIAL_BITS = 16
INT64 = pa.int64()

Positions = tuple[pa.ChunkedArray, pa.ChunkedArray]


def log_positions(wire: pa.Table) -> Positions:
    """The lsn and the ordinal of each change; null where the source gives none."""
    lsn, ordinal = wire["lsn"], pa.chunked_array([pa.nulls(wire.num_rows, INT64)])
    for column, read in (("file", _binlog), ("change_lsn", _hex), ("commit_lsn", _hex)):
        if wire[column].null_count < wire.num_rows:
            found, below = read(wire, column)
            # A position without an lsn: what was found first stays.
            ordinal = pc.if_else(pc.is_null(lsn), below, ordinal)
            lsn = pc.coalesce(lsn, found)
    if wire["scn"].null_count < wire.num_rows:
        lsn = pc.coalesce(lsn, _whole_number(wire["scn"]))
    return lsn, ordinal


def _binlog(wire: pa.Table, column: str) -> Positions:
    number = _whole_number(
        pc.struct_field(pc.extract_regex(wire[column], r"\.(?P<number>\d+)$"), "number")
    )
    is_held = pc.and_(
        pc.less_equal(number, MAX_FILE_NUMBER),
        pc.and_(pc.greater_equal(wire["pos"], 0), pc.less_equal(wire["pos"], MAX_POS)),
    )
    lsn = pc.add(pc.shift_left(pc.if_else(is_held, number, None), FILE_SHIFT_BITS), wire["pos"])
    return lsn, pc.if_else(pc.is_valid(lsn), wire["row"], None)


def _hex(wire: pa.Table, column: str) -> Positions:
    serials = wire["event_serial_no"].to_pylist()
    lsns: list[int | None] = []
    ordinals: list[int | None] = []
    for text, serial in zip(wire[column].to_pylist(), serials, strict=True):
        parts = HEX_LSN.match(text or "")
        if parts is None:
            lsns.append(None)
            ordinals.append(None)
            continue
        log, block, slot = (int(part, 16) for part in parts.groups())
        lsns.append(log << 32 | block)
        ordinals.append(slot << SERIAL_BITS | ((serial or 0) & (2**SERIAL_BITS - 1)))
    return pa.chunked_array([lsns], INT64), pa.chunked_array([ordinals], INT64)


def _whole_number(texts: pa.ChunkedArray) -> pa.ChunkedArray:
    digits = pc.match_substring_regex(texts, r"^\d{1,18}$")
    return pc.if_else(digits, texts, None).cast(INT64)
