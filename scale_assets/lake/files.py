"""The files of a table as paths on this machine: its own, or the mirror of those in a store."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from deltalake import DeltaTable

from scale_assets.lake.errors import StoreFault
from scale_assets.lake.remote import RemoteTable

LOG = "_delta_log"


def folder(handle: DeltaTable) -> str:
    """Where the paths of ``local_files`` begin, and where new files are written."""
    if isinstance(handle, RemoteTable):
        return str(handle.folder)
    return handle.table_uri.removeprefix("file://")


def local_files(handle: DeltaTable, *, file_pruning_predicate: Any = None) -> list[str]:
    """Paths of the snapshot's files, all of them or those that the predicate cannot rule out.

    Raises:
        StoreFault: One of them is in a store that does not give it.
    """
    return fetched(handle, handle.file_uris(file_pruning_predicate=file_pruning_predicate))


def fetched(handle: DeltaTable, uris: Sequence[str]) -> list[str]:
    """Paths on this machine of files that the table names so."""
    if not isinstance(handle, RemoteTable):
        return list(uris)
    base = f"{handle.place}/"
    names = [uri.removeprefix(base) for uri in uris]
    handle.fetch(names)
    return [str(handle.folder / name) for name in names]


def paths_here(handle: DeltaTable, names: Sequence[str]) -> list[str]:
    """Paths on this machine of files by their names in the table, also of former snapshots.

    Raises:
        FileNotFoundError: One of them was cleaned away.
    """
    if isinstance(handle, RemoteTable):
        try:
            handle.fetch(list(names))
        except StoreFault as error:
            raise FileNotFoundError(str(error)) from error
    paths = [Path(folder(handle), name) for name in names]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(path)
    return [str(path) for path in paths]


def publish(handle: DeltaTable, names: Sequence[str]) -> None:
    """Bring files that were written to ``folder`` to where the table is; each stays readable here.

    Raises:
        StoreFault: The store did not take one of them.
    """
    if isinstance(handle, RemoteTable):
        handle.publish(names)


def discard(handle: DeltaTable, names: Sequence[str]) -> None:
    """Delete files that were published and that no commit names."""
    if isinstance(handle, RemoteTable):
        handle.discard(names)
    for name in names:
        Path(folder(handle), name).unlink(missing_ok=True)


def stored_names(handle: DeltaTable) -> set[str]:
    """Names of all files where the table is, the log's included, in any version of it or in none."""
    if isinstance(handle, RemoteTable):
        return set(handle.list_all())
    place = Path(folder(handle))
    return {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()}


def live_names(handle: DeltaTable) -> set[str]:
    """Names of the snapshot's data files, as ``stored_names`` gives them."""
    place = handle.place if isinstance(handle, RemoteTable) else folder(handle).rstrip("/")
    names = {uri.removeprefix("file://").removeprefix(f"{place}/") for uri in handle.file_uris()}
    return names | {unquote(name) for name in names}


def erase(handle: DeltaTable, names: Collection[str]) -> None:
    """Delete files for good: with the versions that a bucket keeps, and the copies made here.

    Raises:
        StoreFault: The store keeps one of them.
    """
    if isinstance(handle, RemoteTable):
        handle.erase(names)
        return
    for name in names:
        Path(folder(handle), name).unlink(missing_ok=True)


def log_names(handle: DeltaTable) -> list[str]:
    """Names of the files in the table's log."""
    if isinstance(handle, RemoteTable):
        return handle.list_log()
    return [path.name for path in Path(folder(handle), LOG).iterdir()]


def log_files(handle: DeltaTable, names: Sequence[str]) -> list[Path]:
    """Those files of the log, on this machine."""
    paths = [f"{LOG}/{name}" for name in names]
    if isinstance(handle, RemoteTable):
        handle.fetch(paths)
    return [Path(folder(handle), path) for path in paths]


def commit_name(version: int) -> str:
    return f"{version:020}.json"


def commit_entry(handle: DeltaTable, version: int) -> bytes | None:
    """What the log says now of a version; None where there is none yet."""
    name = f"{LOG}/{commit_name(version)}"
    if isinstance(handle, RemoteTable):
        return handle.mirror.get(handle.place.key(name))
    path = Path(folder(handle), name)
    return path.read_bytes() if path.exists() else None
