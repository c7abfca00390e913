"""What Debezium writes for a value that it was not sent: PostgreSQL's unchanged TOAST columns."""

import base64

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

PLACEHOLDER = b"__debezium_unavailable_value"  # unavailable.value.placeholder's default
# As text; and for bytes, whichever of them binary.handling.mode chooses.
WRITTEN = (
    PLACEHOLDER.decode(),
    base64.b64encode(PLACEHOLDER).decode(),
    PLACEHOLDER.hex(),
    PLACEHOLDER.hex().upper(),
)


def is_unavailable(column: pa.ChunkedArray) -> np.ndarray:
    """Where a column of a change event holds the placeholder instead of its value.

    An array of texts holds it as its one element, an array of integers as its bytes.
    """
    if pa.types.is_string(column.type):
        return _true(pc.is_in(column, value_set=pa.array(WRITTEN)))
    if pa.types.is_struct(column.type):
        return _true(pc.is_in(pc.struct_field(column, "value"), value_set=pa.array(WRITTEN)))
    if pa.types.is_list(column.type):
        return _unavailable_lists(column)
    return np.zeros(len(column), dtype=bool)


def _unavailable_lists(column: pa.ChunkedArray) -> np.ndarray:
    mask = np.zeros(len(column), dtype=bool)
    is_text = pa.types.is_string(column.type.value_type)
    length = 1 if is_text else len(PLACEHOLDER)
    rows = np.flatnonzero(_true(pc.equal(pc.list_value_length(column), length)))
    candidates = column.take(pa.array(rows))
    if is_text:
        mask[rows] = _true(pc.is_in(pc.list_flatten(candidates), value_set=pa.array(WRITTEN)))
    elif pa.types.is_integer(column.type.value_type):
        mask[rows] = [each == list(PLACEHOLDER) for each in candidates.to_pylist()]
    return mask


def _true(mask: pa.ChunkedArray) -> np.ndarray:
    filled: np.ndarray = pc.fill_null(mask, False).to_numpy(zero_copy_only=False)
    return filled
