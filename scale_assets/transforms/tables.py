"""What a Spark transform is handed and what it gives back: snapshots in, rewritten dates out.

A transform is a plain function::

    def per_day(*, events: Snapshot, dates: DateRange, minimum: int) -> DataFrame: ...

Each declared input arrives as a ``Snapshot`` under its own name, ``dates`` says which partitions
to make, and the rest are the declared parameters. It returns rows that replace exactly ``dates``,
or a ``Rewrite`` when other partitions change with them. Nothing is written here: the caller
stages the rows and publishes them in one commit.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from scale_assets.errors import ScaleError

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from pyspark.sql import DataFrame, SparkSession


class TransformError(ScaleError):
    """A transform was declared with inputs or parameters that it cannot work with."""


class OpensTables(Protocol):
    """The part of the lake that a snapshot needs."""

    def open(self, table: str) -> "DeltaTable": ...


@dataclass(frozen=True)
class DateRange:
    """Days from ``first`` to ``last``, both included."""

    first: date
    last: date

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise TransformError(f"first ({self.first}) must not be after last ({self.last})")

    def days(self) -> list[date]:
        return [self.first + timedelta(n) for n in range((self.last - self.first).days + 1)]

    def __contains__(self, day: date) -> bool:
        return self.first <= day <= self.last


@dataclass(frozen=True, kw_only=True)
class Rewrite:
    """Rows that replace whole partitions: every row's date lies in ``dates``."""

    rows: "DataFrame"
    dates: DateRange


class Snapshot:
    """One version of a Delta table, read by Spark through the files of that version."""

    def __init__(self, *, spark: "SparkSession", lake: OpensTables, table: str) -> None:
        self.table = table
        self._spark = spark
        self._delta = lake.open(table)
        self.version = self._delta.version()
        from scale_assets.lake.spark_rows import unreadable

        features = unreadable(self._delta)
        if features:
            raise TransformError(
                f"table {table} uses {features}, which Spark would ignore when it reads "
                "the files; rewrite the table without them"
            )

    @property
    def columns(self) -> list[str]:
        return [field.name for field in self._delta.schema().fields]

    @property
    def date_column(self) -> str:
        """The one column of type date that partitions the table."""
        types = {field.name: field.type for field in self._delta.schema().fields}
        partitioned_by = self._delta.metadata().partition_columns
        dates = [name for name in partitioned_by if getattr(types[name], "type", None) == "date"]
        if len(dates) != 1:
            raise TransformError(
                f"table {self.table} is partitioned by {partitioned_by}; reading a range of dates "
                "needs exactly one partition column of type date"
            )
        return dates[0]

    def files(self, dates: DateRange | None = None) -> list[str]:
        """Files of this version, those of ``dates`` only when given; starts no Spark job."""
        return self._delta.file_uris(file_pruning_predicate=self._within(dates))

    def _within(self, dates: DateRange | None) -> "list[tuple[str, str, str]] | None":
        if dates is None:
            return None
        return [
            (self.date_column, ">=", dates.first.isoformat()),
            (self.date_column, "<=", dates.last.isoformat()),
        ]

    def read(self, dates: DateRange | None = None) -> "DataFrame":
        """Rows with the types that Delta declares; no file, no row, but every column."""
        from scale_assets.lake.files import local_files
        from scale_assets.lake.spark_rows import spark_rows

        files = local_files(self._delta, file_pruning_predicate=self._within(dates))
        return spark_rows(self._spark, self._delta, files)

    def require(self, columns: Mapping[str, list[str]]) -> None:
        """Refuse parameters (name: columns) that name columns which this table lacks."""
        for parameter, names in columns.items():
            missing = sorted(set(names) - set(self.columns))
            if missing:
                raise TransformError(
                    f"{parameter}: table {self.table} has no column {missing}; "
                    f"it has {self.columns}"
                )


Lineage = dict[str, list[tuple[str, str]]]
"""Output column to the (input name, column) pairs that it is made from."""


def declares_lineage(lineage: Callable[..., Lineage]) -> Callable[[Any], Any]:
    """Attach a function of the declared parameters that tells where each column comes from.

    All of them, with an empty list where it is no column: whoever names another is refused.
    """

    def attach(transform: Any) -> Any:
        transform.lineage = lineage
        return transform

    return attach


def stage(rewrite: Rewrite, *, folder: str, partition_by: str, sort_by: list[str]) -> None:
    """Write rows as Parquet under ``folder``: one sorted file per date, for one commit to publish.

    Raises:
        TransformError: The rows lack the partition column.
    """
    rows = rewrite.rows
    if partition_by not in rows.columns:
        raise TransformError(f"partition_by ({partition_by}) is none of the columns {rows.columns}")
    in_order = [partition_by, *(name for name in sort_by if name != partition_by)]
    (
        rows.repartition(partition_by)  # a date lies in one task, so in one file
        .sortWithinPartitions(*in_order)
        .write.mode("errorifexists")
        .partitionBy(partition_by)
        .parquet(folder)
    )
