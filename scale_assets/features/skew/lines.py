"""The log of served vectors, as a table of one model's lines; what a crash tore is counted."""

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.features.codec import to_micros

if TYPE_CHECKING:
    import duckdb

MAX_VECTORS = 20_000
"""More would not tell a share of a thousandth any better; the newest files are read first."""


def store_vectors(
    connection: "duckdb.DuckDBPyConnection", folder: Path, *, model: str, since: datetime
) -> int:
    """Put what ``model`` was served since then into the table ``vectors``, one row per line.

    Columns: vector (a number), place (file:line), served_at (microseconds), version, line (JSON).
    Returns how many lines were torn.
    """
    connection.execute(
        "create or replace temp table vectors"
        " (vector bigint, place varchar, served_at bigint, version varchar, line json)"
    )
    num_torn = num_vectors = 0
    for path, lines in _files(folder, since):
        connection.register("file_lines", lines)
        num_torn += connection.execute(
            "select count(*) from file_lines where not json_valid(text)"
        ).fetchall()[0][0]
        num_vectors += connection.execute(
            "insert into vectors select row_number() over () + $before, $file || ':' || number,"
            " (line ->> '$.served_at_us')::bigint, line ->> '$.version', line"
            " from (select number, text::json as line from file_lines where json_valid(text))"
            " where line ->> '$.model' = $model and (line ->> '$.served_at_us')::bigint >= $since"
            " order by number desc limit $room",
            {
                "before": num_vectors,
                "file": path.name,
                "model": model,
                "since": to_micros(since),
                "room": MAX_VECTORS - num_vectors,
            },
        ).fetchall()[0][0]
        if num_vectors >= MAX_VECTORS:
            break
    return num_torn


def _files(folder: Path, since: datetime) -> Iterator[tuple[Path, pa.Table]]:
    """Number and text of every line, in files that may hold some of the time, newest first."""
    for path in sorted(folder.glob("[!.]*.jsonl"), reverse=True):
        try:
            if path.stat().st_mtime < since.timestamp():
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            continue  # its time was up
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        yield path, pa.table({"number": range(1, len(lines) + 1), "text": lines})
