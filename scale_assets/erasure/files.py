"""One person's rows out of Parquet files that no table owns: datasets and predictions."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scale_assets.erasure.columns import column_at, id_paths
from scale_assets.erasure.delta import Erased
from scale_assets.erasure.person import Person
from scale_assets.lake import fault_point

LEFTOVER = ".forget-"  # begins the name of a file that was not finished


def parquet_files(folders: Iterable[Path]) -> Iterator[Path]:
    """Every Parquet file below these folders, each once."""
    found = {path.resolve() for folder in folders for path in folder.rglob("*.parquet")}
    yield from sorted(path for path in found if not path.name.startswith(LEFTOVER))


def erase_file(path: Path, person: Person) -> Erased:
    """Rewrite one file without the rows that are theirs; readers see the old one or the new."""
    for leftover in path.parent.glob(f"{LEFTOVER}*"):
        leftover.unlink()
    paths = id_paths(pq.read_schema(path), person.names)
    if not paths:
        return Erased(name=str(path), num_rows=0)
    table = pq.read_table(path)
    is_theirs = rows_of(table, person)
    num_rows = pc.sum(is_theirs).as_py() or 0
    if num_rows:
        _replace(path, table.filter(pc.invert(is_theirs)))
    return Erased(name=str(path), num_rows=num_rows, num_files_rewritten=int(num_rows > 0))


def rows_of(table: pa.Table, person: Person) -> pa.ChunkedArray:
    """Which rows hold an id of theirs."""
    found = pa.chunked_array([pa.repeat(pa.scalar(False), table.num_rows)])
    for path in id_paths(table.schema, person.names):
        texts = column_at(table, path).cast(pa.string())
        theirs = pa.array(person.found_in(path[-1], texts), pa.string())
        found = pc.or_(found, pc.is_in(texts, value_set=theirs))
    return found


def _replace(path: Path, rows: pa.Table) -> None:
    before = pq.read_metadata(path)
    codec = before.row_group(0).column(0).compression if before.num_row_groups else "ZSTD"
    staged = path.with_name(f"{LEFTOVER}{path.name}")
    pq.write_table(
        rows,
        staged,
        compression="NONE" if codec == "UNCOMPRESSED" else codec,
        row_group_size=before.row_group(0).num_rows if before.num_row_groups else None,
    )
    fault_point("before_replace")
    staged.replace(path)
