"""A local mirror of immutable objects: filled by what is read and written, bounded by size.

Delta's files never change and are never named alike, so a file in the mirror is the object. Files
arrive by an atomic rename. Those used longest ago go first, and none that somebody was handed
lately: a view or a Spark job opens them later than it was made.
"""

import os
import time
import uuid
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scale_assets.lake.errors import StoreFault
from scale_assets.lake.s3 import MIB, S3Options
from scale_assets.lake.uploads import Uploader
from scale_assets.lake.versions import StoredObject

AT_ONCE = 16
MAY_BE_OPENED_SECONDS = 12 * 3600
ROOM_EVERY_SECONDS = 600
PARTIAL = ".partial"  # ends the name of what is still on its way
BODY_ATTEMPTS = 4  # a body that breaks off is past what the client repeats by itself


class Mirror:
    """One bucket's objects under a folder, by their keys and whatever else tells them apart."""

    def __init__(self, options: S3Options, bucket: str) -> None:
        self.options = options
        self.bucket = bucket
        self.folder = Path(options.cache_dir, "s3", bucket)
        self.client = options.client()
        self._made_room_at = 0.0
        self._uploader = Uploader(self.client, part_bytes=options.part_mib * MIB)

    def fetch(self, wanted: Iterable[tuple[str, Path]]) -> None:
        """Have a local copy of each key at its path.

        Raises:
            StoreFault: An object is gone, or the store does not give it.
        """
        missing = [(key, path) for key, path in wanted if not _touched(path)]
        if missing:
            self._make_room_at_times()
            _all(self._download, missing)

    def publish(self, written: Sequence[tuple[str, Path]]) -> None:
        """Bring files written to the mirror into the store, whole and verified.

        Raises:
            StoreFault: The store did not take one of them.
        """
        _all(self._upload, written)

    def get(self, key: str) -> bytes | None:
        """An object as it is in the store now; None where there is none."""
        from botocore.exceptions import (  # type: ignore[import-untyped]
            BotoCoreError,
            ClientError,
        )

        try:
            return bytes(self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read())
        except self.client.exceptions.NoSuchKey:
            return None
        except (BotoCoreError, ClientError) as error:
            raise StoreFault(f"s3://{self.bucket}/{key}: {error}") from error

    def download(self, found: StoredObject, path: Path) -> None:
        """Write one object as it is, or the version that is named, past the mirror.

        Raises:
            StoreFault: It is gone, or the store does not give it.
        """
        self._download(found.key, path, version_id=found.version_id)

    def _upload(self, key: str, path: Path) -> None:
        self._uploader.upload(path, bucket=self.bucket, key=key)

    def _download(self, key: str, path: Path, version_id: str | None = None) -> None:
        from botocore.exceptions import (  # type: ignore[import-untyped]
            BotoCoreError,
            ClientError,
        )

        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f".{uuid.uuid4().hex}{PARTIAL}")
        try:
            for attempt in range(1, BODY_ATTEMPTS + 1):
                try:
                    self._stream(key, partial, version_id)
                    break
                except BotoCoreError:
                    if attempt == BODY_ATTEMPTS:
                        raise
                    time.sleep(0.2 * 2**attempt)
            partial.replace(path)
        except (BotoCoreError, ClientError) as error:
            raise StoreFault(f"s3://{self.bucket}/{key}: {error}") from error
        finally:
            partial.unlink(missing_ok=True)

    def _stream(self, key: str, path: Path, version_id: str | None) -> None:
        """Write one object; its checksum, where the store has one, is verified at the end."""
        version = {} if version_id is None else {"VersionId": version_id}
        found = self.client.get_object(
            Bucket=self.bucket, Key=key, ChecksumMode="ENABLED", **version
        )
        with path.open("wb") as file:
            for chunk in found["Body"].iter_chunks(MIB):
                file.write(chunk)

    def make_room(self) -> None:
        """Remove what was used longest ago, down to the limit."""
        files = []
        for path in Path(self.options.cache_dir, "s3").rglob("*.*"):
            try:
                stat = path.stat()
            except FileNotFoundError:
                continue  # another process made room, or finished a download
            files.append((stat.st_mtime, stat.st_size, path))
        too_much = sum(size for _, size, _ in files) - self.options.cache_gib * 1024 * MIB
        for used, size, path in sorted(files):
            if too_much <= 0 or used > time.time() - MAY_BE_OPENED_SECONDS:
                return
            path.unlink(missing_ok=True)
            too_much -= size

    def _make_room_at_times(self) -> None:
        if time.monotonic() - self._made_room_at > ROOM_EVERY_SECONDS:
            self._made_room_at = time.monotonic()
            self.make_room()


def _touched(path: Path) -> bool:
    """Whether the file is there; says that it was used now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _all(work: Callable[[str, Path], None], items: Sequence[tuple[str, Path]]) -> None:
    if len(items) == 1:
        work(*items[0])
        return
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for _ in pool.map(lambda item: work(*item), items):
            pass
