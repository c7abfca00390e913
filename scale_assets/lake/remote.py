"""A Delta table in an S3 store, whose files this machine reads and writes through a mirror."""

import time
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from deltalake import DeltaTable

from scale_assets.lake.mirror import PARTIAL, Mirror
from scale_assets.lake.s3 import S3Place
from scale_assets.lake.versions import StoredObject, delete_for_good, objects_below

LONGEST_DOWNLOAD_SECONDS = 3600  # whoever wrote an older one was killed


class RemoteTable(DeltaTable):
    """A handle that knows the mirror of its store."""

    mirror: Mirror

    def with_mirror(self, mirror: Mirror) -> Self:
        self.mirror = mirror
        return self

    @property
    def storage_options(self) -> dict[str, str]:
        return self.mirror.options.for_delta()

    @property
    def place(self) -> S3Place:
        return S3Place.parse(self.table_uri)

    @property
    def folder(self) -> Path:
        """The table's files on this machine; a table made anew under the name has another one."""
        table_id = str(self.metadata().id)
        return self.mirror.folder / self.place.prefix / f"table-{table_id}"

    def fetch(self, names: Sequence[str]) -> None:
        folder, place = self.folder, self.place
        self.mirror.fetch((place.key(name), folder / name) for name in names)

    def publish(self, names: Sequence[str]) -> None:
        folder, place = self.folder, self.place
        self.mirror.publish([(place.key(name), folder / name) for name in names])

    def discard(self, names: Sequence[str]) -> None:
        """Delete files from the store."""
        for name in names:
            key = self.place.key(name)
            self.mirror.client.delete_object(Bucket=self.place.bucket, Key=key)

    def list_all(self) -> list[str]:
        """Names of all files, the log's included, that a reader without a version gets."""
        return [
            found.key.removeprefix(self.place.key(""))
            for found in self._objects()
            if found.is_latest and not found.is_marker
        ]

    def erase(self, names: Collection[str]) -> None:
        """Delete files so that no version and no copy on this machine is left of them.

        What the bucket keeps of files that were deleted or overwritten before goes with them.
        """
        start = self.place.key("")
        delete_for_good(
            self.mirror.client,
            self.place.bucket,
            [
                found
                for found in self._objects()
                if found.key.removeprefix(start) in names or found.is_marker or not found.is_latest
            ],
        )
        copies = self.mirror.folder / self.place.prefix
        for path in [path for path in copies.rglob("*") if path.is_file()]:
            former, _, name = str(path.relative_to(copies)).partition("/")
            is_left_over = path.name.endswith(PARTIAL) and _is_old(path)
            if name in names or former != self.folder.name or is_left_over:
                path.unlink(missing_ok=True)

    def _objects(self) -> Iterator[StoredObject]:
        return objects_below(self.mirror.client, self.place.bucket, self.place.key(""))

    def list_log(self) -> list[str]:
        """Names of the log's files."""
        prefix = self.place.key("_delta_log/")
        pages: Any = self.mirror.client.get_paginator("list_objects_v2")
        return [
            found["Key"].removeprefix(prefix)
            for page in pages.paginate(Bucket=self.place.bucket, Prefix=prefix)
            for found in page.get("Contents", [])
        ]


def _is_old(path: Path) -> bool:
    try:
        return path.stat().st_mtime < time.time() - LONGEST_DOWNLOAD_SECONDS
    except FileNotFoundError:
        return False
