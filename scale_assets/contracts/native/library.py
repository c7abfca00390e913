"""The C reader as Python sees it: two functions over NumPy arrays, which let other threads run."""

import ctypes
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import pyarrow as pa

from scale_assets.contracts.native.build import library_path

STRING, INTEGER, NUMBER, BOOLEAN, DATE, TIMESTAMP = range(6)  # kinds of fields, as in lines.c
READ, BLANK, UNSURE = range(3)  # what became of a line
ABSENT, PRESENT, AS_TEXT = range(3)  # a value; AS_TEXT is a number that needs an exact reader


class _Fields(ctypes.Structure):
    _fields_ = (
        ("names", ctypes.POINTER(ctypes.c_char_p)),
        ("sizes", ctypes.c_void_p),
        ("kinds", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("is_open", ctypes.c_bool),
        ("order", ctypes.c_void_p),
        ("seen", ctypes.c_void_p),
    )


class _Columns(ctypes.Structure):
    _fields_ = (
        ("num_rows", ctypes.c_int64),
        ("values", ctypes.c_void_p),
        ("sizes", ctypes.c_void_p),
        ("states", ctypes.c_void_p),
    )


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What was read of a block; values, sizes and states are by field, then by row."""

    block: np.ndarray  # uint8
    num_rows: int
    stops: np.ndarray  # by line: where it ends, without its newline
    fates: np.ndarray  # by line: READ, BLANK or UNSURE
    lines: np.ndarray  # by row
    values: np.ndarray  # int64: the value, or where its text begins
    sizes: np.ndarray  # int32: bytes of the text
    states: np.ndarray  # uint8: ABSENT, PRESENT or AS_TEXT

    def texts(self, field: int, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A column's texts, without those that ``states`` has as ABSENT, as Arrow lays them out."""
        sizes = self.sizes[field, : self.num_rows]
        offsets = _allocated((self.num_rows + 1,), np.int32)
        num_bytes = int(sizes.sum(where=states != ABSENT, dtype=np.int64))
        texts = _allocated((num_bytes,), np.uint8)
        arrays = (self.values[field], sizes, states, offsets, texts)
        addresses = [array.ctypes.data for array in arrays]
        _library().scale_gather(self.block.ctypes.data, len(self.block), self.num_rows, *addresses)
        return offsets, texts


def is_built() -> bool:
    return library_path().exists()


def read_lines(
    data: bytes | memoryview,
    num_lines: int,
    names: Sequence[bytes],
    kinds: np.ndarray,
    *,
    is_open: bool,
    max_line_bytes: int,
) -> Rows:
    """Read a block; ``names`` are in quotes, as JSON writes them, one for each of ``kinds``."""
    block = np.frombuffer(data, np.uint8)
    count = len(names)
    stops, lines = np.empty(num_lines, np.int64), np.empty(num_lines, np.int64)
    fates = np.empty(num_lines, np.uint8)
    # One row more: a line that is not sure leaves its traces behind the last row.
    values = _allocated((count, num_lines + 1), np.int64)
    sizes = _allocated((count, num_lines + 1), np.int32)
    states = _allocated((count, num_lines + 1), np.uint8)
    states.fill(ABSENT)
    name_sizes = np.array([len(name) for name in names], np.int64)
    order, seen = np.arange(count, dtype=np.int64), np.full(count, -1, np.int64)
    fields = _Fields(
        (ctypes.c_char_p * count)(*names),
        *(name_sizes.ctypes.data, kinds.ctypes.data, count, is_open),
        *(order.ctypes.data, seen.ctypes.data),
    )
    columns = _Columns(num_lines + 1, values.ctypes.data, sizes.ctypes.data, states.ctypes.data)
    num_rows = _library().scale_read_lines(
        *(block.ctypes.data, len(block), ctypes.byref(fields), ctypes.byref(columns), num_lines),
        *(max_line_bytes, stops.ctypes.data, fates.ctypes.data, lines.ctypes.data),
    )
    return Rows(
        block=block,
        num_rows=num_rows,
        stops=stops,
        fates=fates,
        lines=lines[:num_rows],
        values=values,
        sizes=sizes,
        states=states,
    )


def _allocated(shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    """From Arrow's pool, which gives memory back; of malloc's a long run would keep ever more."""
    size = math.prod(shape)
    buffer = pa.allocate_buffer(max(size, 1) * np.dtype(dtype).itemsize)
    return np.frombuffer(buffer, dtype)[:size].reshape(shape)


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(str(library_path()))
    address, number = ctypes.c_void_p, ctypes.c_int64
    library.scale_read_lines.restype = number
    library.scale_read_lines.argtypes = (
        *(address, number, address, address, number),
        *(number, address, address, address),
    )
    library.scale_gather.restype = None
    library.scale_gather.argtypes = (address, number, number, *[address] * 5)
    return library
