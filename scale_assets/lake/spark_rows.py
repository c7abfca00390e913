"""One snapshot of a Delta table as a Spark DataFrame: its files, read with its schema."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from deltalake import DeltaTable

from scale_assets.lake.errors import LakeError
from scale_assets.lake.files import folder, local_files

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# Files listed for one snapshot say nothing about rows deleted or columns renamed beside them.
UNREADABLE_FEATURES = {"deletionVectors", "columnMapping"}


def spark_rows(
    spark: "SparkSession", handle: DeltaTable, files: Sequence[str] | None = None
) -> "DataFrame":
    """Rows of some files, else all, with the types that Delta declares; no file, no row.

    Raises:
        LakeError: The table uses a feature that Spark would ignore when it reads the files.
    """
    from pyspark.sql.types import StructType

    features = unreadable(handle)
    if features:
        raise LakeError(
            f"table {handle.table_uri} uses {features}, which Spark would ignore when it reads the "
            "files; rewrite the table without them"
        )
    schema = StructType.fromJson(json.loads(handle.schema().to_json()))
    files = local_files(handle) if files is None else files
    if not files:
        return spark.createDataFrame([], schema)
    base = folder(handle)
    rows = spark.read.schema(schema).option("basePath", base).parquet(*files)
    for column, spelled in _respelled_values(handle).items():
        rows = rows.replace(spelled, subset=[column])
    return rows


def unreadable(handle: DeltaTable) -> list[str]:
    """Features of the table that its files alone do not show."""
    return sorted(set(handle.protocol().reader_features or ()) & UNREADABLE_FEATURES)


def _respelled_values(handle: DeltaTable) -> dict[str, dict[str, str]]:
    """Per partition column, what Spark makes of a folder name: the value that it stands for.

    Spark unescapes folder names byte by byte, so that the text "é" comes back as two letters.
    """
    spelled: dict[str, dict[str, str]] = {}
    for values in handle.partitions():
        for column, value in values.items():
            if isinstance(value, str) and not value.isascii():
                spelled.setdefault(column, {})[value.encode().decode("latin-1")] = value
    return spelled
