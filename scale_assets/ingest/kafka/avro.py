"""Avro values, decoded with their writer's schema and written as the JSON that contracts read.

Times and dates become ISO 8601 text, decimals numbers with all their digits, UUIDs text, bytes
base64. A record that holds NaN or infinity is refused, as it is in JSON.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.kafka.registry import Registry, UnknownSchema, not_framed, unframed
from scale_assets.ingest.values import NULL, ValueFormat

if TYPE_CHECKING:
    from msgspec.json import Encoder


class Undecodable(IngestError):
    """A value that is not what its schema says."""


@dataclass(frozen=True)
class AvroValues(ValueFormat):
    """Values in Confluent's wire format: a 0 byte, the schema's id, Avro's binary encoding."""

    registry: Registry
    _schemas: dict[int, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def lines(self, values: Sequence[bytes | None]) -> tuple[list[bytes], Mapping[int, str]]:
        found: list[bytes] = []
        refused: dict[int, str] = {}
        unknown: dict[int, str] = {}  # asked once a piece: the registry may learn them later
        for index, value in enumerate(values):
            try:
                found.append(self._line(value, unknown) if value else NULL)
            except Undecodable as error:
                refused[index] = str(error)
                found.append(value or NULL)
        return found, refused

    def _line(self, value: bytes, unknown: dict[int, str]) -> bytes:
        framed = unframed(value)
        if framed is None:
            raise Undecodable(not_framed(value))
        schema_id, body = framed
        if schema_id in unknown:
            raise Undecodable(unknown[schema_id])
        if schema_id not in self._schemas:
            try:
                self._schemas[schema_id] = parse(self.registry.load(schema_id))
            except UnknownSchema as error:
                unknown[schema_id] = str(error)
                raise Undecodable(str(error)) from error
        return as_json(decode(self._schemas[schema_id], body))


def parse(texts: Sequence[str]) -> Any:
    """The last of these schemas as fastavro takes it; the others are what it refers to.

    Raises:
        IngestError: One of them is not Avro.
    """
    from fastavro import parse_schema
    from fastavro.schema import SchemaParseException

    named: dict[str, Any] = {}
    parsed: Any = None
    for text in texts:
        try:
            parsed = parse_schema(json.loads(text), named_schemas=named)
        except (SchemaParseException, ValueError) as error:
            raise IngestError(f"schema {text[:200]!r} is not Avro: {error}") from error
    return parsed


def decode(schema: Any, body: bytes) -> Any:
    """One value in Avro's binary encoding.

    Raises:
        Undecodable: The bytes are not that, or more than that.
    """
    from fastavro import schemaless_reader

    stream = io.BytesIO(body)
    try:
        value = schemaless_reader(stream, schema, None)
    except Exception as error:
        raise Undecodable(f"not Avro of its schema: {error or type(error).__name__}") from error
    if rest := len(body) - stream.tell():
        raise Undecodable(f"not Avro of its schema: {rest} bytes are left over")
    return value


def as_json(value: Any) -> bytes:
    """The decoded value as one line of JSON."""
    if _has_no_json(value):  # which msgspec would write as null; contracts refuse it in any JSON
        return json.dumps(value, default=str).encode()
    return _encoder().encode(value)


@cache
def _encoder() -> "Encoder":
    import msgspec

    return msgspec.json.Encoder(decimal_format="number")


def _has_no_json(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(map(_has_no_json, value.values()))
    return isinstance(value, list) and any(map(_has_no_json, value))
