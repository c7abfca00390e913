"""A block of lines to Arrow columns by the C reader, in the contract's own types.

The lines that it is not sure of are left for ``decode.py``. Without the library, all are.
"""

import json
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pyarrow as pa

from scale_assets.contracts.model import Contract, Field
from scale_assets.contracts.native import library
from scale_assets.contracts.native.library import Rows

KINDS = {
    "string": library.STRING,
    "integer": library.INTEGER,
    "number": library.NUMBER,
    "boolean": library.BOOLEAN,
    "date": library.DATE,
    "timestamp": library.TIMESTAMP,
}


@dataclass(frozen=True)
class Layout:
    """A contract's fields as the C reader looks for them."""

    fields: tuple[Field, ...]
    names: tuple[bytes, ...]
    kinds: np.ndarray
    is_open: bool


@dataclass(frozen=True, kw_only=True)
class Columns:
    """``lines[i]`` is the line of row i; ``unsure`` lines are still to be read, blank ones never."""

    table: pa.Table
    lines: np.ndarray
    unsure: np.ndarray
    num_blank: int
    stops: np.ndarray  # where each line ends in the block

    def line(self, data: bytes | memoryview, line: int) -> bytes:
        start = self.stops[line - 1] + 1 if line else 0
        return bytes(data[start : self.stops[line]])


@lru_cache(maxsize=128)
def layout_of(contract: Contract) -> Layout | None:
    """None where the C reader is not built, or does not know a field's type."""
    fields = contract.fields
    if not fields or not library.is_built() or any(f.type not in KINDS for f in fields):
        return None
    names = tuple(json.dumps(field.name, ensure_ascii=False).encode() for field in fields)
    kinds = np.array([KINDS[field.type] for field in fields], np.uint8)
    return Layout(fields, names, kinds, contract.open)


def read_columns(
    layout: Layout, data: bytes | memoryview, num_lines: int, max_line_bytes: int
) -> Columns:
    """Every line that is surely a record."""
    rows = library.read_lines(
        data,
        num_lines,
        layout.names,
        layout.kinds,
        is_open=layout.is_open,
        max_line_bytes=max_line_bytes,
    )
    arrays = [_column(rows, index, field) for index, field in enumerate(layout.fields)]
    schema = pa.schema([(field.name, field.arrow_type) for field in layout.fields])
    return Columns(
        table=pa.Table.from_arrays(arrays, schema=schema),
        lines=rows.lines,
        unsure=np.flatnonzero(rows.fates == library.UNSURE),
        num_blank=int(np.count_nonzero(rows.fates == library.BLANK)),
        stops=rows.stops,
    )


def _column(rows: Rows, index: int, field: Field) -> pa.Array:
    states = rows.states[index, : rows.num_rows]
    if field.type == "string":
        return _texts(rows, index, states)
    values = rows.values[index, : rows.num_rows]
    if field.type == "number":
        values = _exact(rows, index, values, states)
    elif field.type == "boolean":
        values = np.packbits(values != 0, bitorder="little")
    elif field.type == "date":
        values = values.astype(np.int32)
    buffers = [_validity(states), pa.py_buffer(values)]
    return pa.Array.from_buffers(field.arrow_type, rows.num_rows, buffers)


def _texts(rows: Rows, index: int, states: np.ndarray) -> pa.Array:
    offsets, texts = rows.texts(index, states)
    buffers = [_validity(states), pa.py_buffer(offsets), pa.py_buffer(texts)]
    return pa.Array.from_buffers(pa.string(), rows.num_rows, buffers)


def _validity(states: np.ndarray) -> pa.Buffer | None:
    if states.all():  # none is ABSENT
        return None
    return pa.py_buffer(np.packbits(states != library.ABSENT, bitorder="little"))


def _exact(rows: Rows, index: int, values: np.ndarray, states: np.ndarray) -> np.ndarray:
    """Doubles; those that were left as text are read by Arrow, which rounds correctly."""
    numbers = values.view(np.float64)
    is_text = states == library.AS_TEXT
    if is_text.any():
        read = _texts(rows, index, states * is_text).cast(pa.float64())
        numbers = np.where(is_text, read.to_numpy(zero_copy_only=False), numbers)
    return numbers
