"""pgoutput's messages written as PostgreSQL writes them, to be read by the decoder."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from scale_assets.ingest.postgres.transactions import EPOCH_US

UNCHANGED = object()
Value = str | None | object


def frame(message: bytes, *, sent_us: int = EPOCH_US) -> bytes:
    return struct.pack(">cQQq", b"w", 0, 0, sent_us - EPOCH_US) + message


def begin(lsn: int, *, xid: int = 7, at_us: int = EPOCH_US) -> bytes:
    return struct.pack(">cQqI", b"B", lsn, at_us - EPOCH_US, xid)


def commit(lsn: int, *, at_us: int = EPOCH_US) -> bytes:
    return struct.pack(">cBQQq", b"C", 0, lsn, lsn + 40, at_us - EPOCH_US)


@dataclass(frozen=True)
class Described:
    """A relation as a test names it: columns are (name, type number, part of the identity)."""

    oid: int = 16384
    schema: str = "public"
    table: str = "t"
    identity: bytes = b"d"
    columns: tuple[tuple[str, int, bool], ...] = (("id", 20, True), ("name", 25, False))

    def message(self) -> bytes:
        head = struct.pack(">cI", b"R", self.oid)
        head += self.schema.encode() + b"\0" + self.table.encode() + b"\0"
        head += self.identity + struct.pack(">H", len(self.columns))
        return head + b"".join(
            struct.pack(">B", is_key) + name.encode() + b"\0" + struct.pack(">Ii", type_, -1)
            for name, type_, is_key in self.columns
        )

    def insert(self, *values: Value) -> bytes:
        return struct.pack(">cI", b"I", self.oid) + b"N" + row(values)

    def update(
        self, *values: Value, key: Sequence[Value] | None = None, old: Sequence[Value] | None = None
    ) -> bytes:
        head = struct.pack(">cI", b"U", self.oid)
        if key is not None:
            head += b"K" + row(key)
        if old is not None:
            head += b"O" + row(old)
        return head + b"N" + row(values)

    def delete(self, *key: Value) -> bytes:
        return struct.pack(">cI", b"D", self.oid) + b"K" + row(key)

    def truncate(self) -> bytes:
        return struct.pack(">cIBI", b"T", 1, 0, self.oid)


def row(values: Sequence[Value]) -> bytes:
    return struct.pack(">H", len(values)) + b"".join(map(_value, values))


def type_(oid: int, schema: str, name: str) -> bytes:
    return struct.pack(">cI", b"Y", oid) + schema.encode() + b"\0" + name.encode() + b"\0"


def logical_message(prefix: str, content: bytes, *, is_transactional: bool = True) -> bytes:
    head = struct.pack(">cBQ", b"M", is_transactional, 1)
    return head + prefix.encode() + b"\0" + struct.pack(">I", len(content)) + content


def _value(value: Value) -> bytes:
    if value is None:
        return b"n"
    if value is UNCHANGED:
        return b"u"
    text = str(value).encode()
    return b"t" + struct.pack(">I", len(text)) + text
