"""One person's rows out of dbt's DuckDB file, and their bytes out of its free blocks."""

from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.erasure.delta import Erased
from scale_assets.erasure.person import ErasureError, Person
from scale_assets.lake import fault_point
from scale_assets.lake.duckdb_types import literal, quoted

if TYPE_CHECKING:
    import duckdb

FRESH = "forget_fresh"


def erase_warehouse(path: Path, person: Person) -> list[Erased]:
    """Delete rows of every table, then copy what is left to a new file that replaces the old.

    DuckDB leaves deleted rows in free blocks, which a copy does not have.

    Raises:
        ErasureError: Another process has the file open.
    """
    import duckdb

    if not path.is_file():
        return []
    try:
        connection = duckdb.connect(str(path))
    except duckdb.IOException as error:
        raise ErasureError(f"{path} is in use; end what uses it and run again: {error}") from error
    staged = path.with_name(f"{path.name}.{FRESH}")
    with connection:
        erased = [
            Erased(name=f"{path.name}:{table}", num_rows=_delete(connection, table, person))
            for table in tables_of(connection)
        ]
        _copy(connection, staged)
    fault_point("before_replace")
    staged.replace(path)
    path.with_name(f"{path.name}.wal").unlink(missing_ok=True)
    return [each for each in erased if each.num_rows]


def tables_of(connection: "duckdb.DuckDBPyConnection") -> list[str]:
    """Every table of the file, quoted; views hold no rows of their own."""
    rows = connection.sql(
        "select schema_name, table_name from duckdb_tables() where not temporary "
        "and database_name = current_database() order by all"
    ).fetchall()
    return [f"{quoted(schema)}.{quoted(table)}" for schema, table in rows]


def ids_of(
    connection: "duckdb.DuckDBPyConnection", table: str, person: Person
) -> dict[str, list[str]]:
    """Their ids in each identifying column of a table that has any."""
    columns = [row[0] for row in connection.sql(f"describe {table}").fetchall()]
    found = {}
    for name in columns:
        if name not in person.names:
            continue
        values = connection.sql(
            f"select distinct {quoted(name)}::varchar as id from {table}"
        ).to_arrow_table()["id"]
        if texts := person.found_in(name, values.cast(pa.string())):
            found[name] = texts
    return found


def _delete(connection: "duckdb.DuckDBPyConnection", table: str, person: Person) -> int:
    found = ids_of(connection, table, person)
    if not found:
        return 0
    conditions = [
        f"{quoted(name)}::varchar in ({', '.join(map(literal, texts))})"
        for name, texts in found.items()
    ]
    done = connection.execute(f"delete from {table} where {' or '.join(conditions)}").fetchall()
    return int(done[0][0])


def _copy(connection: "duckdb.DuckDBPyConnection", staged: Path) -> None:
    for leftover in (staged, staged.with_name(f"{staged.name}.wal")):
        leftover.unlink(missing_ok=True)
    connection.execute(f"attach {literal(str(staged))} as {FRESH}")
    ((name,),) = connection.sql("select current_database()").fetchall()
    connection.execute(f"copy from database {quoted(name)} to {FRESH}")
    connection.execute(f"detach {FRESH}")
