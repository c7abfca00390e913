"""One snapshot of a Delta table, for Arrow and DuckDB: whole commits, every column typed."""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa
from deltalake import DeltaTable

from scale_assets.lake.duckdb_types import duckdb_type, literal, quoted
from scale_assets.lake.files import folder, local_files
from scale_assets.lake.fit import arrow_schema
from scale_assets.lake.parquet_files import HIVE_NULL

if TYPE_CHECKING:
    import pyarrow.compute as pc
    import pyarrow.dataset as ds


def snapshot_dataset(handle: DeltaTable, files: Sequence[str] | None = None) -> "ds.Dataset":
    """One snapshot, or some files of it, as an Arrow dataset; absent columns read as null.

    Filters prune partitions.

    delta-rs's own ``to_pyarrow_dataset`` fails on partition values that folders must encode.
    """
    import pyarrow.dataset as ds  # brings pandas, which loading the definitions does without

    schema = arrow_schema(handle)
    files = local_files(handle) if files is None else files
    if not files:
        return ds.dataset(schema.empty_table())
    partitioning = ds.HivePartitioning(
        pa.schema([schema.field(name) for name in handle.metadata().partition_columns]),
        null_fallback=HIVE_NULL,
        segment_encoding="uri",
    )
    return ds.dataset(
        list(files),
        schema=schema,
        format="parquet",
        partitioning=partitioning,
        partition_base_dir=folder(handle),
    )


def files_table(files: Sequence[str], schema: pa.Schema) -> pa.Table:
    """Rows of some files of an unpartitioned table, with exactly this schema."""
    import pyarrow.dataset as ds

    if not files:
        return schema.empty_table()
    return ds.dataset(list(files), schema=schema, format="parquet").to_table()


def partition_filter(handle: DeltaTable, partitions: Collection[str | None]) -> "pc.Expression":
    """True for the rows of these partitions, given as the folders of the one column spell them."""
    import pyarrow.compute as pc

    [column] = handle.metadata().partition_columns
    values = pa.array([each for each in partitions if each is not None], pa.string())
    found = pc.field(column).isin(values.cast(arrow_schema(handle).field(column).type))
    return found | pc.field(column).is_null() if None in partitions else found


def relation_sql(
    *, files: Sequence[str], schema: pa.Schema, partition_columns: Sequence[str]
) -> str:
    """A SELECT of exactly these files with exactly this schema; no files give no rows.

    Columns that the files lack (written before a column was added) come back as null.
    """
    typed_nulls = ", ".join(f"NULL::{duckdb_type(f.type)} AS {quoted(f.name)}" for f in schema)
    no_rows = f"SELECT {typed_nulls} WHERE false"
    if not files:
        return no_rows
    casts = ", ".join(
        f"CAST({quoted(f.name)} AS {duckdb_type(f.type)}) AS {quoted(f.name)}" for f in schema
    )
    scan = f"SELECT * FROM {_scan(files, schema, partition_columns)}"
    return f"SELECT {casts} FROM ({no_rows} UNION ALL BY NAME {scan})"


def _scan(files: Sequence[str], schema: pa.Schema, partition_columns: Sequence[str]) -> str:
    listed = ", ".join(literal(path) for path in files)
    options = ["union_by_name = true"]
    if partition_columns:
        # Types are given, never inferred: '01' is text, not the number one.
        types = ", ".join(
            f"{quoted(name)}: {duckdb_type(schema.field(name).type)}" for name in partition_columns
        )
        options += ["hive_partitioning = true", f"hive_types = {{{types}}}"]
    else:
        options.append("hive_partitioning = false")
    return f"read_parquet([{listed}], {', '.join(options)})"
