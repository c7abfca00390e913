"""PostgreSQL's types as text, read as a contract's: what does not fit is a fault of its row."""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.contracts.checks import rows_of
from scale_assets.contracts.faults import Fault, Rule, shown
from scale_assets.contracts.model import Field

# Numbers of built-in types never change; every other type is described in the stream itself.
BUILT_IN = {
    16: "bool",
    17: "bytea",
    18: "char",
    19: "name",
    20: "int8",
    21: "int2",
    23: "int4",
    25: "text",
    26: "oid",
    114: "json",
    700: "float4",
    701: "float8",
    869: "inet",
    1042: "bpchar",
    1043: "varchar",
    1082: "date",
    1083: "time",
    1114: "timestamp",
    1184: "timestamptz",
    1186: "interval",
    1266: "timetz",
    1700: "numeric",
    2950: "uuid",
    3802: "jsonb",
}
TEXT = "text"  # the kind of every type that is not named here
KINDS = {
    **dict.fromkeys(("int2", "int4", "int8", "oid"), "integer"),
    **dict.fromkeys(("float4", "float8"), "float"),
    **{name: name for name in ("numeric", "bool", "date", "timestamp", "timestamptz")},
}
ZERO_FRACTION = r"\.0+$"
NAIVE_TIME = r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?)$"

Read: TypeAlias = tuple[pa.ChunkedArray, pa.ChunkedArray | None]  # and what could not be read
Reader: TypeAlias = Callable[[pa.ChunkedArray, Field], Read]


def type_name(names: dict[int, str], oid: int) -> str:
    return names.get(oid, f"type {oid}")


def kind_of(type_: str) -> str:
    """What a value of this type is: one of KINDS' values, or text."""
    return KINDS.get(type_, TEXT)


def as_text(column: pa.ChunkedArray, name: str, faults: dict[int, Fault]) -> pa.ChunkedArray:
    """Bytes as text; null, with a fault, where a database without an encoding sent others."""
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        pass
    texts: list[str | None] = []
    for row, value in enumerate(column.to_pylist()):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError as error:
            reason = f"{name}: byte {error.start} is not UTF-8: {shown(value[error.start :][:1])}"
            faults.setdefault(row, Fault(Rule.NOT_UTF8, reason, name))
            texts.append(None)
    return pa.chunked_array([texts], pa.string())


def read_column(
    column: pa.ChunkedArray, type_: str, field: Field, faults: dict[int, Fault]
) -> pa.ChunkedArray:
    """A column of text as the field's type, or as text that ``to_contract`` reads as a time."""
    reader = READERS.get(field.type, {}).get(kind_of(type_))
    if reader is None:
        reason = f"{field.name} must be of type {field.type}, got {type_}"
        fault = Fault(Rule.WRONG_TYPE, reason, field.name)
        for row in rows_of(pc.is_valid(column)):
            faults.setdefault(row, fault)
        return pa.chunked_array([pa.nulls(len(column), field.arrow_type)])
    read, bad = reader(column, field)
    for row in rows_of(bad) if bad is not None else ():
        reason = f"{field.name} must be of type {field.type}, got {shown(column[row].as_py())}"
        faults.setdefault(row, Fault(Rule.BAD_FORMAT, reason, field.name))
    return read


def _as_it_is(column: pa.ChunkedArray, _field: Field) -> Read:
    return column, None


def _cast(column: pa.ChunkedArray, field: Field) -> Read:
    """The whole column at once; where something does not fit, in halves."""
    try:
        return column.cast(field.arrow_type), None
    except pa.ArrowInvalid:
        read = pa.chunked_array([_cast_each(column.combine_chunks(), field.arrow_type)])
        return read, pc.and_(pc.is_valid(column), pc.is_null(read))


def _cast_each(array: pa.Array, type_: pa.DataType) -> pa.Array:
    try:
        return array.cast(type_)
    except pa.ArrowInvalid:
        if len(array) == 1:
            return pa.nulls(1, type_)
    middle = len(array) // 2
    return pa.concat_arrays([_cast_each(half, type_) for half in (array[:middle], array[middle:])])


def _whole(column: pa.ChunkedArray, field: Field) -> Read:
    return _cast(pc.replace_substring_regex(column, ZERO_FRACTION, ""), field)


def _boolean(column: pa.ChunkedArray, _field: Field) -> Read:
    return pc.equal(column, "t"), None


def _in_utc(column: pa.ChunkedArray, _field: Field) -> Read:
    """A time without a zone is taken as one in UTC, as Debezium takes it."""
    return pc.replace_substring_regex(column, NAIVE_TIME, r"\1+00"), None


# What a contract's type takes of which kinds. Text of a type that JSON would write as a number or
# a boolean is no string, as elsewhere; a numeric is, because its digits are all that it is.
_EXACT: dict[str, Reader] = {"integer": _cast, "numeric": _cast}
READERS: dict[str, dict[str, Reader]] = {
    "string": dict.fromkeys((TEXT, "numeric", "date", "timestamp", "timestamptz"), _as_it_is),
    "integer": {"integer": _cast, "numeric": _whole},
    "number": {**_EXACT, "float": _cast},
    "decimal": _EXACT,
    "boolean": {"bool": _boolean},
    "date": {"date": _as_it_is, TEXT: _as_it_is},
    "timestamp": {"timestamptz": _as_it_is, "timestamp": _in_utc, TEXT: _as_it_is},
}


def json_value(text: str | None, type_: str) -> object:
    """A value as JSON shows it: numbers and booleans as such, everything else as its text."""
    if text is None:
        return None
    kind = kind_of(type_)
    if kind == "integer":
        return int(text)
    if kind == "float" and np.isfinite(float(text)):
        return float(text)
    return text == "t" if kind == "bool" else text
