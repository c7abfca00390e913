"""Decimals as JSON and Debezium write them: digits, base64 of a big-endian integer, or both."""

import base64
import binascii
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.faults import LineFault, Rule, shown
from scale_assets.contracts.model import MAX_PRECISION
from scale_assets.contracts.strict_json import Members, WrittenFloat, read_scalar, wrong_type

DIGITS = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,6})?\Z")
WIDTH_BYTES = 16  # of a decimal128
MAX_CHARS = 24  # base64 of 16 bytes
INVALID = 64
_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_SEXTETS = np.full(256, INVALID, np.uint8)
_SEXTETS[np.frombuffer(_ALPHABET, np.uint8)] = np.arange(64, dtype=np.uint8)


def read_decimal(type_: pa.Decimal128Type, name: str, value: Any) -> Decimal | None:
    """One JSON number or string of digits; raises LineFault."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        wrong_type(f"a {_named(type_)} as number or string", name, value)
    found = parsed(value.text if isinstance(value, WrittenFloat) else str(value), type_)
    if found is None:
        reason = f"{name} must be a {_named(type_)}, got {shown(value)}"
        raise LineFault(Rule.BAD_FORMAT, reason, name)
    return found


def read_variable_decimal(name: str, value: Any) -> dict[str, Any] | None:
    """One struct of scale and unscaled value; raises LineFault."""
    if value is None:
        return None
    if not isinstance(value, Members) or {key for key, _ in value} - {"scale", "value"}:
        wrong_type("an object of scale and value", name, value)
    if len(dict(value)) < len(value):
        raise LineFault(Rule.DUPLICATE_KEY, f"{name} gives scale or value more than once", name)
    members = dict(value)
    return {
        "scale": read_scalar("integer", f"{name}.scale", members.get("scale")),
        "value": read_scalar("string", f"{name}.value", members.get("value")),
    }


def from_text(column: pa.ChunkedArray, type_: pa.Decimal128Type) -> tuple[pa.Array, pa.Array]:
    """Digits to decimals, and a mask of texts that are none of this type (null there)."""
    longest = pc.max(pc.binary_length(column)).as_py() or 0
    if longest <= MAX_PRECISION:  # Arrow lets longer ones overflow in silence
        try:
            return column.cast(type_).combine_chunks(), pa.repeat(False, len(column))
        except pa.ArrowInvalid:
            pass
    return _collected((parsed(text, type_) for text in column.to_pylist()), column, type_)


def from_base64(column: pa.ChunkedArray, type_: pa.Decimal128Type) -> tuple[pa.Array, pa.Array]:
    """Base64 of two's complement, most significant byte first, unscaled; and a mask of bad ones."""
    array = column.combine_chunks()
    present = pc.is_valid(array).to_numpy(zero_copy_only=False)
    integers = np.zeros((len(array), WIDTH_BYTES), np.uint8)
    is_read = np.zeros(len(array), bool)
    _, offsets, data = array.buffers()
    starts = np.frombuffer(offsets, np.int32)[array.offset : array.offset + len(array) + 1]
    lengths = np.diff(starts)
    chars = np.frombuffer(data or b"", np.uint8)
    for length in range(4, MAX_CHARS + 1, 4):
        rows = np.flatnonzero(present & (lengths == length))
        if len(rows):
            texts = chars[starts[rows][:, None] + np.arange(length)]
            integers[rows], is_read[rows] = _little_endian(texts)
    return _as_decimals(integers, is_read, present, type_)


def from_variable(column: pa.ChunkedArray, type_: pa.Decimal128Type) -> tuple[pa.Array, pa.Array]:
    """Structs of scale and base64 to decimals of one scale; a mask of those that it would round."""
    return _collected((_rescaled(each, type_) for each in column.to_pylist()), column, type_)


def _little_endian(texts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Base64 texts of one length, a row each, as 128-bit integers; and which were base64."""
    num_rows, length = texts.shape
    padded = texts[:, -2:] == ord("=")
    num_padding = np.where(padded[:, 1], 1 + padded[:, 0], 0)
    sextets = _SEXTETS[texts]
    sextets[:, -1][num_padding >= 1] = 0
    sextets[:, -2][num_padding == 2] = 0
    is_base64 = (sextets < INVALID).all(axis=1)
    quads = sextets.reshape(num_rows, length // 4, 4).astype(np.uint32)
    words = quads[..., 0] << 18 | quads[..., 1] << 12 | quads[..., 2] << 6 | quads[..., 3]
    parts = np.stack([words >> 16, words >> 8, words], axis=-1).astype(np.uint8)
    big_endian = parts.reshape(num_rows, length // 4 * 3)
    is_negative = big_endian[:, 0] >= 0x80
    integers = np.where(is_negative[:, None], np.uint8(0xFF), np.uint8(0))
    integers = np.repeat(integers, WIDTH_BYTES, axis=1)
    for padding in range(3):
        num_bytes = length // 4 * 3 - padding
        rows = num_padding == padding
        if num_bytes > WIDTH_BYTES:
            is_base64 &= ~rows
        else:
            integers[rows, :num_bytes] = big_endian[rows, :num_bytes][:, ::-1]
    return integers, is_base64


def _as_decimals(
    integers: np.ndarray, is_read: np.ndarray, present: np.ndarray, type_: pa.Decimal128Type
) -> tuple[pa.Array, pa.Array]:
    buffers = [pa.array(is_read).buffers()[1], pa.py_buffer(integers)]
    decimals = pa.Array.from_buffers(type_, len(integers), buffers)
    bad = pc.and_(pa.array(present), pc.invert(pc.fill_null(in_precision(decimals), False)))
    return pc.if_else(bad, pa.scalar(None, type_), decimals), bad


def in_precision(decimals: pa.Array | pa.ChunkedArray) -> pa.Array | pa.ChunkedArray:
    """Where the digits do not exceed the type's, which Arrow does not always look at."""
    type_ = decimals.type
    largest = f"{'9' * type_.precision}e-{type_.scale}"
    return pc.and_(
        pc.less_equal(decimals, pa.scalar(Decimal(largest), type_)),
        pc.greater_equal(decimals, pa.scalar(Decimal(f"-{largest}"), type_)),
    )


def parsed(text: str | None, type_: pa.Decimal128Type) -> Decimal | None:
    """A decimal of the type by its digits; None where it is none, or would need rounding."""
    if text is None or not DIGITS.match(text):
        return None
    value = Decimal(text)
    if not value:
        return Decimal(0)
    digits = "".join(map(str, value.as_tuple().digits)).rstrip("0")
    is_whole = value.adjusted() < type_.precision - type_.scale
    # What stands furthest right, trailing zeros aside.
    is_fine = value.adjusted() - len(digits) + 1 >= -type_.scale
    return value if is_whole and is_fine else None


def _collected(
    values: Iterator[Decimal | None], column: pa.ChunkedArray, type_: pa.Decimal128Type
) -> tuple[pa.Array, pa.Array]:
    decimals = pa.array(list(values), type_)
    bad = pc.and_(pc.is_valid(column).combine_chunks(), pc.is_null(decimals))
    return decimals, bad


def _rescaled(value: dict[str, Any] | None, type_: pa.Decimal128Type) -> Decimal | None:
    """The decimal, or None where it has no value or not this type."""
    if value is None or value["scale"] is None or not value["value"]:
        return None
    try:
        unscaled = base64.b64decode(value["value"], validate=True)
    except binascii.Error:
        return None
    digits = str(int.from_bytes(unscaled, "big", signed=True)) if len(unscaled) <= 64 else ""
    return parsed(f"{digits}e{-value['scale']}", type_)


def _named(type_: pa.Decimal128Type) -> str:
    return f"decimal({type_.precision},{type_.scale})"
