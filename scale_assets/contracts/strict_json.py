"""One line of JSON, read strictly: RFC 8259, no duplicate keys among the fields, exact types."""

import json
import math
from typing import Any, NoReturn, Self

from scale_assets.contracts.faults import LineFault, Rule, shown

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
MAX_INTEGER_DIGITS = 400  # more than any double holds; Python itself refuses above 4300


def read_object(line: bytes) -> list[tuple[str, Any]]:
    """The members of the line's one object, in order, duplicates included; raises LineFault."""
    try:
        value = _decode(line.decode())
    except UnicodeDecodeError as error:
        raise LineFault(
            Rule.NOT_UTF8, f"byte {error.start} is not UTF-8: {shown(line[error.start :][:1])}"
        ) from None
    except json.JSONDecodeError as error:
        raise LineFault(Rule.NOT_JSON, f"not JSON at character {error.pos}: {error.msg}") from None
    except RecursionError:
        raise LineFault(Rule.NOT_JSON, "nested too deeply to read") from None
    if not isinstance(value, Members):
        raise LineFault(Rule.NOT_AN_OBJECT, f"expected an object, got {shown(value)}")
    return value


class Members(list):  # type: ignore[type-arg]
    """An object's (key, value) pairs; a list subclass, so that a JSON array is not one."""


class WrittenFloat(float):
    """A number with a point or an exponent, which remembers how it was written."""

    text: str

    def __new__(cls, text: str) -> Self:
        value = super().__new__(cls, text)
        value.text = text
        return value


def _refuse_constant(name: str) -> NoReturn:
    raise LineFault(Rule.NOT_JSON, f"{name} is not JSON; write null")


def _decode(text: str) -> Any:
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:  # more digits than Python turns into an integer
        return _long_integer_decoder.decode(text)


def _parse_integer(text: str) -> float:
    return int(text) if len(text) <= MAX_INTEGER_DIGITS else math.inf


_decoder = json.JSONDecoder(
    object_pairs_hook=Members, parse_constant=_refuse_constant, parse_float=WrittenFloat
)
_long_integer_decoder = json.JSONDecoder(
    object_pairs_hook=Members,
    parse_constant=_refuse_constant,
    parse_float=WrittenFloat,
    parse_int=_parse_integer,
)


def read_scalar(kind: str, name: str, value: Any) -> Any:
    """``value`` if JSON wrote it as ``kind`` (string, integer, number, boolean), else a fault."""
    if value is None:
        return None
    if kind == "string":
        return read_string(name, value)
    if kind == "boolean":
        return value if isinstance(value, bool) else wrong_type("a boolean", name, value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        wrong_type(_article(kind), name, value)
    if isinstance(value, float) and math.isinf(value):
        raise LineFault(Rule.OUT_OF_RANGE, f"{name} does not fit 64 bits", name)
    return _read_integer(name, value) if kind == "integer" else _read_number(name, value)


def read_string(name: str, value: Any) -> str:
    if not isinstance(value, str):
        wrong_type("a string", name, value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise LineFault(
            Rule.NOT_UTF8, f"{name} holds half a surrogate pair: {shown(value)}", name
        ) from None
    return str(value)


def _read_integer(name: str, value: float) -> int:
    if isinstance(value, float):
        wrong_type("an integer", name, value)
    if not INT64_MIN <= value <= INT64_MAX:
        raise LineFault(Rule.OUT_OF_RANGE, f"{name} = {shown(value)} does not fit 64 bits", name)
    return int(value)


def _read_number(name: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise LineFault(Rule.OUT_OF_RANGE, f"{name} does not fit a double", name) from None


JSON_NAMES = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    WrittenFloat: "a number",
}


def wrong_type(expected: str, name: str, value: Any) -> NoReturn:
    got = JSON_NAMES.get(type(value), "an object" if isinstance(value, Members) else "an array")
    reason = f"{name} must be {expected}, got {got}: {shown(value)}"
    raise LineFault(Rule.WRONG_TYPE, reason, name)


def _article(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
