"""pgoutput's tuples, a column of all rows at a time.

A tuple's values follow one another, so where a value lies is known when the one before it has been
read; but all rows take each step together. The loop is over columns.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from scale_assets.ingest.postgres.errors import ProtocolError
from scale_assets.ingest.postgres.messages import NULL, TEXT, UNCHANGED

PADDING = b"\0" * 8  # so that a number may be read at any byte of a message

Ints = np.ndarray


class Wire:
    """Bytes in which a big-endian number of any width can be read at many places at once."""

    def __init__(self, data: bytes) -> None:
        """``data`` ends with PADDING, which belongs to no message."""
        self._data = data
        self.buffer = pa.py_buffer(data)
        self.size = len(data) - len(PADDING)
        self._views = {
            width: np.ndarray(self.size, f">u{width}", data, strides=(1,)) for width in (1, 2, 4, 8)
        }

    def read(self, width: int, at: Ints) -> Ints:
        """Unsigned numbers of ``width`` bytes, as int64."""
        numbers: Ints = self._views[width][at].astype(np.int64)
        return numbers

    def slice(self, start: int, end: int) -> bytes:
        return self._data[start:end]

    def bytes_at(self, at: Ints) -> Ints:
        found: Ints = self._views[1][at]
        return found


@dataclass(frozen=True)
class Tuples:
    """The values of many rows of one relation: by column, what and where each is."""

    kinds: list[Ints]
    begins: list[Ints]
    ends: list[Ints]

    def __len__(self) -> int:
        return len(self.begins[0]) if self.begins else 0

    def take(self, rows: Ints) -> "Tuples":
        return Tuples(
            *([column[rows] for column in part] for part in (self.kinds, self.begins, self.ends))
        )

    def only(self, columns: frozenset[int]) -> "Tuples":
        """The same rows, null in every other column."""
        kinds = [
            kinds if at in columns else np.full(len(kinds), NULL, np.uint8)
            for at, kinds in enumerate(self.kinds)
        ]
        return Tuples(kinds, self.begins, self.ends)


def walk(wire: Wire, at: Ints, limits: Ints, *, num_columns: int) -> tuple[Tuples, Ints]:
    """Read a tuple at each place, and where it ends.

    Raises:
        ProtocolError: A tuple reaches beyond its message, or has other columns than its relation.
    """
    _within(at + 2, limits)
    counts = wire.read(2, at)
    if (counts != num_columns).any():
        given = int(counts[counts != num_columns][0])
        raise ProtocolError(f"a tuple of {given} columns in a relation of {num_columns}")
    at = at + 2
    kinds, begins, ends = [], [], []
    for _ in range(num_columns):
        _within(at + 1, limits)
        kind = wire.bytes_at(at)
        begin = at + 1
        is_text = kind == TEXT
        if is_text.all():
            _within(begin + 4, limits)
            end = begin + 4 + wire.read(4, begin)
            begin = begin + 4
        else:
            end = begin.copy()
            texts = np.flatnonzero(is_text)
            _known(kind[~is_text])
            _within(begin[texts] + 4, limits[texts])
            end[texts] += 4 + wire.read(4, begin[texts])
            begin[texts] += 4
        _within(end, limits)
        kinds.append(kind)
        begins.append(begin)
        ends.append(end)
        at = end
    return Tuples(kinds, begins, ends), at


def texts(wire: Wire, kinds: Ints, begins: Ints, ends: Ints) -> pa.Array:
    """One column's values as text, null where there is none; rows in the order of their bytes.

    The values and what lies between them are the elements of one array over the bytes as they
    came; every other one is copied out, none is touched by Python.
    """
    num_rows = len(kinds)
    if not num_rows:
        return pa.array([], pa.string())
    offsets = np.empty(2 * num_rows, np.int64)
    offsets[0::2], offsets[1::2] = begins, ends
    everything = pa.Array.from_buffers(
        pa.large_binary(), 2 * num_rows - 1, [None, pa.py_buffer(offsets), wire.buffer]
    )
    is_absent = kinds != TEXT
    chosen = pa.array(np.arange(0, 2 * num_rows, 2), mask=is_absent if is_absent.any() else None)
    return everything.take(chosen).cast(pa.binary())


def _known(kinds: Ints) -> None:
    unknown = kinds[(kinds != NULL) & (kinds != UNCHANGED)]
    if len(unknown):
        raise ProtocolError(f"a value of kind {chr(unknown[0])!r}; text format was asked for")


def _within(ends: Ints, limits: Ints) -> None:
    if (ends > limits).any():
        raise ProtocolError("a tuple reaches beyond the end of its message")
