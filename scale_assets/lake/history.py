"""What a table's log tells: row counts, what commits said, which partitions they touched."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

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


@dataclass(frozen=True)
class FileChanges:
    """Files, by their paths in the table: those whose rows came and stayed, those whose rows went."""

    added: list[str]
    removed: list[str]


def files_changed_since(handle: DeltaTable, version: int) -> FileChanges | None:
    """What commits after ``version`` did to rows; moving them between files (compaction) is nothing.

    None where the log does not reach back so far, or where rows that came were moved and others
    went: these may be the same.
    """
    actions = _data_actions(handle, version + 1)
    if actions is None:
        return None
    added: dict[str, None] = {}
    removed: dict[str, None] = {}
    for kind, action in actions:
        path = unquote(action["path"])
        if kind == "add":
            added[path] = None
        else:
            added.pop(path, None)
            removed[path] = None
    if removed and not added.keys() <= {unquote(path) for path in _paths(handle)}:
        return None
    return FileChanges(list(added), list(removed))


def changes_of_commits_after(handle: DeltaTable, version: int) -> dict[int, FileChanges] | None:
    """What each later commit did to rows, in order; None where the log lacks one of them."""
    commits = _commits_from(handle, version + 1)
    if commits is None:
        return None
    found = {}
    for number, commit in enumerate(commits, start=version + 1):
        changed = [
            (kind, unquote(action["path"])) for kind, action in _actions_in(handle, [commit])
        ]
        added, removed = ([path for kind, path in changed if kind == k] for k in ("add", "remove"))
        found[number] = FileChanges(added, removed)
    return found


def _paths(handle: DeltaTable) -> list[str]:
    return list(pa.table(handle.get_add_actions())["path"].to_pylist())


def partitions_changed_since(handle: DeltaTable, version: int | None) -> list[PartitionValues]:
    """Partitions, each once, that received or lost rows in commits after ``version``.

    Rewrites that change no data (compaction) do not count. Where the log no longer reaches back
    far enough, every partition counts: too many are safe, too few would lose a late row.
    """
    actions = _data_actions(handle, 0 if version is None else version + 1)
    if actions is None:
        return [dict(values) for values in _distinct(_partitions_now(handle))]
    return _distinct([action["partitionValues"] for _, action in actions])


def _data_actions(handle: DeltaTable, first: int) -> Iterator[tuple[str, dict[str, Any]]] | None:
    """Adds and removes of rows by commits from ``first`` on; None where the log lacks one."""
    commits = _commits_from(handle, first)
    return None if commits is None else _actions_in(handle, commits)


def _commits_from(handle: DeltaTable, first: int) -> list[str] | None:
    """Names of the log's files up to the handle's version; None where it lacks one."""
    commits = [commit_name(number) for number in range(first, handle.version() + 1)]
    return commits if set(commits) <= set(log_names(handle)) else None


def _actions_in(handle: DeltaTable, commits: list[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    for commit in log_files(handle, commits):
        for line in commit.read_bytes().splitlines():
            parsed = json.loads(line)
            for kind in ("add", "remove"):
                if kind in parsed and parsed[kind]["dataChange"]:
                    yield kind, parsed[kind]


def _partitions_now(handle: DeltaTable) -> list[PartitionValues]:
    return [
        {name: None if value is None else str(value) for name, value in values.items()}
        for values in handle.partitions()
    ]


def _distinct(found: list[PartitionValues]) -> list[PartitionValues]:
    return [dict(items) for items in dict.fromkeys(tuple(values.items()) for values in found)]
