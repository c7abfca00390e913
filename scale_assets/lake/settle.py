"""Whether a commit happened is told by the log alone: a store may do it and its reply be lost."""

import json
import time
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import DeltaError

from scale_assets.lake.errors import ConcurrentCommit, StoreFault
from scale_assets.lake.files import commit_entry
from scale_assets.lake.remote import RemoteTable

METADATA_KEY = "scale"
COMMIT_KEY = "scale_commit"  # names one commit among all attempts at its version
# Every commit of ours carries this transaction, so that two commits from the same snapshot always
# conflict. delta-rs lets two whole-table overwrites from one snapshot both succeed otherwise.
SERIAL_APP = "lake/serial"
PAUSES_SECONDS = (0.2, 1.0, 4.0)  # before trying again what a store did not answer


def settle(
    handle: DeltaTable,
    attempt: Callable[[CommitProperties], object],
    *,
    positions: Mapping[str, int] | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> int:
    """Make one commit on exactly the snapshot of the handle, which then moves past it.

    ``attempt`` commits with the properties that it is given, and may run more than once: all
    attempts aim at one version under one name, so that no more than one of them is in the log.

    Raises:
        ConcurrentCommit: Somebody else committed since the handle read. Its files are now orphans.
        StoreFault: The store does not tell; the positions in the log will, on the next reading.
    """
    version = handle.version() + 1
    name = uuid.uuid4().hex
    properties = _properties(name, version, positions=positions or {}, metadata=metadata)
    pauses = iter(PAUSES_SECONDS if isinstance(handle, RemoteTable) else ())
    while True:
        try:
            attempt(properties)
            break
        except (DeltaError, OSError) as error:
            said = commit_entry(handle, version)
            if said is not None and _name_of(said) == name:
                break
            if said is not None:
                raise ConcurrentCommit(f"{handle.table_uri}: {error}") from error
            pause = next(pauses, None)
            if pause is None:
                raise _fault(handle, error) from error
            time.sleep(pause)
    if handle.version() < version:
        handle.update_incremental()
    return int(handle.version())


def _properties(
    name: str, version: int, *, positions: Mapping[str, int], metadata: Mapping[str, Any] | None
) -> CommitProperties:
    said: dict[str, Any] = {COMMIT_KEY: name}
    if metadata:
        said[METADATA_KEY] = dict(metadata)
    transactions = [Transaction(app, position) for app, position in positions.items()]
    return CommitProperties(
        custom_metadata=said,
        app_transactions=[Transaction(SERIAL_APP, version), *transactions],
        max_commit_retries=0,
    )


def _name_of(entry: bytes) -> str | None:
    for line in entry.splitlines():
        if b'"commitInfo"' in line:
            name: str | None = json.loads(line).get("commitInfo", {}).get(COMMIT_KEY)
            return name
    return None


def _fault(handle: DeltaTable, error: Exception) -> Exception:
    return StoreFault(f"{handle.table_uri}: {error}") if isinstance(handle, RemoteTable) else error
