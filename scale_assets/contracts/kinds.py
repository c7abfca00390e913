"""What JSON writes for a field: the wire type that it is read into, and one value read strictly."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import pyarrow as pa

from scale_assets.contracts.decimals import read_decimal, read_variable_decimal
from scale_assets.contracts.encodings import COUNTS, encoding_of
from scale_assets.contracts.model import Field
from scale_assets.contracts.strict_json import Members, read_scalar, wrong_type


@dataclass(frozen=True)
class Kind:
    """``read(name, value)`` gives the wire value of one JSON value, or raises LineFault."""

    type: pa.DataType
    read: Callable[[str, Any], Any]


SCALARS = {
    name: Kind(type_, partial(read_scalar, name))
    for name, type_ in {
        "string": pa.string(),
        "integer": pa.int64(),
        "number": pa.float64(),
        "boolean": pa.bool_(),
    }.items()
}
VARIABLE_DECIMAL = Kind(
    pa.struct([("scale", pa.int64()), ("value", pa.string())]), read_variable_decimal
)


def plain_kind(field: Field) -> Kind:
    """How a record writes the field; dates and times are text, which wire.py reads."""
    if field.type in ("date", "timestamp"):
        return SCALARS["string"]
    if field.type == "decimal":
        return Kind(field.arrow_type, partial(read_decimal, field.arrow_type))
    if field.type == "array":
        item = SCALARS[str(field.items)]
        return Kind(field.arrow_type, partial(_read_array, str(field.items), item))
    return SCALARS[field.type]


def change_kind(field: Field) -> Kind:
    """How a change event writes the field."""
    encoding = encoding_of(field)
    if encoding in COUNTS:
        return SCALARS["integer"]
    if encoding == "base64":
        return SCALARS["string"]
    return VARIABLE_DECIMAL if encoding == "variable" else plain_kind(field)


def _read_array(items: str, item: Kind, name: str, value: Any) -> list[Any] | None:
    if value is None:
        return None
    if not isinstance(value, list) or isinstance(value, Members):
        wrong_type(f"an array of {items}", name, value)
    return [item.read(name, each) for each in value]
