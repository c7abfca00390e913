"""The Delta tables under one root: read as whole snapshots, written in whole commits."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from scale_assets.lake import history, parquet_files
from scale_assets.lake.commits import (
    Commit,
    Filter,
    append,
    at_newest,
    commit_files,
    retried,
    written,
)
from scale_assets.lake.creation import created, grown, repartitioned
from scale_assets.lake.errors import LakeError, MissingTable, StoreFault
from scale_assets.lake.files import folder, local_files, paths_here, publish
from scale_assets.lake.fit import arrow_schema, delta_schema, fit
from scale_assets.lake.merge import merge_rows
from scale_assets.lake.places import place_of
from scale_assets.lake.s3 import S3Options
from scale_assets.lake.snapshots import relation_sql, snapshot_dataset
from scale_assets.lake.stored import StoredFile
from scale_assets.lake.widen import plan_evolution, widen

Rows: TypeAlias = pa.Table | pa.RecordBatchReader


class Lake:
    """Delta tables below a root; a table's name is its path, such as "raw/clicks".

    The root is a folder, or ``s3://bucket/prefix`` together with how to reach the store. What is
    in a store is read and written through a mirror, so that paths and SELECTs that a lake gives
    are always of files on this machine.
    """

    def __init__(self, root: str | Path, *, s3: S3Options | None = None) -> None:
        self._place = place_of(root, s3)
        self.root = self._place.root

    # ---------------------------------------------------------------- reading

    def uri(self, table: str) -> str:
        return self._place.uri(table)

    def staging_folder(self, table: str) -> Path:
        """Where another engine may leave files for ``publish_parquet``: on the same disk."""
        return self._place.staging_folder(table)

    def tables(self) -> list[str]:
        """Names of all tables below the root, sorted."""
        return self._place.tables()

    def stored(self) -> Iterator[StoredFile]:
        """Every file below the root whether a table names it or not, its older versions, copies."""
        return self._place.stored()

    def exists(self, table: str) -> bool:
        return self._place.exists(table)

    def open(self, table: str, *, version: int | None = None) -> DeltaTable:
        """A handle on one snapshot, the newest unless a version is given.

        Raises:
            MissingTable: There is no such table yet.
        """
        if not self.exists(table):
            raise MissingTable(f"no table {table} in {self.root}; materialize it first")
        return self._place.open(table, version)

    def version(self, table: str) -> int:
        return int(self.open(table).version())

    def schema(self, table: str) -> pa.Schema:
        return arrow_schema(self.open(table))

    def num_rows(self, table: str, *, version: int | None = None) -> int:
        """Rows of a snapshot, from its statistics alone."""
        return history.num_rows(self.open(table, version=version))

    def rows_per_partition(self, table: str, column: str) -> dict[str | None, int]:
        """Rows of each value of a partition column, as its folder spells it."""
        return history.rows_per_partition(self.open(table), column)

    def files(self, table: str, *, version: int | None = None) -> list[str]:
        """Paths of a snapshot's files on this machine."""
        return local_files(self.open(table, version=version))

    def read(
        self,
        table: str,
        *,
        columns: Sequence[str] | None = None,
        filters: Any = None,
        version: int | None = None,
    ) -> pa.Table:
        """Rows of one snapshot. Filters as pyarrow takes them: [("event_date", "=", a_date)]."""
        dataset = snapshot_dataset(self.open(table, version=version))
        expression = None if filters is None else pq.filters_to_expression(filters)
        chosen = None if columns is None else list(columns)
        return dataset.to_table(columns=chosen, filter=expression)

    def duckdb_relation_sql(self, table: str, *, version: int | None = None) -> str:
        """A SELECT of exactly one snapshot, every column of its Delta type; empty tables too."""
        handle = self.open(table, version=version)
        return self._files_sql(handle, local_files(handle))

    def newest_relation_sql(self, table: str) -> tuple[int, str]:
        """The newest version, and a SELECT of exactly it."""
        handle = self.open(table)
        return int(handle.version()), self._files_sql(handle, local_files(handle))

    def former_relation_sql(self, table: str, version: int) -> str | None:
        """A SELECT of an earlier snapshot; None where its log or a file is no longer there."""
        try:
            handle = self.open(table, version=version)
            files = local_files(handle)
        except (DeltaError, StoreFault):
            return None
        return self._files_sql(handle, files) if all(map(os.path.isfile, files)) else None

    def position(self, table: str, app_id: str) -> int | None:
        """How far the table has read a source; None before its first row."""
        if not self.exists(table):
            return None
        found = self.open(table).transaction_version(app_id)
        return None if found is None else int(found)

    def last_metadata(self, table: str) -> dict[str, Any]:
        """What the newest commit that says anything says (``metadata=`` of the write)."""
        return history.last_metadata(self.open(table))

    def partitions_changed_since(
        self, table: str, version: int | None
    ) -> list[dict[str, str | None]]:
        """Partitions that commits after ``version`` changed the rows of; None means ever."""
        return history.partitions_changed_since(self.open(table), version)

    def changes_since(self, table: str, version: int, *, until: int) -> tuple[str, str] | None:
        """Two SELECTs: rows that came in commits after ``version``, and rows that went.

        A row that was rewritten as it was is among both. None where the log or a file is no longer
        there, so that only the whole snapshot can tell.
        """
        handle = self.open(table, version=until)
        changes = history.files_changed_since(handle, version)
        if changes is None:
            return None
        try:
            added, removed = (
                paths_here(handle, names) for names in (changes.added, changes.removed)
            )
        except FileNotFoundError:
            return None
        return self._files_sql(handle, added), self._files_sql(handle, removed)

    @staticmethod
    def _files_sql(handle: DeltaTable, files: Sequence[str]) -> str:
        return relation_sql(
            files=files,
            schema=arrow_schema(handle),
            partition_columns=handle.metadata().partition_columns,
        )

    # ---------------------------------------------------------------- writing

    def create(
        self, table: str, schema: pa.Schema, *, partition_by: Sequence[str] = ()
    ) -> DeltaTable:
        """Create the table if it is not there; add new nullable columns if the schema grew.

        Raises:
            LakeError: A column changed its type, or the partitioning differs.
        """
        handle = retried(
            lambda: created(
                self._place, table, schema=delta_schema(schema), partition_by=partition_by
            )
        )
        if list(handle.metadata().partition_columns) != list(partition_by):
            raise LakeError(
                f"table {table} is partitioned by {handle.metadata().partition_columns}, "
                f"not by {list(partition_by)}; repartitioning needs an overwrite"
            )
        retried(lambda: grown(handle, table, schema=delta_schema(schema)))
        return handle

    def evolve(
        self, table: str, schema: pa.Schema, *, partition_by: Sequence[str] = ()
    ) -> DeltaTable:
        """As ``create``, and a column whose type has to grow is rewritten, in one commit.

        A column that is wider than wanted stays as it is: its rows were written under other rules.

        Raises:
            LakeError: A type that cannot grow into the wanted one, or another partitioning.
        """
        wanted = delta_schema(schema)
        if self.exists(table):
            handle = self.open(table)
            retried(lambda: widen(handle, table, wanted))
            wanted = plan_evolution(table, present=arrow_schema(handle), wanted=wanted).schema
        return self.create(table, wanted, partition_by=partition_by)

    def append_once(
        self,
        table: str,
        data: pa.Table,
        *,
        positions: Mapping[str, int],
        partition_by: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> Commit | None:
        """Append rows together with the positions they bring the table to, exactly once.

        Returns None, and writes nothing, where the table stands at or beyond every position.
        """

        def attempt() -> Commit | None:
            handle = self.create(table, data.schema, partition_by=partition_by)
            if all(_reached(handle, app, version) for app, version in positions.items()):
                return None
            return append(handle, data, positions=positions, metadata=metadata)

        return retried(attempt)

    def overwrite(
        self,
        table: str,
        data: Rows,
        *,
        partition_by: Sequence[str] = (),
        positions: Mapping[str, int] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Replace the whole table, schema included, in one commit; readers see old or new.

        Other partitioning than before takes two commits, the first of which empties the table.
        """
        schema = delta_schema(data.schema)
        if not self.exists(table):
            self.create(table, schema, partition_by=partition_by)
        handle = repartitioned(self.open(table), schema=schema, partition_by=partition_by)
        actions = written(handle, data, partition_by=partition_by, schema=schema)

        def attempt() -> int:
            return commit_files(
                at_newest(handle),
                actions,
                schema=schema,
                partition_by=partition_by,
                mode="overwrite",
                positions=positions,
                metadata=metadata,
            )

        return retried(attempt)

    def replace_partitions(
        self,
        table: str,
        data: Rows,
        *,
        partition_by: str,
        keys: Iterable[str | date] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Replace the partitions that data holds, and those in ``keys``, in one commit.

        A key without rows empties its partition, so that a recomputed day may become empty.
        """
        handle = self.create(table, data.schema, partition_by=[partition_by])
        schema = arrow_schema(handle)
        actions = written(handle, data, partition_by=[partition_by], schema=schema)
        touched = {action.partition_values[partition_by] for action in actions}
        touched |= {parquet_files.partition_text(key) for key in keys or ()}
        if None in touched:
            raise LakeError(f"table {table}: {partition_by} is null in some rows; fill it in")
        if not touched:
            return int(handle.version())
        replace: list[Filter] = [(partition_by, "in", sorted(str(key) for key in touched))]

        def attempt() -> int:
            return commit_files(
                at_newest(handle),
                actions,
                schema=schema,
                partition_by=[partition_by],
                mode="overwrite",
                replace=replace,
                metadata=metadata,
            )

        return retried(attempt)

    def publish_parquet(
        self,
        table: str,
        staged_dir: str | Path,
        *,
        schema: pa.Schema,
        partition_by: Sequence[str] = (),
        replace: Sequence[Filter] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Move Parquet files that another engine wrote into the table, in one commit.

        ``staged_dir`` holds hive folders per partition, as Spark's partitionBy writes them;
        ``schema`` is the whole one, partition columns included. ``replace`` names the partitions
        that the files stand for, as a conjunction such as ``[("event_date", ">=", "2013-01-01"),
        ("event_date", "<", "2013-01-08")]``; empty replaces the whole table.
        """
        handle = self.create(table, schema, partition_by=partition_by)
        staged = list(parquet_files.adopt_files(table, Path(staged_dir), partition_by=partition_by))
        for file, _, values in staged:
            parquet_files.refuse_outside(file, values, replace)
            parquet_files.refuse_other_schema(file, schema, partition_by)
        actions = [
            parquet_files.add_action(
                parquet_files.move_into(folder(handle), file, path),
                path=path,
                partition_values=values,
            )
            for file, path, values in staged
        ]
        publish(handle, [action.path for action in actions])

        def attempt() -> int:
            return commit_files(
                at_newest(handle),
                actions,
                schema=arrow_schema(handle),
                partition_by=partition_by,
                mode="overwrite",
                replace=replace,
                metadata=metadata,
            )

        return retried(attempt)

    def upsert(
        self,
        table: str,
        data: pa.Table,
        *,
        keys: Sequence[str],
        metadata: Mapping[str, Any] | None = None,
    ) -> int:
        """Update rows that share the keys, insert the others; keys must be unique in data."""

        def attempt() -> int:
            handle = self.create(table, data.schema)
            return merge_rows(handle, fit(data, arrow_schema(handle)), keys=keys, metadata=metadata)

        return retried(attempt)


def _reached(handle: DeltaTable, app_id: str, version: int) -> bool:
    found = handle.transaction_version(app_id)
    return found is not None and int(found) >= version
