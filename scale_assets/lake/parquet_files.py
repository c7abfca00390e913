"""Parquet files in a Delta table's folder, and the actions that would commit them.

Until a commit names them, such files are orphans: no reader sees them, vacuum removes them.
"""

import errno
import json
import operator
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake.transaction import AddAction

from scale_assets.lake.errors import LakeError
from scale_assets.lake.fit import delta_schema, fit

HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"
MAX_STATISTIC_CHARS = 64  # longer texts would make the log grow; leaving them out is always sound
ROWS_PER_WRITE = 1 << 20

PartitionValues = dict[str, str | None]
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "in": lambda value, bounds: value in bounds,
}


def write_files(
    folder: str,
    data: pa.Table | pa.RecordBatchReader,
    *,
    partition_by: Sequence[str],
    schema: pa.Schema,
    is_lasting: bool = True,
) -> list[AddAction]:
    """Write data below the table's folder, one file per partition and about a million rows.

    What the next commits will replace need not last: it is written faster, and larger by a fifth.
    """
    compression = "zstd" if is_lasting else "snappy"
    actions: list[AddAction] = []
    for chunk in _chunks(data):
        fitted = fit(chunk, schema)
        for values, rows in split_by_partition(fitted, partition_by):
            path = f"{partition_folder(values)}part-{uuid.uuid4()}.{compression}.parquet"
            target = Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            texts = [field.name for field in rows.schema if pa.types.is_string(field.type)]
            pq.write_table(
                rows,
                target,
                compression=compression,
                coerce_timestamps="us",
                use_dictionary=texts,  # all else comes out as small without, and a quarter faster
                write_statistics=is_lasting or [n for n in rows.column_names if n not in texts],
            )
            actions.append(add_action(target, path=path, partition_values=values))
    return actions


def adopt_files(
    table: str, staged_dir: Path, *, partition_by: Sequence[str]
) -> Iterator[tuple[Path, str, PartitionValues]]:
    """The staged Parquet files, each with its path in the table and its partition values."""
    for staged in sorted(staged_dir.rglob("*.parquet")):
        parts = staged.relative_to(staged_dir).parts
        if any(part.startswith(("_", ".")) for part in parts):
            continue  # what Spark leaves behind for itself
        values = parse_partition_folder(parts[:-1])
        if list(values) != list(partition_by):
            raise LakeError(
                f"staged file {staged} is partitioned by {list(values)}, "
                f"the table {table} by {list(partition_by)}; stage it the table's way"
            )
        yield staged, f"{partition_folder(values)}part-{uuid.uuid4()}.parquet", values


def refuse_outside(
    file: Path, values: PartitionValues, replace: Sequence[tuple[str, str, str | list[str]]]
) -> None:
    """Refuse a staged file whose partition is not among those being replaced.

    Raises:
        LakeError: It would be added beside rows that stay, so a rerun would store it twice.
    """
    for column, comparison, bound in replace:
        if comparison not in _COMPARE:
            raise LakeError(f"replace filter {comparison!r}: use one of {sorted(_COMPARE)}")
        value = values.get(column)
        if value is None or not _COMPARE[comparison](value, bound):
            raise LakeError(
                f"staged file {file} has {column}={value}, outside the replaced partitions "
                f"({column} {comparison} {bound}); widen replace or filter the rows"
            )


def refuse_other_schema(file: Path, schema: pa.Schema, partition_by: Sequence[str]) -> None:
    """Refuse a staged file whose columns are not the table's, before anything moves."""
    wanted = {f.name: f.type for f in schema if f.name not in partition_by}
    present = {f.name: f.type for f in delta_schema(pq.read_schema(file))}
    if wanted != present:
        differing = sorted(
            f"{name}: staged {present.get(name)}, table {wanted.get(name)}"
            for name in wanted.keys() | present.keys()
            if wanted.get(name) != present.get(name)
        )
        raise LakeError(f"staged file {file} does not fit: {'; '.join(differing)}")


def move_into(folder: str, staged: Path, path: str) -> Path:
    """Move one file into the table's folder; a rename where both share a disk."""
    target = Path(folder, path)
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        staged.replace(target)
    except OSError as error:
        if error.errno != errno.EXDEV:  # another disk
            raise
        shutil.copyfile(staged, target)
        staged.unlink()
    return target


def add_action(file: Path, *, path: str, partition_values: PartitionValues) -> AddAction:
    """The action that commits one file, with its statistics."""
    stat = file.stat()
    return AddAction(
        path=path,  # delta-rs encodes it for the log
        size=stat.st_size,
        partition_values=partition_values,
        modification_time=int(stat.st_mtime * 1000),
        data_change=True,
        stats=json.dumps(statistics(pq.read_metadata(file))),
    )


def statistics(metadata: pq.FileMetaData) -> dict[str, Any]:
    """Delta's numRecords, minValues, maxValues and nullCount from a Parquet footer."""
    smallest: dict[str, Any] = {}
    largest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for index in range(metadata.num_columns):
        name = metadata.schema.column(index).path
        if "." in name:
            continue  # nested; its footer counts elements, not rows
        columns = [metadata.row_group(g).column(index) for g in range(metadata.num_row_groups)]
        found = [column.statistics for column in columns if column.is_stats_set]
        if len(found) < len(columns):
            continue
        if all(item.has_null_count for item in found):
            nulls[name] = sum(item.null_count for item in found)
        bounds = [item for item in found if item.num_values]
        if bounds and all(item.has_min_max and _usable(item.min, item.max) for item in bounds):
            smallest[name] = _as_json(min(item.min for item in bounds))
            largest[name] = _as_json(max(item.max for item in bounds))
    return {
        "numRecords": metadata.num_rows,
        "minValues": smallest,
        "maxValues": largest,
        "nullCount": nulls,
    }


def _usable(smallest: object, largest: object) -> bool:
    # Floats are left out: footers ignore NaN, which sorts above every number.
    kinds = (bool, int, date, datetime)
    texts = isinstance(smallest, str) and isinstance(largest, str)
    if texts:
        return max(len(str(smallest)), len(str(largest))) <= MAX_STATISTIC_CHARS
    return isinstance(smallest, kinds) and isinstance(largest, kinds)


def _as_json(value: Any) -> Any:
    if isinstance(value, datetime):
        utc = value.astimezone(UTC) if value.tzinfo else value
        return utc.strftime("%Y-%m-%dT%H:%M:%S.%f") + ("Z" if value.tzinfo else "")
    return value.isoformat() if isinstance(value, date) else value


def split_by_partition(
    table: pa.Table, partition_by: Sequence[str]
) -> Iterator[tuple[PartitionValues, pa.Table]]:
    """Rows of each partition, in their order, without the partition columns."""
    if not partition_by:
        yield {}, table
        return
    keys = table.select(partition_by).combine_chunks()
    first = keys.slice(0, 1).to_pylist()[0]
    if all(_is_constant(column) for column in keys.columns):
        values = {name: partition_text(value) for name, value in first.items()}
        yield values, table.drop_columns(list(partition_by))
        return
    order = pc.sort_indices(keys, sort_keys=[(name, "ascending") for name in partition_by])
    ordered = table.take(order)  # stable: equal keys keep their order
    keys = ordered.select(partition_by).combine_chunks()
    starts = _starts_of_runs(keys)
    groups = keys.take(pa.array(starts)).to_pylist()
    rows = ordered.drop_columns(list(partition_by))
    for group, start, end in zip(groups, starts, [*starts[1:], table.num_rows], strict=True):
        yield (
            {name: partition_text(value) for name, value in group.items()},
            rows.slice(start, end - start),
        )


def _starts_of_runs(keys: pa.Table) -> list[int]:
    """Rows that differ from the one before; a group_by may give its groups in any order."""
    differs = np.zeros(keys.num_rows - 1, dtype=bool)
    for column in keys.columns:
        here, before = column[1:], column[:-1]
        unequal = pc.coalesce(pc.not_equal(here, before), pc.xor(here.is_null(), before.is_null()))
        differs |= unequal.to_numpy(zero_copy_only=False)
    return [0, *(np.flatnonzero(differs) + 1).tolist()]


def _is_constant(column: pa.ChunkedArray) -> bool:
    if column.null_count:
        return bool(column.null_count == len(column))
    return bool(pc.all(pc.equal(column, column[0])).as_py())


def partition_text(value: Any) -> str | None:
    """A partition value as Delta and hive folders write it."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, datetime):
        raise LakeError(f"cannot partition by a timestamp ({value}); add a date column")
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def partition_folder(values: Mapping[str, str | None]) -> str:
    """Hive folders with their trailing slash; '' without partitions."""
    return "".join(
        f"{name}={HIVE_NULL if value is None else quote(value, safe='')}/"
        for name, value in values.items()
    )


def parse_partition_folder(parts: Sequence[str]) -> PartitionValues:
    """Partition values from hive folder names, in their order."""
    values: PartitionValues = {}
    for part in parts:
        name, _, value = part.partition("=")
        values[name] = None if value == HIVE_NULL else unquote(value)
    return values


def _chunks(data: pa.Table | pa.RecordBatchReader) -> Iterator[pa.Table]:
    if isinstance(data, pa.Table):
        if data.num_rows:
            yield data
        return
    pending: list[pa.RecordBatch] = []
    for batch in data:
        pending.append(batch)
        if sum(b.num_rows for b in pending) >= ROWS_PER_WRITE:
            yield pa.Table.from_batches(pending, schema=data.schema)
            pending = []
    if any(b.num_rows for b in pending):
        yield pa.Table.from_batches(pending, schema=data.schema)
