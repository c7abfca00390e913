"""What a contract says: the fields of one source, their types, and what each value must satisfy."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from string import Formatter
from typing import Any, Literal

import pyarrow as pa

from scale_assets.errors import ScaleError

LogicalType = Literal[
    "string", "integer", "number", "boolean", "date", "timestamp", "decimal", "array"
]
Bound = int | float | Decimal | date | datetime
MAX_PRECISION = 38  # digits of a decimal, in Arrow's 128 bits as in Delta

TIMESTAMP = pa.timestamp("us", tz="UTC")
ARROW_TYPES: dict[str, pa.DataType] = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": TIMESTAMP,
}


class ContractError(ScaleError):
    """A contract that cannot be used: which file, which field, which value, and the way out."""


@dataclass(frozen=True, kw_only=True)
class Field:
    """One column. Bounds apply to values that are present; ``required`` refuses null and absent."""

    name: str
    type: LogicalType
    description: str = ""
    required: bool = False
    unique: bool = False
    minimum: Bound | None = None
    maximum: Bound | None = None
    exclusive_minimum: Bound | None = None
    exclusive_maximum: Bound | None = None
    min_length: int | None = None  # characters, not bytes
    max_length: int | None = None
    pattern: str | None = None  # RE2, found anywhere: anchor it with ^ and $ for the whole value
    allowed: tuple[str | int | float | bool | Decimal, ...] | None = None
    pii: str | None = None  # kind of personal data, from the tag "pii:<kind>"
    classification: str | None = None
    debezium_type: str | None = None  # how change events encode it, e.g. io.debezium.time.Date
    precision: int | None = None  # digits of a decimal, those behind the point included
    scale: int | None = None  # digits of a decimal behind the point
    items: LogicalType | None = None  # of an array: string, integer, number or boolean
    subject: str | None = None  # kind of person that the value identifies, e.g. user

    @property
    def arrow_type(self) -> pa.DataType:
        if self.type == "decimal":
            return pa.decimal128(self.precision, self.scale)
        if self.type == "array":
            return pa.list_(pa.field("element", ARROW_TYPES[str(self.items)]))
        return ARROW_TYPES[self.type]

    @property
    def type_name(self) -> str:
        """The type as people write it: decimal(10,2), array of string, integer."""
        if self.type == "decimal":
            return f"decimal({self.precision},{self.scale})"
        return f"array of {self.items}" if self.type == "array" else self.type


@dataclass(frozen=True, kw_only=True)
class DerivedId:
    """An id made of a source's fields, under which other tables know the same person."""

    name: str  # of the columns that hold it
    template: str  # the fields' names in braces, e.g. {shop_id}-{user_id}
    subject: str  # kind of person

    @property
    def parts(self) -> tuple[str, ...]:
        """The fields that it is made of."""
        return tuple(name for _, name, _, _ in Formatter().parse(self.template) if name)

    def of(self, values: Mapping[str, Any]) -> str:
        """The id of these values."""
        return self.template.format_map({name: str(values[name]) for name in self.parts})


@dataclass(frozen=True, kw_only=True)
class Contract:
    """One source's promise about its rows, at one version."""

    name: str
    version: str
    fields: tuple[Field, ...]
    primary_key: tuple[str, ...] = ()
    event_time: str | None = None
    open: bool = False  # columns that the contract does not name are dropped instead of refused
    description: str = ""
    owner: str | None = None
    derived_ids: tuple[DerivedId, ...] = ()

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        # Nullable throughout: validation enforces ``required``, so that relaxing it in a later
        # version needs no rewrite of a stored table.
        return pa.schema([pa.field(field.name, field.arrow_type) for field in self.fields])

    @cached_property
    def names(self) -> frozenset[str]:
        return frozenset(field.name for field in self.fields)

    def field(self, name: str) -> Field:
        """The field of this name; KeyError when the contract has none."""
        return next((f for f in self.fields if f.name == name), None) or self._no_field(name)

    def _no_field(self, name: str) -> Field:
        raise KeyError(f"contract {self.name} has no field {name!r}; it has {sorted(self.names)}")

    @property
    def unique_keys(self) -> tuple[tuple[str, ...], ...]:
        """Column groups whose values may occur once: the primary key, then each unique field."""
        singles = [(f.name,) for f in self.fields if f.unique and (f.name,) != self.primary_key]
        return ((self.primary_key,) if self.primary_key else ()) + tuple(singles)

    def pii_fields(self) -> dict[str, str]:
        """Column name to kind of personal data."""
        return {field.name: field.pii for field in self.fields if field.pii}

    def subject_fields(self, subject: str | None = None) -> dict[str, str]:
        """Column name to kind of person that it identifies; of one kind, or of all."""
        named = {field.name: field.subject for field in self.fields if field.subject}
        return {name: kind for name, kind in named.items() if subject in (None, kind)}
