"""Where in a schema a person's ids stand: columns of those names, in structs too."""

from collections.abc import Collection, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

Path = tuple[str, ...]


def id_paths(schema: pa.Schema | pa.StructType, names: Collection[str]) -> list[Path]:
    """Columns and struct fields of these names, as the path to each."""
    return list(_paths(schema, names))


def _paths(fields: Any, names: Collection[str]) -> Iterator[Path]:
    for field in fields:
        if pa.types.is_struct(field.type):
            yield from ((field.name, *rest) for rest in _paths(field.type, names))
        elif field.name in names:
            yield (field.name,)


def column_at(table: pa.Table, path: Path) -> pa.ChunkedArray:
    """The values at a path."""
    column = table[path[0]]
    return column if len(path) == 1 else pc.struct_field(column, list(path[1:]))


def predicate(path: Path, texts: Collection[str], type_: pa.DataType) -> str:
    """SQL, as delta-rs reads it, for rows with one of these values there."""
    values = sorted(texts) if pa.types.is_integer(type_) else [_literal(t) for t in sorted(texts)]
    inner = "".join(f"[{_literal(name)}]" for name in path[1:])
    return f"{_identifier(path[0])}{inner} IN ({', '.join(values)})"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
