"""Files into an S3 store: in parts where large, resumed where interrupted, verified to the byte."""

import base64
import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scale_assets.lake.errors import StoreFault
from scale_assets.lake.faults import fault_point

PARTS_AT_ONCE = 4
MAX_PARTS = 10_000
Progress = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Uploaded:
    """What an upload came to: parts sent now, and parts that were in the store already."""

    num_sent: int
    num_found: int = 0


@dataclass(frozen=True)
class Digest:
    """What a store may say of bytes: its own checksum, or an MD5 as their ETag."""

    sha256: bytes
    md5: bytes

    @classmethod
    def of(cls, data: bytes) -> "Digest":
        return cls(hashlib.sha256(data).digest(), hashlib.md5(data, usedforsecurity=False).digest())

    @property
    def checksum(self) -> str:
        return base64.b64encode(self.sha256).decode()

    def is_told_by(self, said: Mapping[str, Any]) -> bool:
        """Whether an answer speaks of these bytes; its ETag counts where it has no checksum."""
        if "ChecksumSHA256" in said:
            return bool(said["ChecksumSHA256"] == self.checksum)
        return bool(said["ETag"].strip('"') == self.md5.hex())


@dataclass(frozen=True)
class Part:
    """One part as the store has it."""

    number: int
    etag: str
    digest: Digest


class Uploader:
    """Uploads to one store."""

    def __init__(self, client: Any, *, part_bytes: int) -> None:
        self.client = client
        self.part_bytes = part_bytes

    def upload(
        self,
        path: Path,
        *,
        bucket: str,
        key: str,
        metadata: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> Uploaded:
        """Put a file at a key. Parts of an interrupted upload that hold the same bytes stay.

        Raises:
            StoreFault: The store refused it, or holds other bytes than the file; nothing is at
                the key then that was not there before.
        """
        from botocore.exceptions import (  # type: ignore[import-untyped]
            BotoCoreError,
            ClientError,
        )

        target = _Target(self.client, bucket, key, dict(metadata or {}))
        size = path.stat().st_size
        try:
            if size <= self.part_bytes:
                target.put(path.read_bytes())
                return Uploaded(num_sent=1)
            part_bytes = max(self.part_bytes, -(-size // MAX_PARTS))
            return _in_parts(target, path, size=size, part_bytes=part_bytes, progress=progress)
        except (BotoCoreError, ClientError) as error:
            raise StoreFault(f"{path} to s3://{bucket}/{key}: {error}") from error


@dataclass(frozen=True)
class _Target:
    """The key that one file goes to."""

    client: Any
    bucket: str
    key: str
    metadata: dict[str, str]

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.key}"

    @property
    def at(self) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.key}

    def put(self, data: bytes) -> None:
        digest = Digest.of(data)
        said = self.client.put_object(
            **self.at, Body=data, Metadata=self.metadata, ChecksumSHA256=digest.checksum
        )
        self._verify(digest, said, "the object")

    def begin(self) -> str:
        said = self.client.create_multipart_upload(
            **self.at, Metadata=self.metadata, ChecksumAlgorithm="SHA256"
        )
        return str(said["UploadId"])

    def unfinished(self) -> tuple[str, dict[int, Mapping[str, Any]]] | None:
        """The newest upload to this key that was not completed, and its parts by number."""
        listed = self.client.get_paginator("list_multipart_uploads")
        pages = listed.paginate(Bucket=self.bucket, Prefix=self.key)
        begun = [each for page in pages for each in page.get("Uploads", [])]
        begun = [each for each in begun if each["Key"] == self.key]
        if not begun:
            return None
        upload_id = max(begun, key=lambda each: each["Initiated"])["UploadId"]
        parts = self.client.get_paginator("list_parts").paginate(**self.at, UploadId=upload_id)
        present = {part["PartNumber"]: part for page in parts for part in page.get("Parts", [])}
        return str(upload_id), present

    def send(self, upload_id: str, number: int, data: bytes, digest: Digest) -> Part:
        said = self.client.upload_part(
            **self.at,
            UploadId=upload_id,
            PartNumber=number,
            Body=data,
            ChecksumSHA256=digest.checksum,
        )
        self._verify(digest, said, f"part {number}")
        fault_point("after_part")
        return Part(number, said["ETag"], digest)

    def complete(self, upload_id: str, parts: list[Part]) -> bool:
        """Make one object of the parts; whether it is, with our metadata, the object itself tells."""
        from botocore.exceptions import (  # type: ignore[import-untyped]
            BotoCoreError,
            ClientError,
        )

        listed = [
            {"PartNumber": p.number, "ETag": p.etag, "ChecksumSHA256": p.digest.checksum}
            for p in parts
        ]
        try:
            self.client.complete_multipart_upload(
                **self.at, UploadId=upload_id, MultipartUpload={"Parts": listed}
            )
        except (BotoCoreError, ClientError):
            if not self.holds(parts):
                raise
            return True
        return self.holds(parts)

    def holds(self, parts: list[Part]) -> bool:
        """Whether the object at the key is made of exactly these parts."""
        try:
            said = self.client.head_object(**self.at)
        except self.client.exceptions.ClientError as error:
            if error.response["Error"]["Code"] == "404":
                return False
            raise
        return _is_made_of(said["ETag"].strip('"'), parts) and (
            self.metadata.items() <= said["Metadata"].items()
        )

    def _verify(self, digest: Digest, said: Mapping[str, Any], what: str) -> None:
        if not digest.is_told_by(said):
            raise StoreFault(
                f"s3://{self.bucket}/{self.key}: {what} arrived as other bytes than were sent; "
                "upload it again"
            )


def _is_made_of(etag: str, parts: list[Part]) -> bool:
    """Whether an object's ETag joins those of the parts: as digests, as S3 does."""
    told = b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)
    return etag == f"{hashlib.md5(told, usedforsecurity=False).hexdigest()}-{len(parts)}"


def _in_parts(
    target: _Target, path: Path, *, size: int, part_bytes: int, progress: Progress | None
) -> Uploaded:
    numbers = range(1, -(-size // part_bytes) + 1)

    def sent_to(upload_id: str, present: dict[int, Mapping[str, Any]]) -> Uploaded | None:
        def send(number: int) -> tuple[Part, bool]:
            data = _read_part(path, number, part_bytes)
            part = _found(present.get(number), number, data)
            if progress:
                progress(len(data))
            if part is not None:
                return part, True
            return target.send(upload_id, number, data, Digest.of(data)), False

        with ThreadPoolExecutor(PARTS_AT_ONCE) as pool:
            parts = list(pool.map(send, numbers))
        fault_point("before_complete")
        if not target.complete(upload_id, [part for part, _ in parts]):
            return None
        num_found = sum(is_found for _, is_found in parts)
        return Uploaded(num_sent=len(parts) - num_found, num_found=num_found)

    unfinished = target.unfinished()
    # What was begun for another version of the file keeps that one's metadata: then begin anew.
    done = sent_to(*unfinished) if unfinished is not None else None
    done = done or sent_to(target.begin(), {})
    if done is None:
        raise StoreFault(f"{target} holds other bytes than were sent; upload the file again")
    return done


def _found(there: Mapping[str, Any] | None, number: int, data: bytes) -> Part | None:
    """The part in the store, if it holds these bytes."""
    if there is None or there["Size"] != len(data):
        return None
    digest = Digest.of(data)
    return Part(number, there["ETag"], digest) if digest.is_told_by(there) else None


def _read_part(path: Path, number: int, part_bytes: int) -> bytes:
    with path.open("rb") as file:
        file.seek((number - 1) * part_bytes)
        return file.read(part_bytes)
