"""Rows updated or inserted by key, in one commit."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable

from scale_assets.lake.commits import METADATA_KEY
from scale_assets.lake.duckdb_types import quoted
from scale_assets.lake.errors import LakeError


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
    """
    repeated = data.group_by(list(keys)).aggregate([([], "count_all")])["count_all"]
    if any(count > 1 for count in repeated.to_pylist()):
        raise LakeError(f"upsert by {list(keys)}: some keys occur twice in the data; deduplicate")
    matches = " AND ".join(f"target.{quoted(key)} = source.{quoted(key)}" for key in keys)
    (
        handle.merge(
            source=data,
            predicate=matches,
            source_alias="source",
            target_alias="target",
            commit_properties=CommitProperties(
                custom_metadata={METADATA_KEY: dict(metadata)} if metadata else None
            ),
        )
        .when_matched_update_all()
        .when_not_matched_insert_all()
        .execute()
    )
    return int(handle.version())
