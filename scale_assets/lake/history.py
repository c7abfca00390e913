"""What a table's log tells: row counts, what commits said, which partitions they touched."""

import json
from collections import Counter
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from scale_assets.lake.files import commit_entry, commit_name, log_files, log_names
from scale_assets.lake.settle import METADATA_KEY

PartitionValues = dict[str, str | None]


def is_cut_off(handle: DeltaTable) -> bool:
    """Whether the log before a later checkpoint went, and the handle's own version with it."""
    return commit_entry(handle, int(handle.version())) is None


def num_rows(handle: DeltaTable) -> int:
    """Rows of the handle's snapshot, from file statistics."""
    return int(handle.count())


def num_bytes(handle: DeltaTable) -> int:
    """Size of the handle's snapshot."""
    sizes = pa.table(handle.get_add_actions())["size_bytes"].to_pylist()
    return sum(sizes)


def rows_per_partition(handle: DeltaTable, column: str) -> dict[str | None, int]:
    """Rows of each value of a partition column, from file statistics; empty ones are absent."""
    rows: Counter[str | None] = Counter()
    added = pa.table(handle.get_add_actions(flatten=True))
    values = added[f"partition.{column}"].cast(pa.string()).to_pylist()
    for value, number in zip(values, added["num_records"].to_pylist(), strict=True):
        rows[value] += number
    return dict(rows)


def last_metadata(handle: DeltaTable) -> dict[str, Any]:
    """The metadata of the newest commit that carries any of ours; {} if none does."""
    for limit in (1, None):
        for entry in handle.history(limit):
            if METADATA_KEY in entry:
                return dict(entry[METADATA_KEY])
    return {}


def files_added_since(handle: DeltaTable, earlier: DeltaTable) -> list[str] | None:
    """Files that one snapshot has more than an earlier one of the same table; None where some went.

    Files go when rows were rewritten or removed, and when they were compacted.
    """
    before = set(earlier.file_uris())
    now = handle.file_uris()
    return None if before - set(now) else [file for file in now if file not in before]


def partitions_changed_since(handle: DeltaTable, version: int | None) -> list[PartitionValues]:
    """Partitions, each once, that received or lost rows in commits after ``version``.

    Rewrites that change no data (compaction) do not count. Where the log no longer reaches back
    far enough, every partition counts: too many are safe, too few would lose a late row.
    """
    first = 0 if version is None else version + 1
    commits = [commit_name(number) for number in range(first, handle.version() + 1)]
    if not set(commits) <= set(log_names(handle)):
        return [dict(values) for values in _distinct(_partitions_now(handle))]
    found: list[PartitionValues] = []
    for commit in log_files(handle, commits):
        for line in commit.read_bytes().splitlines():
            action = json.loads(line)
            changed = action.get("add") or action.get("remove")
            if changed and changed["dataChange"]:
                found.append(changed["partitionValues"])
    return _distinct(found)


def _partitions_now(handle: DeltaTable) -> list[PartitionValues]:
    return [
        {name: None if value is None else str(value) for name, value in values.items()}
        for values in handle.partitions()
    ]


def _distinct(found: list[PartitionValues]) -> list[PartitionValues]:
    return [dict(items) for items in dict.fromkeys(tuple(values.items()) for values in found)]
