"""What a contract says: the fields of one source, their types, and what each value must satisfy."""

from dataclasses import dataclass
from datetime import date, datetime
from functools import cached_property
from typing import Literal

import pyarrow as pa

from scale_assets.errors import ScaleError

LogicalType = Literal["string", "integer", "number", "boolean", "date", "timestamp"]
Bound = int | float | date | datetime

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
    allowed: tuple[str | int | float | bool, ...] | None = None
    pii: str | None = None  # kind of personal data, from the tag "pii:<kind>"
    classification: str | None = None
    debezium_type: str | None = None  # how change events encode it, e.g. io.debezium.time.Date

    @property
    def arrow_type(self) -> pa.DataType:
        return ARROW_TYPES[self.type]


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
