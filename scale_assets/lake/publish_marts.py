"""Warehouse tables into the lake: one commit each, and none where nothing changed."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from scale_assets.lake.duckdb_types import quoted
from scale_assets.lake.lake import Lake

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

FINGERPRINT = "content_fingerprint"
ROWS_PER_BATCH = 100_000


@dataclass(frozen=True, kw_only=True)
class Published:
    """What a publication came to."""

    table: str
    version: int
    num_rows: int
    is_new: bool  # False: the lake already held exactly these rows
    rows_by_date: Mapping[date, int] | None = None  # of the dates published, where it goes by date


def publish_mart(
    lake: Lake,
    connection: "duckdb.DuckDBPyConnection",
    *,
    relation: str,
    table: str,
    metadata: Mapping[str, Any] | None = None,
) -> Published:
    """Replace the lake table by the relation's rows, unless its last commit says it holds them."""
    num_rows, fingerprint = _fingerprint(connection, relation)
    if lake.exists(table) and lake.last_metadata(table).get(FINGERPRINT) == fingerprint:
        version = lake.version(table)
        return Published(table=table, version=version, num_rows=num_rows, is_new=False)
    version = lake.overwrite(
        table,
        _rows(connection, f"SELECT * FROM {relation}"),
        metadata={**(metadata or {}), FINGERPRINT: fingerprint},
    )
    return Published(table=table, version=version, num_rows=num_rows, is_new=True)


def publish_dates(
    lake: Lake,
    connection: "duckdb.DuckDBPyConnection",
    *,
    relation: str,
    table: str,
    partition_by: str,
    dates: tuple[date, date],
    metadata: Mapping[str, Any] | None = None,
) -> Published:
    """Replace the lake table's partitions of a range of dates (both included) in one commit.

    Dates of the range that the lake holds and the relation does not are emptied.
    """
    first, last = dates
    column = quoted(partition_by)
    within = f"FROM {relation} WHERE {column} BETWEEN DATE '{first}' AND DATE '{last}'"
    counts = connection.sql(f"SELECT {column}, count(*) {within} GROUP BY ALL").fetchall()
    version = lake.replace_partitions(
        table,
        _rows(connection, f"SELECT * {within} ORDER BY {column}"),
        partition_by=partition_by,
        keys=_dates_held(lake, table, partition_by, first=first, last=last),
        metadata=metadata,
    )
    return Published(
        table=table,
        version=version,
        num_rows=sum(num_rows for _, num_rows in counts),
        is_new=True,
        rows_by_date=dict(counts),
    )


def _dates_held(lake: Lake, table: str, partition_by: str, *, first: date, last: date) -> list[str]:
    if not lake.exists(table):
        return []
    held = (values[partition_by] for values in lake.open(table).partitions())
    return [str(day) for day in held if str(first) <= str(day) <= str(last)]


def _rows(connection: "duckdb.DuckDBPyConnection", query: str) -> "pa.RecordBatchReader":
    return connection.sql(query).to_arrow_reader(ROWS_PER_BATCH)


def _fingerprint(connection: "duckdb.DuckDBPyConnection", relation: str) -> tuple[int, str]:
    """Row count, and a hash of names, types and rows in any order.

    DuckDB may change its hash function between releases, so the release is part of it.
    """
    [(num_rows, total, mixed, release)] = connection.sql(
        f"SELECT count(*), coalesce(sum(hash(each)), 0), coalesce(bit_xor(hash(each)), 0), "
        f"version() FROM {relation} AS each"
    ).fetchall()
    described = connection.sql(f"DESCRIBE {relation}").fetchall()
    columns = ",".join(f"{name}:{kind}" for name, kind, *_ in described)
    return num_rows, f"{release}|{num_rows}|{total:x}|{mixed:x}|{columns}"
