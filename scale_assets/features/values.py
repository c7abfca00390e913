"""Feast's types and protobuf values, to and from the codec's."""

from typing import Any

from feast import FeatureView, Field
from feast.protos.feast.types.Value_pb2 import Value

from scale_assets.features.codec import CodecError

# codec type: (name in Feast's ValueType, field of Feast's Value)
_SCALARS = {
    "bool": ("BOOL", "bool_val"),
    "int32": ("INT32", "int32_val"),
    "int64": ("INT64", "int64_val"),
    "float32": ("FLOAT", "float_val"),
    "float64": ("DOUBLE", "double_val"),
    "string": ("STRING", "string_val"),
    "bytes": ("BYTES", "bytes_val"),
    "timestamp": ("UNIX_TIMESTAMP", "unix_timestamp_val"),
}
_BY_VALUE_TYPE = {value_type: kind for kind, (value_type, _) in _SCALARS.items()} | {
    f"{value_type}_LIST": f"list<{kind}>"
    for kind, (value_type, _) in _SCALARS.items()
    if kind != "bytes"
}
_FIELDS = {kind: field for kind, (_, field) in _SCALARS.items()} | {
    f"list<{kind}>": field.replace("_val", "_list_val") for kind, (_, field) in _SCALARS.items()
}
MICROS = 1_000_000  # Feast's timestamps count seconds


def codec_type(table: FeatureView, field: Field) -> str:
    """The codec's name of a Feast field's type.

    Raises:
        CodecError: The store cannot hold that type.
    """
    value_type = field.dtype.to_value_type().name
    if value_type not in _BY_VALUE_TYPE:
        raise CodecError(
            f"{table.name}.{field.name} has type {value_type}, which the packed online store "
            f"cannot hold; use one of {sorted(_BY_VALUE_TYPE)}"
        )
    return _BY_VALUE_TYPE[value_type]


def from_proto(value: Value, kind: str) -> Any:
    """A Feast value as the codec packs it; an unset value is null."""
    which = value.WhichOneof("val")
    if which is None or which == "null_val":
        return None
    if which != _FIELDS[kind]:
        raise CodecError(f"a {which} cannot be stored as {kind}")
    found = getattr(value, which)
    if kind.startswith("list<"):
        items = list(found.val)
        return [item * MICROS for item in items] if kind == "list<timestamp>" else items
    return found * MICROS if kind == "timestamp" else found


def to_proto(value: Any, kind: str) -> Value:
    """The inverse of ``from_proto``."""
    proto = Value()
    if value is None:
        return proto
    if kind.startswith("list<"):
        items = value // MICROS if kind == "list<timestamp>" else value
        getattr(proto, _FIELDS[kind]).val.extend(items.tolist())
        if not len(items):
            getattr(proto, _FIELDS[kind]).SetInParent()
    else:
        setattr(proto, _FIELDS[kind], value // MICROS if kind == "timestamp" else value)
    return proto
