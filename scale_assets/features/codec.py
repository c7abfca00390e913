"""Packed feature values: one versioned byte string per entity and view.

Layout, little-endian, without padding:
    version u8 | schema u64 | feature_time i64 us | known_at i64 us | null bitmap | one slot per column | tail
The top bit of version says that the value was loaded from the lake, not pushed. Fixed-width columns sit in their slots; the slot of a string, bytes or list column holds the length
in bytes (u32) of its part of the tail, where the parts follow each other in column order.
"""

import hashlib
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Self

import numpy as np

from scale_assets.errors import ScaleError

VERSION = 1
LOADED = 0x80
HEADER = struct.Struct("<BQqq")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

FIXED = {"bool": "?", "int32": "i", "int64": "q", "float32": "f", "float64": "d", "timestamp": "q"}
LISTS = {f"list<{scalar}>": code for scalar, code in FIXED.items()}
TYPES = (*FIXED, "string", "bytes", *LISTS, "list<string>")


class CodecError(ScaleError):
    """A value that its column's type cannot hold, or bytes of another layout."""


@dataclass(frozen=True, slots=True)
class FeatureRow:
    """One entity's values in one view; lists are numpy arrays, unknown values are None."""

    values: dict[str, Any]
    feature_time: datetime
    known_at: datetime


@dataclass(frozen=True)
class Layout:
    """Column names and types of one view, in order: what a packed value is made of."""

    columns: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        names = [name for name, _ in self.columns]
        if len(set(names)) < len(names):
            raise CodecError(f"columns repeat a name: {names}")
        for name, kind in self.columns:
            if kind not in TYPES:
                raise CodecError(
                    f"column {name!r} has type {kind!r}; use one of {', '.join(TYPES)}"
                )

    @classmethod
    def parse(cls, text: str) -> Self:
        """The inverse of ``text``."""
        pairs = (line.rsplit(" ", 1) for line in text.splitlines())
        return cls(tuple((name, kind) for name, kind in pairs))

    @cached_property
    def text(self) -> str:
        """One "name type" a line; equal texts are equal layouts."""
        return "\n".join(f"{name} {kind}" for name, kind in self.columns)

    @cached_property
    def schema(self) -> int:
        """64 bits of the text's SHA-256: the schema version that every value carries."""
        return int.from_bytes(hashlib.sha256(self.text.encode()).digest()[:8], "little")

    @cached_property
    def bitmap_bytes(self) -> int:
        return (len(self.columns) + 7) // 8

    @cached_property
    def slots(self) -> struct.Struct:
        return struct.Struct("<" + "".join(FIXED.get(kind, "I") for _, kind in self.columns))

    def __hash__(self) -> int:
        return self.schema  # computed once; the thin reader looks a plan up by its layout each time

    @cached_property
    def is_fixed(self) -> bool:
        """Whether every value has the same number of bytes."""
        return all(kind in FIXED for _, kind in self.columns)

    @cached_property
    def tail_start(self) -> int:
        """Where the tail begins; the number of bytes of a value that has none."""
        return HEADER.size + self.bitmap_bytes + self.slots.size

    @cached_property
    def dtype(self) -> np.dtype:
        """The part before the tail as a numpy record, to read many values at once."""
        head = [("version", "u1"), ("schema", "<u8"), ("feature_time", "<i8"), ("known_at", "<i8")]
        bitmap = ("null_bitmap", "u1", (self.bitmap_bytes,))
        slots = [(f"c{i}", "<" + FIXED.get(kind, "I")) for i, (_, kind) in enumerate(self.columns)]
        return np.dtype([*head, bitmap, *slots])

    def encode(
        self, values: Sequence[Any], *, feature_time: int, known_at: int, loaded: bool = False
    ) -> bytes:
        """Pack values given in column order; None is null. Times are microseconds since 1970, UTC.

        Raises:
            CodecError: The number of values differs, or a value does not fit its column's type.
        """
        if len(values) != len(self.columns):
            raise CodecError(f"{len(values)} values for {len(self.columns)} columns")
        null_bits = 0
        slots: list[Any] = []
        tail: list[bytes] = []
        for position, ((name, kind), value) in enumerate(zip(self.columns, values, strict=True)):
            if value is None:
                null_bits |= 1 << position
                slots.append(0)
            elif kind in FIXED:
                slots.append(value)
            else:
                tail.append(_pack_part(name, kind, value))
                slots.append(len(tail[-1]))
        return b"".join(
            (
                HEADER.pack(
                    VERSION | LOADED if loaded else VERSION, self.schema, feature_time, known_at
                ),
                null_bits.to_bytes(self.bitmap_bytes, "little"),
                self._pack_slots(slots),
                *tail,
            )
        )

    @staticmethod
    def tail_part(name: str, kind: str, value: Any) -> bytes:
        """A value's part of the tail; a null has none."""
        return b"" if value is None else _pack_part(name, kind, value)

    def _pack_slots(self, slots: list[Any]) -> bytes:
        try:
            return self.slots.pack(*slots)
        except (struct.error, OverflowError) as error:
            for (name, kind), value in zip(self.columns, slots, strict=True):
                try:
                    struct.pack("<" + FIXED.get(kind, "I"), value)
                except (struct.error, OverflowError):
                    raise CodecError(f"column {name!r}: {value!r} is not a {kind}") from error
            raise

    def values_at(self, data: bytes, now: int) -> dict[str, Any]:  # noqa: ARG002
        """Unpacked values, which are the same at any instant."""
        return self.decode(data).values

    def decode(self, data: bytes) -> FeatureRow:
        """Unpack one value; the inverse of ``encode`` bit for bit.

        Raises:
            CodecError: The bytes are of another codec version or schema.
        """
        version, schema, feature_time, known_at = HEADER.unpack_from(data)
        version &= ~LOADED
        if version != VERSION or schema != self.schema:
            raise CodecError(
                f"bytes of codec {version}, schema {schema:016x}; "
                f"expected codec {VERSION}, schema {self.schema:016x}"
            )
        bitmap_end = HEADER.size + self.bitmap_bytes
        null_bits = int.from_bytes(data[HEADER.size : bitmap_end], "little")
        offset = self.tail_start
        values: dict[str, Any] = {}
        for slot, (name, kind) in zip(
            self.slots.unpack_from(data, bitmap_end), self.columns, strict=True
        ):
            if null_bits & 1:
                values[name] = None
            elif kind in FIXED:
                values[name] = slot
            else:
                values[name] = _unpack_part(kind, data[offset : offset + slot])
                offset += slot
            null_bits >>= 1
        return FeatureRow(values, from_micros(feature_time), from_micros(known_at))


def schema_of(data: bytes) -> int:
    """The schema version that packed bytes were written with."""
    return int(HEADER.unpack_from(data)[1])


def times_of(data: bytes) -> tuple[int, int]:
    """feature_time and known_at of packed bytes, in microseconds: what newer means."""
    _, _, feature_time, known_at = HEADER.unpack_from(data)
    return feature_time, known_at


def is_loaded(data: bytes) -> bool:
    """Whether packed bytes came from the lake."""
    return data[0] >= LOADED


def adapted(value: Any, written: str, wanted: str) -> Any:
    """A value as another type has it, after a column's type was changed; None where it cannot."""
    if value is None or written == wanted:
        return value
    numbers = {"int32": 31, "int64": 63, "float32": 0, "float64": 0}
    if written not in numbers or wanted not in numbers:
        return None
    if wanted.startswith("float"):
        return float(value)
    bits = numbers[wanted]
    fits = written.startswith("int") and -(1 << bits) <= value < 1 << bits
    return value if fits else None


def entity_key(values: Mapping[str, Any]) -> str:
    """The text that identifies an entity online, from its join keys and their values.

    One join key: the value as text. Several: values in order of their keys' names.
    """
    ordered = [str(value) for _, value in sorted(values.items())]
    if len(ordered) == 1:
        return ordered[0]
    return "\x1f".join(part.replace("\\", "\\\\").replace("\x1f", "\\u") for part in ordered)


def key_values(key: str, *, num_keys: int) -> list[str]:
    """The values that ``entity_key`` joined, in order of their keys' names."""
    if num_keys == 1:
        return [key]
    return [
        re.sub(r"\\(.)", lambda found: "\x1f" if found[1] == "u" else found[1], part)
        for part in key.split("\x1f")
    ]


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970; a naive time is UTC, as Feast has it."""
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    return EPOCH + timedelta(microseconds=micros)


def _pack_part(name: str, kind: str, value: Any) -> bytes:
    try:
        match kind:
            case "string":
                return str.encode(value)
            case "bytes":
                return bytes(value)
            case "list<string>":
                parts = [str.encode(part) for part in value]
                lengths = np.array([len(part) for part in parts], dtype="<u4")
                return struct.pack("<I", len(parts)) + lengths.tobytes() + b"".join(parts)
            case _:
                return _pack_numbers(kind, value)
    except (TypeError, ValueError, OverflowError) as error:
        raise CodecError(f"column {name!r}: {_shortened(value)} is not a {kind}") from error


def _pack_numbers(kind: str, value: Any) -> bytes:
    dtype = np.dtype("<" + LISTS[kind])
    array = np.asarray(value)
    if array.size and not np.can_cast(array.dtype, dtype, casting="same_kind"):
        raise TypeError(array.dtype)  # nulls inside a list arrive here as objects
    packed = array.astype(dtype)
    if dtype.kind == "i" and not np.array_equal(packed, array):
        raise OverflowError(value)
    return packed.tobytes()


def _unpack_part(kind: str, part: bytes) -> Any:
    if kind == "string":
        return part.decode()
    if kind == "bytes":
        return part
    if kind != "list<string>":
        return np.frombuffer(part, dtype="<" + LISTS[kind])
    (count,) = struct.unpack_from("<I", part)
    lengths = np.frombuffer(part, dtype="<u4", count=count, offset=4)
    ends = 4 + 4 * count + np.cumsum(lengths, dtype=np.int64)
    strings = [part[end - n : end].decode() for end, n in zip(ends, lengths, strict=True)]
    return np.array(strings, dtype=object)


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
