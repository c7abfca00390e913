"""Where a lake is: a folder of this machine, or a prefix of an S3 bucket."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from deltalake import CommitProperties, DeltaTable, Schema

from scale_assets.lake.errors import LakeError, StoreFault
from scale_assets.lake.mirror import Mirror
from scale_assets.lake.remote import RemoteTable
from scale_assets.lake.s3 import S3Options, S3Place
from scale_assets.lake.stored import StoredFile, files_below, files_in_bucket

# A second put under the name must be refused, or two writers overwrite each other's commits.
PROBE = "_scale/conditional-put"

# delta-rs tells causes as an indented, coloured tree.
LAST_CAUSE = re.compile(r"^\s*(?:\x1b\[\d+m)?↳(?:\x1b\[0m)?\s*")


class Place(Protocol):
    """What a lake asks of where it is."""

    root: str

    def uri(self, table: str) -> str: ...

    def tables(self) -> list[str]: ...

    def exists(self, table: str) -> bool: ...

    def open(self, table: str, version: int | None) -> DeltaTable: ...

    def create(self, table: str, schema: Schema, partition_by: Sequence[str]) -> DeltaTable: ...

    def staging_folder(self, table: str) -> Path: ...

    def stored(self) -> Iterator[StoredFile]: ...


def place_of(root: str | Path, s3: S3Options | None) -> Place:
    """The place that a root names.

    Raises:
        LakeError: It is neither a local path nor in an S3 store that we know how to reach.
    """
    if "://" not in str(root):
        return LocalFolder(str(Path(root).absolute()))
    place = S3Place.parse(str(root))
    if s3 is None:
        raise LakeError(f"lake root {root} is in an S3 store; say how to reach it with s3=")
    return Bucket(place, s3)


class LocalFolder:
    """Tables in folders."""

    def __init__(self, root: str) -> None:
        self.root = root

    def uri(self, table: str) -> str:
        return str(Path(self.root, table))

    def tables(self) -> list[str]:
        root = Path(self.root)
        return sorted(str(log.parent.relative_to(root)) for log in root.rglob("_delta_log"))

    def exists(self, table: str) -> bool:
        return DeltaTable.is_deltatable(self.uri(table))

    def open(self, table: str, version: int | None) -> DeltaTable:
        return DeltaTable(self.uri(table), version=version)

    def create(self, table: str, schema: Schema, partition_by: Sequence[str]) -> DeltaTable:
        return DeltaTable.create(self.uri(table), **_creation(schema, partition_by))

    def staging_folder(self, table: str) -> Path:
        """On the table's own disk, so that publishing renames instead of copying."""
        return Path(self.uri(table), "_staging")

    def stored(self) -> Iterator[StoredFile]:
        return files_below(Path(self.root))


class Bucket:
    """Tables under a prefix of a bucket."""

    def __init__(self, place: S3Place, options: S3Options) -> None:
        self.place = place
        self.root = str(place)
        self.options = options
        self._delta_options = options.for_delta()

    @cached_property
    def mirror(self) -> Mirror:
        return Mirror(self.options, self.place.bucket)

    def uri(self, table: str) -> str:
        return f"{self.root}/{table}"

    def tables(self) -> list[str]:
        start = self.place.key("")
        with self._answering():
            return sorted(self._tables_below(start, start))

    def exists(self, table: str) -> bool:
        with self._answering():
            return DeltaTable.is_deltatable(self.uri(table), self._delta_options)

    def open(self, table: str, version: int | None) -> DeltaTable:
        with self._answering():
            handle = RemoteTable(
                self.uri(table), version=version, storage_options=self._delta_options
            )
        return handle.with_mirror(self.mirror)

    def create(self, table: str, schema: Schema, partition_by: Sequence[str]) -> DeltaTable:
        if self.exists(table):
            return self.open(table, None)
        self.require_conditional_put()
        handle = RemoteTable.create(
            self.uri(table),
            storage_options=self._delta_options,
            **_creation(schema, partition_by),
        )
        assert isinstance(handle, RemoteTable)
        return handle.with_mirror(self.mirror)

    def staging_folder(self, table: str) -> Path:
        """On the mirror's disk, and none of the mirror's files."""
        return Path(self.options.cache_dir, "staging", self.place.bucket, self.place.key(table))

    def stored(self) -> Iterator[StoredFile]:
        return files_in_bucket(self.place, self.mirror)

    def require_conditional_put(self) -> None:
        """Refuse a store that overwrites where it was told not to: commits would be lost.

        Raises:
            LakeError: It does.
        """
        key = self.place.key(PROBE)
        with self._answering():
            is_ignored = self._puts_anew(key) and self._puts_anew(key)
        if is_ignored:
            raise LakeError(
                f"the store of {self.root} ignores If-None-Match, so that two writers would "
                "overwrite each other's commits; use a store with conditional writes"
            )

    @contextmanager
    def _answering(self) -> Iterator[None]:
        """Tell in one line that the store did not do what it was asked, and what to look at.

        Raises:
            StoreFault: It gave no answer, or refused.
        """
        from botocore.exceptions import (  # type: ignore[import-untyped]
            BotoCoreError,
            ClientError,
        )

        try:
            yield
        except (OSError, BotoCoreError, ClientError) as error:
            why = LAST_CAUSE.sub("", str(error).strip().splitlines()[-1])
            where = self.options.endpoint_url or "AWS"
            raise StoreFault(
                f"{self.root}: the store at {where} cannot be read: {why}; see that it runs and has "
                "the bucket, and that SCALE_S3_ENDPOINT_URL, _REGION and its keys are right"
            ) from error

    def _puts_anew(self, key: str) -> bool:
        client = self.mirror.client
        try:
            client.put_object(Bucket=self.place.bucket, Key=key, Body=b"", IfNoneMatch="*")
        except client.exceptions.ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] in (409, 412):
                return False
            raise
        return True

    def _tables_below(self, start: str, prefix: str) -> list[str]:
        pages = self.mirror.client.get_paginator("list_objects_v2").paginate(
            Bucket=self.place.bucket, Prefix=prefix, Delimiter="/"
        )
        folders = [each["Prefix"] for page in pages for each in page.get("CommonPrefixes", [])]
        if f"{prefix}_delta_log/" in folders:
            return [prefix.removeprefix(start).rstrip("/")]
        return [table for folder in folders for table in self._tables_below(start, folder)]


def _creation(schema: Schema, partition_by: Sequence[str]) -> dict[str, Any]:
    return {
        "schema": schema,
        "partition_by": list(partition_by),
        "mode": "ignore",
        # Retrying, delta-rs would commit the second creation on top of the first.
        "commit_properties": CommitProperties(max_commit_retries=0),
    }
