"""Whether a Parquet file holds something of a person: values, dictionaries, footer, folder."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scale_assets.erasure.person import Feed, Person
from scale_assets.lake.parquet_files import parse_partition_folder


def found_in_parquet(
    path: Path, person: Person, *, quarantine_of: Feed | None = None
) -> Iterator[str]:
    """Columns and parts of the file in which an id of theirs stands."""
    yield from _in_folder(path, person)
    schema = pq.read_schema(path)
    texts = [field.name for field in schema if pa.types.is_string(field.type)]
    # Read as dictionaries: their pages may hold values that no row has any more.
    file = pq.ParquetFile(path, read_dictionary=texts)
    yield from _in_footer(file.metadata, person)
    for batch in file.iter_batches():
        for name, column in zip(batch.schema.names, batch.columns, strict=True):
            if quarantine_of is not None and name == "raw":
                raws = pc.unique(column).to_pylist()
                if any(person.owns_line(raw, quarantine_of.contract) for raw in raws):
                    yield f"column {name}"
            elif is_in_values(name, column, person):
                yield f"column {name}"


def is_in_values(name: str, column: pa.Array, person: Person) -> bool:
    """Whether an id of theirs is among the values of a column, nested ones included."""
    if pa.types.is_dictionary(column.type):
        return is_in_values(name, column.dictionary, person)
    if pa.types.is_struct(column.type):
        return any(
            is_in_values(field.name, column.field(at), person)
            for at, field in enumerate(column.type)
        )
    if pa.types.is_map(column.type):
        return any(is_in_values(name, part, person) for part in (column.keys, column.items))
    if hasattr(column.type, "value_field"):
        return is_in_values(name, column.flatten(), person)
    if name in person.names:
        return bool(person.found_in(name, column))
    return any(speaks_of(name, value, person) for value in _texts(column))


def speaks_of(name: str, value: Any, person: Person) -> bool:
    """Whether the text of a column that is not declared otherwise can only mean them."""
    pattern = person.pattern
    if pattern is None or name.startswith("_") or person.is_declared_otherwise(name):
        return False
    raw = value.encode() if isinstance(value, str) else value
    return isinstance(raw, bytes) and pattern.search(raw) is not None


def _texts(column: pa.Array) -> Iterable[Any]:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary)
    if not any(is_kind(column.type) for is_kind in kinds):
        return []
    found: list[Any] = pc.unique(column).drop_null().to_pylist()
    return found


def _in_folder(path: Path, person: Person) -> Iterator[str]:
    for part in path.parent.parts:
        name, is_partition, _ = part.partition("=")
        if is_partition and name in person.names:
            value = parse_partition_folder([part])[name]
            if value is not None and person.has(name, value):
                yield f"folder {name}"


def _in_footer(metadata: pq.FileMetaData, person: Person) -> Iterator[str]:
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            name = column.path_in_schema.split(".")[-1]
            if not (column.is_stats_set and column.statistics.has_min_max):
                continue
            for bound in (column.statistics.min, column.statistics.max):
                if is_theirs(name, bound, person):
                    yield f"footer statistics of {name}"


def is_theirs(name: str, value: Any, person: Person) -> bool:
    """Whether one value of a column of this name is theirs."""
    if value is None:
        return False
    return person.has(name, str(value)) if name in person.names else speaks_of(name, value, person)
