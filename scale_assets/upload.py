"""`scale upload`: large raw files into an S3 store, in parts, resumed where they were cut off."""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scale_assets.errors import ScaleError
from scale_assets.lake import StoreFault
from scale_assets.lake.s3 import MIB, S3Options, S3Place
from scale_assets.lake.uploads import Uploaded, Uploader

SHA256 = "sha256"  # metadata of every object: of the whole file, in hexadecimal
Progress = Callable[[int], None]


class UploadRefused(ScaleError):
    """There is another file at the key, or none on this machine."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One file that is in the store now, byte for byte."""

    url: str
    sha256: str
    num_bytes: int
    parts: Uploaded | None  # None: it was there already


def upload_files(
    files: Sequence[Path],
    *,
    to: str,
    options: S3Options,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Iterator[Sent]:
    """Put each file under a prefix, by its name; one that is there with the same bytes stays.

    Interrupted at any point, even by SIGKILL, the same call goes on from the parts that the store
    has, after comparing each with the file.

    Raises:
        UploadRefused: No such file, or another one is at its key and ``overwrite`` is not set.
        StoreFault: The store refused it, or holds other bytes than were sent.
    """
    place = S3Place.parse(to)
    missing = [str(path) for path in files if not path.is_file()]
    if missing:
        raise UploadRefused(f"no file {', '.join(missing)}; give files that are here")
    names = [path.name for path in files]
    if len(set(names)) < len(names):
        raise UploadRefused(f"several files have one name in {sorted(names)}; rename or split them")
    client = options.client()
    uploader = Uploader(client, part_bytes=options.part_mib * MIB)
    for path in files:
        yield _upload(uploader, path, place, overwrite=overwrite, progress=progress)


def _upload(
    uploader: Uploader, path: Path, place: S3Place, *, overwrite: bool, progress: Progress | None
) -> Sent:
    key, digest = place.key(path.name), _sha256(path)
    url = f"s3://{place.bucket}/{key}"
    found = _found(uploader.client, place.bucket, key)
    parts = None
    if found is None or found["Metadata"].get(SHA256) != digest:
        if found is not None and not overwrite:
            raise UploadRefused(f"{url} is another file than {path}; rename it or give --overwrite")
        parts = uploader.upload(
            path, bucket=place.bucket, key=key, metadata={SHA256: digest}, progress=progress
        )
    if _sha256(path) != digest:
        raise StoreFault(f"{path} changed while it was uploaded; upload it again with --overwrite")
    return Sent(url=url, sha256=digest, num_bytes=path.stat().st_size, parts=parts)


def _found(client: Any, bucket: str, key: str) -> dict[str, Any] | None:
    try:
        return dict(client.head_object(Bucket=bucket, Key=key))
    except client.exceptions.ClientError as error:
        if error.response["Error"]["Code"] == "404":
            return None
        raise StoreFault(f"s3://{bucket}/{key}: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
