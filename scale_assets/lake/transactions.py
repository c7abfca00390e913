"""Every application's transaction version of one snapshot, read from the log in one pass.

``DeltaTable.transaction_version`` replays the log for each name: 1,400 of them took 1.3 to 3.1 s.
"""

import json
from pathlib import Path

import pyarrow.parquet as pq
from deltalake import DeltaTable


def transactions(handle: DeltaTable) -> dict[str, int]:
    """Application id to version, as of the handle's snapshot and not a commit later."""
    log = Path(handle.table_uri.removeprefix("file://"), "_delta_log")
    checkpoint = _newest_checkpoint(log, handle.version())
    found = {} if checkpoint is None else _of_checkpoint(log, checkpoint)
    first = 0 if checkpoint is None else checkpoint + 1
    for version in range(first, handle.version() + 1):
        for line in (log / f"{version:020}.json").read_bytes().splitlines():
            if b'"txn"' in line and (said := json.loads(line).get("txn")):
                found[said["appId"]] = said["version"]
    return found


def _newest_checkpoint(log: Path, at_most: int) -> int | None:
    versions = (int(path.name[:20]) for path in log.glob("*.checkpoint.parquet"))
    return max((version for version in versions if version <= at_most), default=None)


def _of_checkpoint(log: Path, version: int) -> dict[str, int]:
    file = pq.ParquetFile(log / f"{version:020}.checkpoint.parquet")
    table = file.read(columns=["txn"])
    said = (row["txn"] for row in table.to_pylist())
    return {txn["appId"]: txn["version"] for txn in said if txn and txn["appId"] is not None}
