"""Every application's transaction version of one snapshot, read from the log in one pass.

``DeltaTable.transaction_version`` replays the log for each name: 1,400 of them took 1.3 to 3.1 s.
"""

import json
from collections.abc import Sequence

import pyarrow.parquet as pq
from deltalake import DeltaTable

from scale_assets.lake.files import commit_name, log_files, log_names


def transactions(handle: DeltaTable) -> dict[str, int]:
    """Application id to version, as of the handle's snapshot and not a commit later."""
    checkpoint = _newest_checkpoint(log_names(handle), handle.version())
    found = {} if checkpoint is None else _of_checkpoint(handle, checkpoint)
    first = 0 if checkpoint is None else checkpoint + 1
    commits = [commit_name(version) for version in range(first, handle.version() + 1)]
    for commit in log_files(handle, commits):
        for line in commit.read_bytes().splitlines():
            if b'"txn"' in line and (said := json.loads(line).get("txn")):
                found[said["appId"]] = said["version"]
    return found


def _newest_checkpoint(names: Sequence[str], at_most: int) -> int | None:
    versions = (int(name[:20]) for name in names if name.endswith(".checkpoint.parquet"))
    return max((version for version in versions if version <= at_most), default=None)


def _of_checkpoint(handle: DeltaTable, version: int) -> dict[str, int]:
    [path] = log_files(handle, [f"{version:020}.checkpoint.parquet"])
    table = pq.ParquetFile(path).read(columns=["txn"])
    said = (row["txn"] for row in table.to_pylist())
    return {txn["appId"]: txn["version"] for txn in said if txn and txn["appId"] is not None}
