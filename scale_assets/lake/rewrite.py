"""Rows of a table replaced by other rows of the same table, in one commit."""

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from deltalake import DeltaTable

from scale_assets.lake.commits import Filter, commit_files, written
from scale_assets.lake.faults import fault_point
from scale_assets.lake.fit import arrow_schema
from scale_assets.lake.history import last_metadata
from scale_assets.lake.snapshots import partition_filter, snapshot_dataset

if TYPE_CHECKING:
    import pyarrow.compute as pc

Change = Callable[[pa.Table], pa.Table]


def rewrite(
    handle: DeltaTable,
    change: Change,
    *,
    partitions: Collection[str | None] | None = None,
    schema: pa.Schema | None = None,
    positions: Mapping[str, int] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> int:
    """Replace the rows of some partitions, or of the whole table, by what ``change`` makes of them.

    The rows come in batches, in their order, from the snapshot of the handle. Positions stay, and
    so does what the last commit said, unless ``metadata`` says something else.

    Args:
        handle: The table; it moves past the commit.
        change: Gives the rows to keep, with the columns of ``schema``.
        partitions: Values of the one partition column, as folders spell them; None is all rows.
        schema: The table's columns afterwards; left out, they stay.
        positions: Transactions of this commit, as in ``append``.
        metadata: What the commit says.

    Raises:
        ConcurrentCommit: Somebody committed since the handle read.
    """
    if partitions is not None and None in partitions and len(partitions) > 1:
        partitions = None  # no filter of delta-rs names the null partition among others
    partition_by = list(handle.metadata().partition_columns)
    schema = schema or arrow_schema(handle)
    said = last_metadata(handle) if metadata is None else metadata
    fault_point("before_write")
    chosen = None if partitions is None else partition_filter(handle, partitions)
    reader = pa.RecordBatchReader.from_batches(schema, _changed(handle, change, chosen, schema))
    actions = written(handle, reader, partition_by=partition_by, schema=schema)
    return commit_files(
        handle,
        actions,
        schema=schema,
        partition_by=partition_by,
        mode="overwrite",
        replace=_replaced(partition_by, partitions),
        positions=positions,
        metadata=said,
    )


def _changed(
    handle: DeltaTable, change: Change, chosen: "pc.Expression | None", schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    for batch in snapshot_dataset(handle).to_batches(filter=chosen):
        fault_point("rewriting")
        yield from change(pa.Table.from_batches([batch])).select(schema.names).to_batches()


def _replaced(
    partition_by: list[str], partitions: Collection[str | None] | None
) -> list[Filter] | None:
    if partitions is None:
        return None
    [column] = partition_by
    if None in partitions:
        return [(column, "=", "")]  # how delta-rs spells null
    return [(column, "in", [str(each) for each in partitions])]
