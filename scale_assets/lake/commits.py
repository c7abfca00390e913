"""One way to commit: Parquet files already in place, and everything else, in one Delta commit."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Schema
from deltalake.exceptions import DeltaError
from deltalake.transaction import AddAction

from scale_assets.lake.errors import ConcurrentCommit
from scale_assets.lake.faults import fault_point
from scale_assets.lake.files import discard, folder, publish
from scale_assets.lake.fit import arrow_schema
from scale_assets.lake.parquet_files import write_files
from scale_assets.lake.settle import METADATA_KEY, SERIAL_APP, settle

__all__ = [
    "METADATA_KEY",
    "SERIAL_APP",
    "Commit",
    "Part",
    "append",
    "commit_files",
    "halves",
    "replace_partitions",
]

MAX_ATTEMPTS = 20
MAX_ROWS_ALONE = 1 << 16  # fewer are not worth a second file

Item = TypeVar("Item")
Result = TypeVar("Result")
Filter = tuple[str, str, str | list[str]]


@dataclass(frozen=True)
class Commit:
    """A commit that happened: the table's version after it and how many rows it added."""

    version: int
    num_rows: int


@dataclass(frozen=True)
class Part:
    """Rows to write, and whether they will last or the next commits replace them."""

    rows: pa.Table
    is_lasting: bool


def halves(rows: pa.Table) -> list[pa.Table]:
    """Rows as parts that are worth writing side by side; none for none."""
    middle = len(rows) // 2 if len(rows) > MAX_ROWS_ALONE else 0
    return [part for part in (rows[:middle], rows[middle:]) if len(part)]


def commit_files(
    handle: DeltaTable,
    actions: Sequence[AddAction],
    *,
    schema: pa.Schema,
    partition_by: Sequence[str],
    mode: str = "append",
    replace: Sequence[Filter] | None = None,
    positions: Mapping[str, int] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> int:
    """Commit from exactly the snapshot that the handle has read; the handle then moves past it.

    Raises:
        ConcurrentCommit: Somebody committed since the handle read. Its files are now orphans.
        StoreFault: The table is in a store that does not tell whether it took the commit.
    """
    fault_point("after_parquet")

    def attempt(properties: CommitProperties) -> None:
        handle.create_write_transaction(
            list(actions),
            mode=mode,
            schema=Schema.from_arrow(schema),
            partition_by=list(partition_by),
            partition_filters=list(replace) if replace else None,
            commit_properties=properties,
        )

    return settle(handle, attempt, positions=positions, metadata=metadata)


def append(
    handle: DeltaTable,
    data: pa.Table,
    *,
    positions: Mapping[str, int],
    metadata: Mapping[str, Any] | None = None,
) -> Commit:
    """Append rows and the positions they bring the table to, from the snapshot of the handle.

    The caller has read those positions from this same handle: refreshing it in between would let
    a second writer's rows in twice. Where it conflicts, the rows' files are deleted again: somebody
    whom they hold may be the reason.
    """
    actions = stage(handle, data)
    try:
        version = append_staged(handle, actions, positions=positions, metadata=metadata)
    except (ConcurrentCommit, DeltaError):  # the log has been asked: no commit names them
        discard(handle, [action.path for action in actions])
        raise
    return Commit(version=version, num_rows=data.num_rows)


def stage(handle: DeltaTable, data: pa.Table) -> list[AddAction]:
    """Write rows as files that no reader sees until a commit names them."""
    fault_point("before_write")
    partition_by = list(handle.metadata().partition_columns)
    return written(handle, data, partition_by=partition_by, schema=arrow_schema(handle))


def written(
    handle: DeltaTable,
    data: pa.Table | pa.RecordBatchReader,
    *,
    partition_by: Sequence[str],
    schema: pa.Schema,
    is_lasting: bool = True,
) -> list[AddAction]:
    """Files of these rows where the table is, for a commit to name."""
    actions = write_files(
        folder(handle), data, partition_by=partition_by, schema=schema, is_lasting=is_lasting
    )
    publish(handle, [action.path for action in actions])
    return actions


def append_staged(
    handle: DeltaTable,
    actions: Sequence[AddAction],
    *,
    positions: Mapping[str, int],
    metadata: Mapping[str, Any] | None = None,
) -> int:
    """Commit staged files together with positions, as ``append`` does; the version after it."""
    return commit_files(
        handle,
        actions,
        schema=arrow_schema(handle),
        partition_by=list(handle.metadata().partition_columns),
        positions=positions,
        metadata=metadata,
    )


def replace_partitions(
    handle: DeltaTable,
    parts: Iterable[Part],
    *,
    replace: Sequence[Filter] | None,
    metadata: Mapping[str, Any] | None = None,
) -> int:
    """Put rows in the place of the partitions that ``replace`` selects, in one commit.

    The rows may lie in any partition; their parts are written side by side, a file each or more.
    From the snapshot of the handle, like ``append``; None replaces nothing, and no filter all.
    """
    schema = arrow_schema(handle)
    partition_by = list(handle.metadata().partition_columns)
    fault_point("before_write")

    def write(part: Part) -> list[AddAction]:
        return written(
            handle,
            part.rows,
            partition_by=partition_by,
            schema=schema,
            is_lasting=part.is_lasting,
        )

    return commit_files(
        handle,
        [action for actions in _side_by_side(write, parts) for action in actions],
        schema=schema,
        partition_by=partition_by,
        mode="append" if replace is None else "overwrite",
        replace=replace,
        metadata=metadata,
    )


def _side_by_side(
    work: Callable[[Item], Result], items: Iterable[Item], *, at_once: int = 2
) -> Iterator[Result]:
    """Results in order, with no more than a few items in the works or waiting."""
    with ThreadPoolExecutor(at_once) as pool:
        pending: deque[Future[Result]] = deque()
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > at_once:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def at_newest(handle: DeltaTable) -> DeltaTable:
    """The same handle, moved to the newest commit."""
    handle.update_incremental()
    return handle


def retried(attempt: Callable[[], Result]) -> Result:
    """Start again after every conflict; each conflict means that another writer got through."""
    for _ in range(MAX_ATTEMPTS - 1):
        try:
            return attempt()
        except ConcurrentCommit:
            continue
    return attempt()
