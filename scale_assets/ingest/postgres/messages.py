"""pgoutput's messages one at a time: those that describe, and come seldom.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

import struct
from dataclasses import dataclass
from typing import Any

from scale_assets.ingest.postgres.errors import ProtocolError

BEGIN, COMMIT, RELATION, TYPE, ORIGIN, MESSAGE = b"BCRYOM"
INSERT, UPDATE, DELETE, TRUNCATE = b"IUDT"
KNOWN = b"BCRYOMIUDT"
NEW, OLD, KEY = b"NOK"  # what a tuple shows
NULL, UNCHANGED, TEXT = b"nut"  # what a tuple's value is
IS_KEY = 1
SYSTEM_SCHEMA = "pg_catalog"


@dataclass(frozen=True)
class Column:
    """A column of a relation; ``is_key``: a part of the replica identity."""

    name: str
    type_oid: int
    is_key: bool


@dataclass(frozen=True)
class Relation:
    """A table as it was defined when the following changes were made."""

    oid: int
    schema: str
    table: str
    identity: str  # d: primary key, n: nothing, f: all columns, i: an index
    columns: tuple[Column, ...]

    @property
    def name(self) -> str:
        return f"{self.schema}.{self.table}"

    @property
    def column_names(self) -> list[str]:
        return [column.name for column in self.columns]

    @property
    def identity_columns(self) -> frozenset[str]:
        return frozenset(column.name for column in self.columns if column.is_key)


@dataclass(frozen=True)
class LogicalMessage:
    """What pg_logical_emit_message wrote."""

    prefix: str
    content: bytes
    lsn: int
    is_transactional: bool


class Cursor:
    """Reads one message from its second byte on."""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._at = 1

    def numbers(self, format_: str) -> tuple[Any, ...]:
        """Big-endian numbers, as ``struct`` writes their format."""
        reader = struct.Struct(f">{format_}")
        try:
            found = reader.unpack_from(self._message, self._at)
        except struct.error as error:
            raise self._broken() from error
        self._at += reader.size
        return found

    def text(self) -> str:
        end = self._message.find(b"\0", self._at)
        if end < 0:
            raise self._broken()
        raw, self._at = self._message[self._at : end], end + 1
        try:
            return raw.decode()
        except UnicodeDecodeError as error:
            raise ProtocolError(f"name {raw!r} is not UTF-8") from error

    def rest(self, length: int) -> bytes:
        found = self._message[self._at : self._at + length]
        if len(found) != length:
            raise self._broken()
        self._at += length
        return found

    def end(self) -> None:
        if self._at != len(self._message):
            raise self._broken()

    def _broken(self) -> ProtocolError:
        tag, size = chr(self._message[0]), len(self._message)
        return ProtocolError(f"message {tag!r} of {size} bytes does not end where it should")


def read_relation(message: bytes) -> Relation:
    """An 'R' message.

    Raises:
        ProtocolError: It is cut short, too long, or names a column twice.
    """
    cursor = Cursor(message)
    (oid,) = cursor.numbers("I")
    schema, table = cursor.text() or SYSTEM_SCHEMA, cursor.text()
    identity, num_columns = cursor.numbers("cH")
    columns = []
    for _ in range(num_columns):
        (flags,) = cursor.numbers("B")
        name = cursor.text()
        type_oid, _modifier = cursor.numbers("Ii")
        columns.append(Column(name, type_oid, bool(flags & IS_KEY)))
    cursor.end()
    if len({column.name for column in columns}) < num_columns:
        raise ProtocolError(f"relation {schema}.{table} names a column twice")
    return Relation(oid, schema, table, identity.decode("latin-1"), tuple(columns))


def read_type(message: bytes) -> tuple[int, str]:
    """A 'Y' message: the type's number, and its name; a domain's is that of what it is made of."""
    cursor = Cursor(message)
    (oid,) = cursor.numbers("I")
    schema, name = cursor.text() or SYSTEM_SCHEMA, cursor.text()
    cursor.end()
    return oid, name if schema == SYSTEM_SCHEMA else f"{schema}.{name}"


def read_truncate(message: bytes) -> list[int]:
    """A 'T' message: the relations that it empties."""
    cursor = Cursor(message)
    num_relations, _options = cursor.numbers("IB")
    if num_relations * 4 > len(message):
        raise ProtocolError(f"a truncate of {num_relations} relations in {len(message)} bytes")
    oids = list(cursor.numbers(f"{num_relations}I"))
    cursor.end()
    return oids


def read_message(message: bytes) -> LogicalMessage:
    """An 'M' message."""
    cursor = Cursor(message)
    flags, lsn = cursor.numbers("BQ")
    prefix = cursor.text()
    (length,) = cursor.numbers("I")
    content = cursor.rest(length)
    cursor.end()
    return LogicalMessage(prefix, content, lsn, bool(flags & 1))
