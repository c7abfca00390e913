"""What is watched: a table or a feature view of the lake, as one row per entity and date."""

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from scale_assets.errors import ScaleError
from scale_assets.features.repo import ViewDeclaration
from scale_assets.features.streaming.declared import StreamingView
from scale_assets.lake.duckdb_types import quoted

if TYPE_CHECKING:
    import pyarrow as pa


class MonitoringError(ScaleError):
    """Something that cannot be watched as declared."""


class Kind(StrEnum):
    """What is measured of a feature's values."""

    NUMBER = "number"  # the value; one that is not finite counts as null
    CATEGORY = "category"  # of strings and booleans
    LENGTH = "length"  # of lists and bytes
    AGE = "age"  # of timestamps: days before the row's own time


@dataclass(frozen=True, kw_only=True)
class Feature:
    """One column, and what is measured of it."""

    name: str
    kind: Kind

    def sql(self, time: str) -> str:
        """The measured value: a text for a category, else a double."""
        column = quoted(self.name)
        match self.kind:
            case Kind.CATEGORY:
                return f"{column}::varchar"
            case Kind.LENGTH:
                return f"len({column})::double"
            case Kind.AGE:
                days = f"epoch({time} - {column}::timestamptz) / 86400"
                return f"({days})::double"
        value = f"{column}::double"
        return f"case when isfinite({value}) then {value} end"


@dataclass(frozen=True, kw_only=True)
class Watched:
    """Rows of a table: whose they are, which instant they describe, and their features."""

    name: str
    table: str
    entity: tuple[str, ...]
    time: str
    known_at: str | None = None
    features: tuple[Feature, ...]
    stream: StreamingView | None = None  # then the features are aggregates over the table's events

    def fingerprint(self, *others: object) -> str:
        """Changes when what is computed changes: numbers kept under another one are no longer true."""
        return hashlib.sha256(repr((self, *others)).encode()).hexdigest()[:16]


def watched_view(view: ViewDeclaration) -> Watched:
    """A feature view as declared."""
    return Watched(
        name=view.name,
        table=view.source.table,
        entity=view.join_keys,
        time=view.source.feature_time,
        known_at=view.source.known_at,
        features=tuple(Feature(name=name, kind=_kind(type_)) for name, type_ in view.columns),
        stream=view.stream,
    )


def watched_table(
    table: str, schema: "pa.Schema", *, entity: tuple[str, ...], time: str
) -> Watched:
    """Every column of a lake table but its entity and time, structs and maps left out.

    Raises:
        MonitoringError: The table lacks a declared column.
    """
    for name in (*entity, time):
        if name not in schema.names:
            raise MonitoringError(f"table {table} has no column {name!r}; it has {schema.names}")
    kinds = {
        field.name: _kind(str(field.type))
        for field in schema
        if field.name not in {*entity, time} and not _is_nested(field.type)
    }
    return Watched(
        name=table,
        table=table,
        entity=entity,
        time=time,
        features=tuple(Feature(name=name, kind=kind) for name, kind in kinds.items()),
    )


def _is_nested(type_: "pa.DataType") -> bool:
    return str(type_).startswith(("struct", "map"))


def _kind(type_: str) -> Kind:
    """Of a type as the codec or Arrow names it."""
    if type_.startswith(("list", "large_list", "bytes", "binary", "large_binary")):
        return Kind.LENGTH
    if type_.startswith(("timestamp", "date")):
        return Kind.AGE
    return Kind.CATEGORY if type_.startswith(("bool", "string", "large_string")) else Kind.NUMBER
