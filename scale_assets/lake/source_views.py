"""Lake tables as views of a DuckDB file, each over exactly one Delta snapshot."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from scale_assets.lake.duckdb_types import quoted
from scale_assets.lake.lake import Lake

if TYPE_CHECKING:
    import duckdb

ALL_DATES = (date.min, date.max)


@dataclass(frozen=True, kw_only=True)
class SourceView:
    """A lake table under a name that SQL can write."""

    table: str
    name: str
    date_column: str | None = None  # the column that a run's range of dates is about


def connect(path: Path, *, read_only: bool) -> "duckdb.DuckDBPyConnection":
    """Open a DuckDB file; instants are shown, and turned into dates, as UTC."""
    import duckdb

    path.parent.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(str(path), read_only=read_only)
    connection.execute("SET TimeZone = 'UTC'")
    return connection


def create_source_views(
    lake: Lake,
    connection: "duckdb.DuckDBPyConnection",
    views: Sequence[SourceView],
    *,
    schema: str,
    dates: tuple[date, date] | None = None,
) -> dict[str, int]:
    """Create or replace the views in one transaction; return the Delta version behind each table.

    With ``dates`` (both included) the views of tables that have a date column hold only those
    dates, so that models over them do exactly one range. The view ``run_dates`` says which range
    that is, first_date to last_date, for models that remove what they write anew.

    Raises:
        MissingTable: The lake lacks one of the tables.
    """
    versions = {view.table: lake.version(view.table) for view in views}
    connection.execute("BEGIN")
    connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
    for view in views:
        relation = lake.duckdb_relation_sql(view.table, version=versions[view.table])
        where = ""
        if dates is not None and view.date_column is not None:
            first, last = dates
            where = f" WHERE {quoted(view.date_column)} BETWEEN DATE '{first}' AND DATE '{last}'"
        connection.execute(
            f"CREATE OR REPLACE VIEW {quoted(schema)}.{quoted(view.name)} AS "
            f"SELECT * FROM ({relation}){where}"
        )
    first, last = dates or ALL_DATES
    connection.execute(
        f"CREATE OR REPLACE VIEW {quoted(schema)}.run_dates AS "
        f"SELECT DATE '{first}' AS first_date, DATE '{last}' AS last_date"
    )
    connection.execute("COMMIT")
    return versions
