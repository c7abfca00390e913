"""Runs one transform over a range of dates and publishes its rows in one Delta commit."""

import shutil
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from scale_assets.errors import ScaleError
from scale_assets.lake import Lake
from scale_assets.transforms.tables import DateRange, Rewrite, Snapshot, stage

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

STALE_SECONDS = 24 * 3600  # a killed run leaves its staged files; nobody stages for a day


class GrainBroken(ScaleError):
    """Several rows share a key that should be unique; nothing was published."""

    def __init__(
        self, table: str, *, key: Sequence[str], num_keys: int, example: dict[str, str]
    ) -> None:
        super().__init__(
            f"table {table}: {num_keys} values of key {list(key)} occur more than once, for example "
            f"{example}; nothing was published. Mend the function, or declare the key that it makes"
        )
        self.num_keys = num_keys
        self.example = example


@dataclass(frozen=True, kw_only=True)
class Published:
    """What one commit replaced."""

    version: int
    dates: DateRange
    rows_per_date: dict[date, int]
    schema: pa.Schema
    input_versions: dict[str, int]
    spark_seconds: float
    publish_seconds: float

    @property
    def num_rows(self) -> int:
        return sum(self.rows_per_date.values())


def materialize(
    transform: Callable[..., "DataFrame | Rewrite"],
    *,
    spark: "SparkSession",
    lake: Lake,
    table: str,
    inputs: Mapping[str, str],
    params: Mapping[str, Any],
    dates: DateRange,
    partition_by: str,
    key: Sequence[str],
) -> Published:
    """Replace the partitions of ``dates`` (and what the transform says changes with them).

    Args:
        transform: As scale_assets.transforms.tables describes.
        spark: The process's session.
        lake: Where the inputs are and the table goes.
        table: Name of the table in the lake.
        inputs: Parameter of the transform to the lake table that it reads.
        params: The transform's own parameters.
        dates: The partitions to make.
        partition_by: Date column that partitions the table.
        key: Columns that identify a row; checked before anything is published.

    Raises:
        GrainBroken: A key occurs twice.
    """
    started = time.monotonic()
    snapshots = {
        name: Snapshot(spark=spark, lake=lake, table=source) for name, source in inputs.items()
    }
    made = transform(**snapshots, dates=dates, **params)
    rewrite = made if isinstance(made, Rewrite) else Rewrite(rows=made, dates=dates)
    schema = _arrow_schema(rewrite.rows)
    with _staging_folder(lake.staging_folder(table)) as folder:
        stage(rewrite, folder=str(folder), partition_by=partition_by, sort_by=list(key))
        staged = time.monotonic()
        _refuse_repeated_keys(folder, table=table, key=key)
        rows_per_date = _count_rows(folder, partition_by)
        version = lake.publish_parquet(
            table,
            folder,
            schema=schema,
            partition_by=[partition_by],
            replace=[
                (partition_by, ">=", rewrite.dates.first.isoformat()),
                (partition_by, "<=", rewrite.dates.last.isoformat()),
            ],
            metadata={
                "inputs": {source: snapshots[name].version for name, source in inputs.items()}
            },
        )
    return Published(
        version=version,
        dates=rewrite.dates,
        rows_per_date=rows_per_date,
        schema=schema,
        input_versions={source: snapshots[name].version for name, source in inputs.items()},
        spark_seconds=staged - started,
        publish_seconds=time.monotonic() - staged,
    )


def _arrow_schema(rows: "DataFrame") -> pa.Schema:
    from pyspark.sql.pandas.types import to_arrow_schema

    exact = to_arrow_schema(rows.schema, timezone="UTC")
    # Spark knows that a count is never null; as part of a schema that would bind later versions
    return pa.schema([field.with_nullable(True) for field in exact])


@contextmanager
def _staging_folder(staging: Path) -> Iterator[Path]:
    """A fresh folder, without what killed runs left there."""
    staging.mkdir(parents=True, exist_ok=True)
    for left_behind in staging.iterdir():
        if time.time() - left_behind.stat().st_mtime > STALE_SECONDS:
            shutil.rmtree(left_behind)
    folder = staging / uuid.uuid4().hex
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # a failed run may have staged nothing


def _refuse_repeated_keys(folder: Path, *, table: str, key: Sequence[str]) -> None:
    if not _parquet_files(folder):
        return
    import duckdb

    names = ", ".join('"' + name.replace('"', '""') + '"' for name in key)
    rows = "read_parquet($files, hive_partitioning = true, hive_types_autocast = false)"
    query = f"select {names} from {rows} group by {names} having count(*) > 1"
    files = {"files": [str(file) for file in _parquet_files(folder)]}
    with duckdb.connect(config={"memory_limit": "1GB", "temp_directory": str(folder)}) as engine:
        num_keys = engine.execute(f"select count(*) from ({query})", files).fetchall()[0][0]
        if not num_keys:
            return
        first = engine.execute(f"{query} limit 1", files).fetchall()[0]
    example = {name: str(value) for name, value in zip(key, first, strict=True)}
    raise GrainBroken(table, key=key, num_keys=num_keys, example=example)


def _count_rows(folder: Path, partition_by: str) -> dict[date, int]:
    counts: Counter[date] = Counter()
    for file in _parquet_files(folder):
        value = file.parent.name.removeprefix(f"{partition_by}=")
        counts[date.fromisoformat(value)] += pq.read_metadata(file).num_rows
    return dict(sorted(counts.items()))


def _parquet_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.parquet"))
