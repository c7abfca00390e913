"""Whether a database's file holds something of a person: in rows, or in what it did not wipe."""

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

from scale_assets.erasure.online import keys_of
from scale_assets.erasure.parquet_search import speaks_of
from scale_assets.erasure.person import Person
from scale_assets.erasure.warehouse import ids_of, tables_of
from scale_assets.features.repo import ViewDeclaration
from scale_assets.features.stores.sqlite import table_of
from scale_assets.lake.duckdb_types import quoted


def found_in_sqlite(path: Path, person: Person, views: Sequence[ViewDeclaration]) -> Iterator[str]:
    """Views with a key of theirs, and bytes anywhere in the file."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    try:
        tables = {name for (name,) in connection.execute("select name from sqlite_master")}
        for view in views:
            if f"view:{view.name}" in tables:
                rows = connection.execute(f"select key from {table_of(view.name)}")
                if keys_of([key for (key,) in rows], view, person):
                    yield f"view {view.name}"
    finally:
        connection.close()
    yield from _in_bytes(path, person)


def found_in_duckdb(path: Path, person: Person) -> Iterator[str]:
    """Tables with an id of theirs, and bytes anywhere in the file."""
    import duckdb

    with duckdb.connect(str(path), read_only=True) as connection:
        for table in tables_of(connection):
            if ids_of(connection, table, person):
                yield f"table {table}"
            for name, kind, *_ in connection.sql(f"describe {table}").fetchall():
                if kind != "VARCHAR" or name in person.names:
                    continue
                rows = connection.sql(f"select distinct {quoted(name)} from {table}")
                if any(speaks_of(name, value, person) for (value,) in rows.fetchall()):
                    yield f"table {table}, column {name}"
    yield from _in_bytes(path, person)


def _in_bytes(path: Path, person: Person) -> Iterator[str]:
    pattern = person.pattern
    if pattern is not None and (found := pattern.search(path.read_bytes())):
        yield f"byte {found.start()}"
