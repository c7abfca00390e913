"""JSON lines built column by column, since one json.dumps per click would take minutes."""

import json
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = pa.Array | pa.ChunkedArray | pa.Scalar


def json_objects(fields: Mapping[str, Column], *, end: str = "") -> pa.Array:
    """One JSON object per row, from columns that already hold JSON text, plus ``end``."""
    pieces: list[Any] = []
    opening = "{"
    for name, values in fields.items():
        pieces += [f'{opening}"{name}":', values]
        opening = ","
    return pc.binary_join_element_wise(*pieces, "}" + end, "")


def json_text(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Strings as JSON, escaped; null as null. Cheap where values repeat."""
    encoded = _flat(values).dictionary_encode()
    texts = [json.dumps(value) for value in encoded.dictionary.to_pylist()]
    return _or_null(pa.array(texts, pa.string()).take(encoded.indices))


def json_plain_text(values: pa.Array) -> pa.Array:
    """Strings without anything to escape, as JSON."""
    return pc.binary_join_element_wise('"', values, '"', "")


def json_whole(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Integers as JSON; null as null."""
    return _or_null(_flat(values).cast(pa.string()))


def json_real(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Doubles as JSON with a decimal point (78.0, not 78); null and NaN as null."""
    encoded = _flat(values).dictionary_encode()
    texts = [
        None if math.isnan(value) else json.dumps(value) for value in encoded.dictionary.to_pylist()
    ]
    return _or_null(pa.array(texts, pa.string()).take(encoded.indices))


def json_flag(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    """0 and 1 as false and true."""
    return pc.if_else(pc.not_equal(_flat(values), 0), "true", "false")


def json_date(days: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Days since 1970-01-01 as "YYYY-MM-DD"; null as null."""
    return _or_null(json_plain_text(iso_dates(days)))


def json_midnight(days: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Days since 1970-01-01 as 00:00 UTC, "YYYY-MM-DDT00:00:00Z"."""
    return pc.binary_join_element_wise('"', iso_dates(days), 'T00:00:00Z"', "")


def iso_dates(days: pa.Array | pa.ChunkedArray) -> pa.Array:
    """Days since 1970-01-01 as YYYY-MM-DD."""
    return _flat(days).cast(pa.int32()).cast(pa.date32()).cast(pa.string())


def line_bytes(lines: pa.Array) -> memoryview:
    """The text of all lines on end, without a copy: a string array's data is contiguous."""
    assert lines.null_count == 0, "a null piece would drop a whole line"
    if not len(lines):
        return memoryview(b"")
    _, offsets, data = lines.buffers()
    ends = np.frombuffer(offsets, np.int32)[lines.offset : lines.offset + len(lines) + 1]
    return memoryview(data)[int(ends[0]) : int(ends[-1])]


def _flat(values: pa.Array | pa.ChunkedArray) -> pa.Array:
    return values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values


def _or_null(texts: pa.Array) -> pa.Array:
    return pc.fill_null(texts, "null")
