"""What a table holds at one log position, as blocks of rows that were read (``op`` r)."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyarrow import csv

from scale_assets.ingest.postgres.blocks import ABOUT, Block
from scale_assets.ingest.postgres.clock import now_of
from scale_assets.ingest.postgres.errors import Disturbed
from scale_assets.ingest.postgres.messages import Column, Relation
from scale_assets.ingest.postgres.publication import Published, published_part
from scale_assets.ingest.postgres.tables import find_table

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

# A domain is what it is made of; generated columns are not replicated.
COLUMNS = """
    select a.attname::text, (
        with recursive made_of as (
            select a.atttypid as oid
            union all
            select t.typbasetype from made_of join pg_type t using (oid) where t.typtype = 'd'
        )
        select case n.nspname when 'pg_catalog' then '' else n.nspname || '.' end || t.typname
        from made_of
        join pg_type t using (oid)
        join pg_namespace n on n.oid = t.typnamespace
        where t.typtype <> 'd'
    )
    from pg_attribute a
    where a.attrelid = %s and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
    order by a.attnum
"""
FILES = """
    select array_agg(pg_relation_filenode(oid) order by oid)
    from (select %(oid)s::oid union select relid from pg_partition_tree(%(oid)s)) t (oid)
"""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What to read of a table, and where its rows were stored before the snapshot was made."""

    name: str
    oid: int
    is_partitioned: bool
    part: Published
    files: Any


def source_of(connection: "Connection", publication: str, name: str) -> Source:
    """Look at a table, before its snapshot is made."""
    oid, is_partitioned = find_table(connection, name)
    return Source(
        name=name,
        oid=oid,
        is_partitioned=is_partitioned,
        part=published_part(connection, publication, name),
        files=_files(connection, oid),
    )


@contextmanager
def at_snapshot(
    connection: "Connection", snapshot: str, *, simulated_clock: bool
) -> Iterator[datetime]:
    """Read as of an exported snapshot; gives the database's time."""
    from psycopg import sql

    connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY")
    try:
        connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(sql.Literal(snapshot)))
        yield now_of(connection, simulated=simulated_clock)
    finally:
        connection.execute("ROLLBACK")


def blocks(
    connection: "Connection", source: Source, *, point: int, read_at: datetime, max_bytes: int
) -> Iterator[Block]:
    """The table's rows, in blocks of about ``max_bytes`` as text; at least one block.

    Raises:
        Disturbed: The table was rewritten or emptied after ``source_of`` looked at it: readers as
            of before then see nothing of it.
    """
    from psycopg import sql

    identifier = sql.Identifier(*source.name.split(".", 1))
    connection.execute(sql.SQL("LOCK TABLE {} IN ACCESS SHARE MODE").format(identifier))
    if _files(connection, source.oid) != source.files:
        raise Disturbed(f"table {source.name} was rewritten while its snapshot was prepared")
    columns = _columns(connection, source)
    relation = _relation(source, list(columns))
    num_rows = 0
    for data in _copy(connection, _select(source, identifier, list(columns)), max_bytes):
        rows = _rows(data, list(columns))
        yield Block(
            relation=relation,
            types=tuple(columns.values()),
            rows=rows,
            about=_about(rows.num_rows, num_rows, point, read_at),
        )
        num_rows += rows.num_rows


def _columns(connection: "Connection", source: Source) -> dict[str, str]:
    found = dict(connection.execute(COLUMNS, [source.oid]).fetchall())
    published = source.part.columns
    return {name: found[name] for name in found if published is None or name in published}


def _relation(source: Source, columns: Sequence[str]) -> Relation:
    schema, table = source.name.split(".", 1)
    described = tuple(Column(name, 0, is_key=False) for name in columns)
    return Relation(source.oid, schema, table, "d", described)


def _select(source: Source, identifier: Any, columns: Sequence[str]) -> Any:
    from psycopg import sql

    # The filter is what the server itself shows of the publication's definition.
    where = f" WHERE {source.part.row_filter}" if source.part.row_filter else ""
    only = "" if source.is_partitioned else "ONLY "  # tables that inherit are told by themselves
    return sql.SQL("COPY (SELECT {} FROM {}{}{}) TO STDOUT (FORMAT csv)").format(
        sql.SQL(", ").join(map(sql.Identifier, columns)), sql.SQL(only), identifier, sql.SQL(where)
    )


def _copy(connection: "Connection", statement: Any, max_bytes: int) -> Iterator[bytes]:
    """The rows as CSV, in pieces of whole rows; one empty piece if there are none."""
    parts: list[Any] = []
    room = max_bytes
    is_empty = True
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in copy:
            parts.append(row)
            room -= len(row)
            if room <= 0:
                yield b"".join(parts)
                parts, room, is_empty = [], max_bytes, False
    if parts or is_empty:
        yield b"".join(parts)


def _rows(data: bytes, columns: list[str]) -> pa.Table:
    """CSV as PostgreSQL writes it: nothing at all is null, quotes around nothing are empty text."""
    types = dict.fromkeys(columns, pa.binary())
    if not data:
        return pa.table({name: pa.array([], type_) for name, type_ in types.items()})
    return csv.read_csv(
        pa.BufferReader(data),
        read_options=csv.ReadOptions(column_names=columns, block_size=len(data) + 1),
        parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            check_utf8=False,
        ),
    )


def _about(num_rows: int, first: int, point: int, read_at: datetime) -> pa.Table:
    columns: dict[str, Any] = {
        "op": pa.scalar("r"),
        "event_time": read_at,
        "received_at": read_at,
        "lsn": point,
        "tx_id": None,
        "unchanged": None,
    }
    return pa.table(
        [
            pa.array(range(first, first + num_rows), field.type)
            if field.name == "tx_ordinal"
            else pa.repeat(pa.scalar(columns[field.name], field.type), num_rows)
            for field in ABOUT
        ],
        schema=ABOUT,
    )


def _files(connection: "Connection", oid: int) -> Any:
    row = connection.execute(FILES, {"oid": oid}).fetchone()
    assert row is not None
    return row[0]
