"""A Delta table in an S3 store, whose files this machine reads and writes through a mirror."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from deltalake import DeltaTable

from scale_assets.lake.mirror import Mirror
from scale_assets.lake.s3 import S3Place


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

    def list_log(self) -> list[str]:
        """Names of the log's files."""
        prefix = self.place.key("_delta_log/")
        pages: Any = self.mirror.client.get_paginator("list_objects_v2")
        return [
            found["Key"].removeprefix(prefix)
            for page in pages.paginate(Bucket=self.place.bucket, Prefix=prefix)
            for found in page.get("Contents", [])
        ]
