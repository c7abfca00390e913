"""Arrow columns into packed values, whole batches at once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from scale_assets.features.codec import FIXED, LISTS, LOADED, VERSION, CodecError, Layout

COPIED = {f"list<{kind}>" for kind in ("int32", "int64", "float32", "float64")}


def pack_columns(
    layout: Layout, columns: Sequence[pa.Array], *, feature_time: pa.Array, known_at: pa.Array
) -> list[bytes]:
    """What ``Layout.encode`` makes of each row, as loaded; times are int64 microseconds.

    Raises:
        CodecError: A value does not fit its column's type.
    """
    records = np.zeros(len(feature_time), dtype=layout.dtype)
    records["version"] = VERSION | LOADED
    records["schema"] = layout.schema
    records["feature_time"] = feature_time.to_numpy(zero_copy_only=False)
    records["known_at"] = known_at.to_numpy(zero_copy_only=False)
    tails = []
    for position, ((name, kind), column) in enumerate(zip(layout.columns, columns, strict=True)):
        if column.null_count:
            is_null = column.is_null().to_numpy(zero_copy_only=False).astype(np.uint8)
            records["null_bitmap"][:, position // 8] |= is_null << (position % 8)
        if kind in FIXED:
            records[f"c{position}"] = _numbers(name, kind, column)
        else:
            parts = _parts(layout, position, column)
            records[f"c{position}"] = list(map(len, parts))
            tails.append(parts)
    size = layout.tail_start
    whole = records.tobytes()
    heads = [whole[start : start + size] for start in range(0, len(whole), size)]
    if not tails:
        return heads
    return [b"".join(pieces) for pieces in zip(heads, *tails, strict=True)]


def column_values(column: pa.Array, kind: str) -> list[Any]:
    """An Arrow column as values that the codec packs; numeric lists stay numpy arrays."""
    if kind == "timestamp":
        return list(column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist())
    if kind in COPIED and column.values.null_count == 0:
        flat = column.values.to_numpy(zero_copy_only=False)
        offsets = column.offsets.to_numpy()
        is_null = column.is_null().to_pylist()
        return [
            None if is_null[i] else flat[offsets[i] : offsets[i + 1]] for i in range(len(column))
        ]
    return list(column.to_pylist())


def _numbers(name: str, kind: str, column: pa.Array) -> np.ndarray:
    wanted = np.dtype("<" + FIXED[kind])
    if kind == "timestamp":
        column = column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    try:
        if kind != "timestamp":
            column = column.cast(pa.from_numpy_dtype(wanted))
        filled = column.fill_null(False if kind == "bool" else 0)
    except pa.ArrowInvalid as error:
        raise CodecError(f"column {name!r}: {error}; it is declared as {kind}") from error
    numbers: np.ndarray = filled.to_numpy(zero_copy_only=False)
    return numbers


def _parts(layout: Layout, position: int, column: pa.Array) -> list[bytes]:
    """Each row's part of the tail; a null has none."""
    name, kind = layout.columns[position]
    if kind == "string":
        return [value or b"" for value in column.cast(pa.binary()).to_pylist()]
    if kind in COPIED and column.values.null_count == 0:
        return _slices(column, np.dtype("<" + LISTS[kind]))
    values = column_values(column, kind)
    return [layout.tail_part(name, kind, value) for value in values]


def _slices(column: pa.ListArray, dtype: np.dtype) -> list[bytes]:
    """Number lists as slices of one buffer."""
    numbers = column.values.cast(pa.from_numpy_dtype(dtype)).to_numpy(zero_copy_only=False)
    whole = np.ascontiguousarray(numbers, dtype=dtype).tobytes()
    ends = column.offsets.to_numpy() * dtype.itemsize
    if column.null_count:  # a null may still span values
        is_null = column.is_null().to_pylist()
        return [b"" if is_null[i] else whole[ends[i] : ends[i + 1]] for i in range(len(column))]
    return [whole[ends[i] : ends[i + 1]] for i in range(len(column))]
