"""One person's rows out of one Delta table, and every older version of it with them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError

from scale_assets.erasure.columns import column_at, id_paths, predicate
from scale_assets.erasure.person import Feed, Person
from scale_assets.ingest import positions
from scale_assets.ingest.raw_ids import is_json
from scale_assets.lake import ConcurrentCommit, Lake, fault_point
from scale_assets.lake.commits import (
    METADATA_KEY,
    SERIAL_APP,
    append_staged,
    commit_files,
    retried,
    written,
)
from scale_assets.lake.files import LOG, erase, live_names, log_names, stored_names
from scale_assets.lake.fit import arrow_schema
from scale_assets.lake.history import last_metadata
from scale_assets.lake.publish_marts import FINGERPRINT
from scale_assets.lake.snapshots import snapshot_dataset

ERASED = "erased"


@dataclass(frozen=True, kw_only=True)
class Erased:
    """What became of one table or file."""

    name: str
    num_rows: int  # removed
    num_files_rewritten: int = 0
    num_files_deleted: int = 0  # with older versions of the rows
    num_unattributed: int = 0  # raw lines that stay because nothing tells whose they are


def fence(lake: Lake, table: str) -> DeltaTable:
    """Commit nothing, so that whoever has read the table before has to read it again."""

    def attempt() -> DeltaTable:
        handle = lake.open(table)
        append_staged(handle, [], positions={}, metadata=_said(handle))
        return handle

    return retried(attempt)


def erase_rows(lake: Lake, table: str, person: Person, *, feed: Feed | None = None) -> Erased:
    """Delete the rows that hold an id of theirs in any column of a declared name.

    ``feed`` says whose accepted table it is: the rows then count as erased, in the same commit.
    """

    def attempt() -> Erased:
        handle = lake.open(table)
        wanted, num_rows = _rows_of(handle, person)
        if not num_rows:
            return Erased(name=table, num_rows=0)
        try:
            done = handle.delete(
                wanted,
                commit_properties=CommitProperties(
                    custom_metadata={METADATA_KEY: _said(handle)} if _said(handle) else None,
                    app_transactions=[
                        Transaction(SERIAL_APP, handle.version() + 1),
                        *(Transaction(*each) for each in _counted(handle, feed, num_rows).items()),
                    ],
                ),
            )
        except CommitFailedError as error:
            raise ConcurrentCommit(f"{handle.table_uri}: {error}") from error
        assert done["num_deleted_rows"] in (num_rows, None), (table, done, num_rows)
        return Erased(
            name=table, num_rows=num_rows, num_files_rewritten=done["num_removed_files"] or 0
        )

    return retried(attempt)


def erase_lines(lake: Lake, feed: Feed, person: Person) -> Erased:
    """Take the raw lines that are theirs out of a feed's quarantine, and count them as erased."""

    def attempt() -> Erased:
        handle = lake.open(feed.quarantine_table)
        rows = snapshot_dataset(handle).to_table()
        raws = rows["raw"].to_pylist()
        theirs = [person.owns_line(raw, feed.contract) for raw in raws]
        left = [raw for raw, is_theirs in zip(raws, theirs, strict=True) if not is_theirs]
        if any(theirs):
            _replace_all(
                handle,
                rows.filter(pa.array([not each for each in theirs])),
                positions=_counted(handle, feed, sum(theirs)),
            )
        return Erased(
            name=feed.quarantine_table,
            num_rows=sum(theirs),
            num_files_rewritten=len(handle.file_uris()) if any(theirs) else 0,
            num_unattributed=sum(not is_json(raw) for raw in left),
        )

    return retried(attempt)


def purge(lake: Lake, table: str, *, refuse_if_busy: Callable[[], None]) -> int:
    """Delete all files but those of the newest version, and the log before it; how many went.

    Files that appear meanwhile stay: another writer may be about to commit them.
    """
    handle = lake.open(table)
    there = {name for name in stored_names(handle) if not name.startswith(f"{LOG}/")}
    refuse_if_busy()
    handle = fence(lake, table)
    stale = {name for name in there - live_names(handle) if name.endswith(".parquet")}
    handle.create_checkpoint()
    fault_point("before_purge")
    erase(handle, stale | _old_log(handle))
    return len(stale)


def _old_log(handle: DeltaTable) -> set[str]:
    """What tells of versions before the checkpoint: statistics and predicates are in it."""
    version = int(handle.version())
    return {
        f"{LOG}/{name}"
        for name in log_names(handle)
        if (name[:20].isdigit() and int(name[:20]) < version) or name.endswith(".tmp")
    }


def _rows_of(handle: DeltaTable, person: Person) -> tuple[str, int]:
    """A predicate for the rows that are theirs, and how many there are."""
    schema = arrow_schema(handle)
    dataset = snapshot_dataset(handle)
    predicates, expression = [], pc.scalar(False)
    for path in id_paths(schema, person.names):
        type_ = _type_at(schema, path)
        texts: set[str] = set()
        for batch in dataset.to_batches(columns=[path[0]]):
            column = column_at(pa.Table.from_batches([batch]), path)
            texts.update(person.found_in(path[-1], column))
        if texts:
            predicates.append(predicate(path, texts, type_))
            values = pa.array(sorted(texts)).cast(type_)
            expression = expression | pc.field(*path).isin(values)
    if not predicates:
        return "", 0
    return " OR ".join(predicates), int(dataset.count_rows(filter=expression))


def _type_at(schema: pa.Schema, path: tuple[str, ...]) -> pa.DataType:
    type_ = schema.field(path[0]).type
    for name in path[1:]:
        type_ = type_.field(name).type
    return type_


def _counted(handle: DeltaTable, feed: Feed | None, num_rows: int) -> Mapping[str, int]:
    if feed is None:
        return {}
    before = positions.counter(handle, feed.name, ERASED)
    return {positions.counter_app(feed.name, ERASED): before + num_rows}


def _said(handle: DeltaTable) -> dict[str, Any]:
    """What the newest commit said, to be said again: the log before the next one goes.

    Except for a fingerprint of rows that the table no longer holds.
    """
    return {name: value for name, value in last_metadata(handle).items() if name != FINGERPRINT}


def _replace_all(handle: DeltaTable, rows: pa.Table, *, positions: Mapping[str, int]) -> None:
    schema = arrow_schema(handle)
    partition_by = list(handle.metadata().partition_columns)
    commit_files(
        handle,
        written(handle, rows, partition_by=partition_by, schema=schema),
        schema=schema,
        partition_by=partition_by,
        mode="overwrite",
        positions=positions,
        metadata=_said(handle) or None,
    )
