"""How change events write dates, times and decimals: the types that Debezium and Connect name."""

from collections.abc import Iterator
from typing import Any

from scale_assets.contracts.faults import LineFault, Rule
from scale_assets.contracts.model import Contract, Field
from scale_assets.contracts.strict_json import Members

CONNECT = "org.apache.kafka.connect.data"
TIME = "io.debezium.time"
DATA = "io.debezium.data"
# By logical type, what ``scale.debeziumType`` may say and how it is written: as text, as a count
# of days, ms, us or ns, as base64 of a big-endian integer, as a struct of scale and base64.
ENCODINGS: dict[str, dict[str, str]] = {
    "date": {f"{TIME}.Date": "days", f"{CONNECT}.Date": "days", f"{TIME}.IsoDate": "text"},
    "timestamp": {
        f"{TIME}.Timestamp": "ms",
        f"{CONNECT}.Timestamp": "ms",
        f"{TIME}.MicroTimestamp": "us",
        f"{TIME}.NanoTimestamp": "ns",
        f"{TIME}.ZonedTimestamp": "text",
        f"{TIME}.IsoTimestamp": "text",
    },
    "decimal": {
        f"{CONNECT}.Decimal": "base64",
        f"{DATA}.VariableScaleDecimal": "variable",
        "string": "text",  # decimal.handling.mode=string, or Connect's decimal.format=NUMERIC
        "double": "text",  # decimal.handling.mode=double: its digits as JSON writes them
    },
    # A time of day has no type of its own in Delta: counts since midnight become HH:MM:SS.ffffff.
    "string": {
        f"{TIME}.Time": "ms",
        f"{CONNECT}.Time": "ms",
        f"{TIME}.MicroTime": "us",
        f"{TIME}.NanoTime": "ns",
        **dict.fromkeys(
            (f"{TIME}.{name}" for name in ("ZonedTime", "IsoTime", "Interval")), "text"
        ),
        **dict.fromkeys((f"{DATA}.{name}" for name in ("Json", "Uuid", "Enum", "EnumSet")), "text"),
        **dict.fromkeys((f"{DATA}.{name}" for name in ("Xml", "Ltree", "Bits")), "text"),
    },
    "integer": {
        f"{TIME}.Year": "as sent",
        f"{TIME}.MicroDuration": "as sent",
        f"{TIME}.NanoDuration": "as sent",
    },
}
DEFAULTS = {
    "date": f"{TIME}.Date",
    "timestamp": f"{TIME}.MicroTimestamp",
    "decimal": f"{CONNECT}.Decimal",
}
COUNTS = ("days", "ms", "us", "ns")
TEXT_TYPES = ("string", "double", "float", "float32", "float64", "int16", "int32", "int64")


def encoding_of(field: Field) -> str:
    """How a change event writes the field; "as sent" where JSON's own type says it all."""
    name = field.debezium_type or DEFAULTS.get(field.type)
    if name:
        return ENCODINGS[field.type][name]
    return "text" if field.type == "string" else "as sent"


def check_schema(schema: Any, contract: Contract) -> None:
    """Hold an event's own schema against the contract.

    A count of milliseconds reads as microseconds without a sign of trouble, and so does a decimal
    of another scale; only the schema tells.

    Raises:
        LineFault: A field is sent in another encoding than the contract says.
    """
    fields = {field.name: field for field in contract.fields}
    for sent in _fields(_named(schema, "after")):
        field = fields.get(str(_member(sent, "field")))
        if field is None or field.type not in ENCODINGS:
            continue
        encoding, wanted = _sent_encoding(sent, field), encoding_of(field)
        if encoding is not None and encoding != wanted and (encoding, wanted) != _NUMERIC:
            reason = (
                f"{field.name} is sent as {_member(sent, 'name') or _member(sent, 'type')}, the "
                f"contract reads {field.debezium_type or DEFAULTS.get(field.type, field.type)}; "
                "set scale.debeziumType to what is sent"
            )
            raise LineFault(Rule.BAD_ENVELOPE, reason, field.name)
        if encoding == "base64":
            _check_scale(sent, field)


# Connect's decimal.format=NUMERIC leaves the schema at Decimal and writes a number.
_NUMERIC = ("base64", "text")


def _sent_encoding(sent: Any, field: Field) -> str | None:
    """None where the schema does not tell."""
    name = _member(sent, "name")
    if name is None and field.type == "decimal":
        return "text" if _member(sent, "type") in TEXT_TYPES else None
    return ENCODINGS[field.type].get(str(name))


def _check_scale(sent: Any, field: Field) -> None:
    scale = _member(_member(sent, "parameters"), "scale")
    if scale is not None and scale != str(field.scale) and encoding_of(field) == "base64":
        reason = (
            f"{field.name} is sent with scale {scale}, the contract says {field.type_name}; "
            "give it the source's scale"
        )
        raise LineFault(Rule.BAD_ENVELOPE, reason, field.name)


def _fields(schema: Any) -> Iterator[Any]:
    fields = _member(schema, "fields")
    yield from fields if isinstance(fields, list) else ()


def _named(schema: Any, name: str) -> Any:
    return next((each for each in _fields(schema) if _member(each, "field") == name), None)


def _member(value: Any, name: str) -> Any:
    if not isinstance(value, Members):
        return None
    return next((found for key, found in value if key == name), None)
