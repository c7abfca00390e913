"""Every file of a lake wherever it lies, to be read one after the other: for a search of its bytes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from scale_assets.lake.mirror import Mirror
from scale_assets.lake.s3 import S3Place
from scale_assets.lake.versions import StoredObject, objects_below


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of a lake, or a copy of one."""

    path: Path  # where it can be read until the next one is asked for
    uri: str  # where it lies
    name: str  # its path below the lake's root; a copy's has the id of the table in it


def files_below(folder: Path) -> Iterator[StoredFile]:
    """The files of a folder."""
    root = folder.resolve()
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        yield StoredFile(path=path, uri=str(path), name=str(path.relative_to(root)))


def files_in_bucket(place: S3Place, mirror: Mirror) -> Iterator[StoredFile]:
    """Objects and their older versions below a prefix, and what this machine has copies of."""
    start = place.key("")
    copies, staging = (
        Path(mirror.options.cache_dir, kind, place.bucket, place.prefix)
        for kind in ("s3", "staging")
    )
    staging.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=staging) as folder:  # searched next time, if this is killed
        for found in objects_below(mirror.client, place.bucket, start):
            name = found.key.removeprefix(start)
            if found.is_marker or name.endswith("/"):
                continue
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            mirror.download(found, path)
            yield StoredFile(path=path, uri=_uri(place, found), name=name)
            path.unlink()
    for here in (copies, staging):
        yield from files_below(here)


def _uri(place: S3Place, found: StoredObject) -> str:
    version = "" if found.version_id is None else f"?versionId={found.version_id}"
    return f"s3://{place.bucket}/{found.key}{version}"
