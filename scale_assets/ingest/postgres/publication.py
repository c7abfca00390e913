"""The publication: which tables a slot tells of, and that it tells everything of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scale_assets.ingest.postgres.errors import NotPrepared

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

OPERATIONS = ("insert", "update", "delete", "truncate")
SINCE_COLUMN_LISTS = 150000
FIND = "select pubinsert, pubupdate, pubdelete, pubtruncate from pg_publication where pubname = %s"
TABLES = "select schemaname || '.' || tablename from pg_publication_tables where pubname = %s"
PARTS = """
    select attnames::text[], rowfilter from pg_publication_tables
    where pubname = %s and schemaname || '.' || tablename = %s
"""


@dataclass(frozen=True)
class Published:
    """The part of a table that a publication tells of; None means all."""

    columns: Sequence[str] | None
    row_filter: str | None


def require_publication(connection: "Connection", name: str, tables: Sequence[str]) -> None:
    """Make the publication if there is none, and refuse one that would leave something out.

    Raises:
        NotPrepared: It leaves out tables or operations, or we may not make it; with the statement.
    """
    from psycopg import errors, sql

    row = connection.execute(FIND, [name]).fetchone()
    if row is None:
        statement = sql.SQL(
            "CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)"
        ).format(
            sql.Identifier(name),
            sql.SQL(", ").join(sql.Identifier(*table.split(".", 1)) for table in tables),
        )
        try:
            connection.execute(statement)
        except errors.InsufficientPrivilege as error:
            raise NotPrepared(
                f"publication {name} does not exist, and this role may not make it "
                f"({str(error).strip()}); its owner runs: {statement.as_string(connection)}"
            ) from error
        return
    left_out = [each for each, is_told in zip(OPERATIONS, row, strict=True) if not is_told]
    if left_out:
        raise NotPrepared(
            f"publication {name} leaves out {', '.join(left_out)}; run ALTER PUBLICATION {name} "
            f"SET (publish = '{', '.join(OPERATIONS)}')"
        )
    there = {table for (table,) in connection.execute(TABLES, [name]).fetchall()}
    missing = [table for table in tables if table not in there]
    if missing:
        raise NotPrepared(
            f"publication {name} has no {', '.join(missing)}; run ALTER PUBLICATION {name} ADD "
            f"TABLE {', '.join(missing)} (of a partitioned table, it must also say "
            "publish_via_partition_root = true)"
        )


def published_part(connection: "Connection", publication: str, table: str) -> Published:
    """What of a table the publication tells: a snapshot must show the same."""
    if connection.info.server_version < SINCE_COLUMN_LISTS:
        return Published(None, None)
    row = connection.execute(PARTS, [publication, table]).fetchone()
    return Published(None, None) if row is None else Published(row[0], row[1])
