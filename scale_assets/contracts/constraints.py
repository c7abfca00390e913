"""A field's constraints, from ODCS options, enums and quality rules; only those we enforce."""

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from open_data_contract_standard.model import DataQuality, SchemaProperty

from scale_assets.contracts.model import Bound, ContractError

BOUNDS = {
    "minimum": "minimum",
    "maximum": "maximum",
    "exclusiveMinimum": "exclusive_minimum",
    "exclusiveMaximum": "exclusive_maximum",
}
LENGTHS = {"minLength": "min_length", "maxLength": "max_length"}
OPTIONS: dict[str, set[str]] = {
    "string": {*LENGTHS, "pattern"},
    "integer": {*BOUNDS, "format"},
    "number": {*BOUNDS, "format"},
    "boolean": set(),
    "date": {*BOUNDS, "format"},
    "timestamp": {*BOUNDS, "format", "timezone"},
    "array": set(),
}
# The one written form that each type is read in, so that a contract may say it.
FORMATS = {
    "integer": {"i64"},
    "number": {"f64"},
    "date": {"yyyy-MM-dd"},
    "timestamp": {"yyyy-MM-dd'T'HH:mm:ssXXX", "yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX"},
}
EXAMPLES = {
    "integer": "write a whole number",
    "number": "write a number",
    "date": "write a date such as 2013-02-01",
    "timestamp": 'write a quoted time with a zone, such as "2013-02-01T00:00:00Z"',
}


def read_constraints(prop: SchemaProperty, where: str, type_: pa.DataType) -> dict[str, Any]:
    """Keyword arguments of Field; raises ContractError for what would not be enforced."""
    found: dict[str, Any] = {
        "required": bool(prop.required or prop.primaryKey),
        "unique": bool(prop.unique),
    }
    found |= _options(prop, where, type_)
    if prop.enum is not None:
        found["allowed"] = _allowed([member.value for member in prop.enum], type_, f"{where}: enum")
    for rule in prop.quality or ():
        _add_quality_rule(rule, type_, where, found)
    return found


def _options(prop: SchemaProperty, where: str, type_: pa.DataType) -> dict[str, Any]:
    kind, options = str(prop.logicalType), prop.logicalTypeOptions or {}
    found: dict[str, Any] = {}
    for name, value in options.items():
        at = f"{where}: logicalTypeOptions.{name}"
        if name not in OPTIONS[kind]:
            supported = sorted(OPTIONS[kind])
            raise ContractError(f"{at}: not enforced for {kind}; supported: {supported}")
        if name in BOUNDS:
            bound = _bound(value, kind, at)
            found[BOUNDS[name]] = _exact(bound, type_, at) if pa.types.is_decimal(type_) else bound
        elif name in LENGTHS:
            found[LENGTHS[name]] = _length(value, at)
        elif name == "pattern":
            found["pattern"] = _pattern(value, at)
        elif name == "format" and value not in FORMATS[kind]:
            raise ContractError(f"{at}: {value!r} is not read; use {sorted(FORMATS[kind])}")
        elif name == "timezone" and value not in (True, "UTC"):
            raise ContractError(f"{at}: {value!r}; every timestamp carries a zone: write true")
    return found


def _bound(value: Any, kind: str, at: str) -> Bound:
    """A bound in the field's own type; YAML writes unquoted dates and times as such."""
    bound = _read_bound(value, kind)
    if bound is None:
        raise ContractError(f"{at}: {value!r} is not a bound of type {kind}; {EXAMPLES[kind]}")
    return bound


def _read_bound(value: Any, kind: str) -> Bound | None:
    if kind in ("integer", "number"):
        numbers = int if kind == "integer" else (int, float)
        return value if isinstance(value, numbers) and not isinstance(value, bool) else None
    try:
        if kind == "date":
            day = date.fromisoformat(value) if isinstance(value, str) else value
            return day if type(day) is date else None
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        return None
    return moment if isinstance(moment, datetime) and moment.tzinfo is not None else None


def _exact(value: Any, type_: pa.DataType, at: str) -> Decimal:
    """A number of YAML, by its digits, as a decimal of the field's type."""
    try:
        number: Decimal = pa.array([str(value)]).cast(type_)[0].as_py()
    except pa.ArrowInvalid as error:
        raise ContractError(f"{at}: {value!r} is no {type_}; write as many digits") from error
    return number


def _length(value: Any, at: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ContractError(f"{at}: {value!r}; write a number of characters, 0 or more")
    return int(value)


def _pattern(value: Any, at: str) -> str:
    """Patterns run in RE2, which has no look-around and no back-references."""
    try:
        pc.match_substring_regex(pa.nulls(1, pa.string()), re.compile(value).pattern)
    except (TypeError, re.error, pa.ArrowInvalid) as error:
        raise ContractError(f"{at}: {value!r} is not an RE2 pattern: {error}") from error
    return str(value)


def _allowed(values: list[Any], type_: pa.DataType, at: str) -> tuple[Any, ...]:
    if not values or None in values:
        raise ContractError(f"{at}: {values!r}; list at least one value, and no null")
    if pa.types.is_decimal(type_):
        return tuple(_exact(value, type_, at) for value in values)
    if pa.types.is_string(type_) and all(isinstance(value, str) for value in values):
        return tuple(values)  # without pa.array, whose first call imports pandas
    try:
        pa.array(values, type=type_)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ContractError(f"{at}: {values!r} are not all of type {type_}") from error
    return tuple(values)


def _add_quality_rule(
    rule: DataQuality, type_: pa.DataType, where: str, found: dict[str, Any]
) -> None:
    """``type: text`` is prose; the library metrics below mean the same as a field's own keys."""
    if rule.type == "text":
        return
    metric, at = rule.metric or rule.rule, f"{where}: quality"
    if rule.mustBe != 0 or rule.unit == "percent":
        raise ContractError(f"{at}: {metric!r} must say mustBe: 0; every row is checked on its own")
    arguments = rule.arguments or {}
    if metric in ("nullValues", "missingValues") and not arguments:
        found["required"] = True
    elif metric == "duplicateValues" and not arguments:
        found["unique"] = True
    elif metric == "invalidValues" and arguments.keys() == {"validValues"}:
        found["allowed"] = _allowed(arguments["validValues"], type_, f"{at}: validValues")
    elif metric == "invalidValues" and arguments.keys() == {"pattern"}:
        found["pattern"] = _pattern(arguments["pattern"], f"{at}: pattern")
    else:
        raise ContractError(
            f"{at}: {metric!r} with {sorted(arguments)} is not enforced; use nullValues,"
            " duplicateValues, invalidValues (validValues or pattern), or an asset check"
        )
