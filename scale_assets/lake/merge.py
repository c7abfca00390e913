"""Rows updated or inserted by key, in one commit."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable
from deltalake.table import TableMerger

from scale_assets.lake.duckdb_types import quoted
from scale_assets.lake.errors import LakeError
from scale_assets.lake.faults import fault_point
from scale_assets.lake.settle import settle


def merge_rows(
    handle: DeltaTable,
    data: pa.Table,
    *,
    keys: Sequence[str],
    metadata: Mapping[str, Any] | None = None,
) -> int:
    """MERGE by key. Cost follows the target's size: for small targets, overwriting is cheaper.

    Raises:
        LakeError: A key occurs twice in data, so that the outcome would depend on chance.
        ConcurrentCommit: Somebody committed since the handle read.
    """
    repeated = data.group_by(list(keys)).aggregate([([], "count_all")])["count_all"]
    if any(count > 1 for count in repeated.to_pylist()):
        raise LakeError(f"upsert by {list(keys)}: some keys occur twice in the data; deduplicate")

    def attempt(properties: CommitProperties) -> None:
        (
            _merger(handle, data, keys, properties)
            .when_matched_update_all()
            .when_not_matched_insert_all()
            .execute()
        )

    return settle(handle, attempt, metadata=metadata)


def merge_states(
    handle: DeltaTable,
    data: pa.Table,
    *,
    keys: Sequence[str],
    gone: str,
    updates: Mapping[str, str],
    inserts: Mapping[str, str],
    metadata: Mapping[str, Any],
) -> int:
    """Delete, update and insert by key in one commit, from exactly the snapshot of the handle.

    The data has one row per key. ``gone`` is a condition on ``source``: such rows delete, and
    insert nothing. ``updates`` and ``inserts`` give SQL on ``source`` and ``target`` by column.

    Raises:
        ConcurrentCommit: Somebody committed since the handle read.
    """
    fault_point("before_write")

    def attempt(properties: CommitProperties) -> None:
        (
            # Held in memory, the data's range of keys is known, and files outside it skipped.
            _merger(handle, data, keys, properties, streamed_exec=len(handle.file_uris()) < 2)
            .when_matched_delete(predicate=gone)
            .when_matched_update(updates=dict(updates))
            .when_not_matched_insert(updates=dict(inserts), predicate=f"NOT ({gone})")
            .execute()
        )

    version = settle(handle, attempt, metadata=metadata)
    fault_point("after_merge")
    return version


def _merger(
    handle: DeltaTable,
    data: pa.Table,
    keys: Sequence[str],
    properties: CommitProperties,
    *,
    streamed_exec: bool = True,
) -> TableMerger:
    return handle.merge(
        source=data,
        predicate=_matches(keys),
        source_alias="source",
        target_alias="target",
        streamed_exec=streamed_exec,
        commit_properties=properties,
    )


def _matches(keys: Sequence[str]) -> str:
    return " AND ".join(f"target.{quoted(key)} = source.{quoted(key)}" for key in keys)
