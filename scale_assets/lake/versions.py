"""Objects with all that a bucket keeps of them: their older versions, and the marks of deleted ones.

A bucket that keeps versions hides what is deleted and keeps it; only a version that is named goes.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from scale_assets.lake.errors import StoreFault

MAX_DELETED_AT_ONCE = 1000  # what one request takes
NOT_IMPLEMENTED = 501


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """One object, or one version of it."""

    key: str
    version_id: str | None  # None where the bucket keeps no versions
    is_latest: bool  # what a reader without a version gets
    is_marker: bool  # says that the object was deleted; has no content

    @property
    def named(self) -> dict[str, str]:
        """As S3's calls take it."""
        version = {} if self.version_id is None else {"VersionId": self.version_id}
        return {"Key": self.key, **version}


def keeps_versions(client: Any, bucket: str) -> bool:
    """Whether the bucket keeps what is overwritten and deleted, or once did.

    Raises:
        StoreFault: Our keys may not ask.
    """
    try:
        return "Status" in client.get_bucket_versioning(Bucket=bucket)
    except client.exceptions.ClientError as error:
        if error.response["ResponseMetadata"]["HTTPStatusCode"] == NOT_IMPLEMENTED:
            return False  # a store that knows no versions
        raise StoreFault(
            f"s3://{bucket} does not say whether it keeps versions ({error}); allow "
            "s3:GetBucketVersioning"
        ) from error


def objects_below(client: Any, bucket: str, prefix: str) -> Iterator[StoredObject]:
    """Every object whose key begins so, with all its versions where the bucket keeps them."""
    if not keeps_versions(client, bucket):
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for found in page.get("Contents", []):
                yield StoredObject(
                    key=found["Key"], version_id=None, is_latest=True, is_marker=False
                )
        return
    pages = client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=prefix)
    for page in pages:
        for kind in ("Versions", "DeleteMarkers"):
            for found in page.get(kind, []):
                yield StoredObject(
                    key=found["Key"],
                    version_id=found["VersionId"],
                    is_latest=found["IsLatest"],
                    is_marker=kind == "DeleteMarkers",
                )


def delete_for_good(client: Any, bucket: str, objects: Iterable[StoredObject]) -> None:
    """Delete exactly these. The marks go last: without its mark, a version would be back.

    Raises:
        StoreFault: The store keeps one of them, for example under an object lock.
    """
    ordered = [each.named for each in sorted(objects, key=lambda each: each.is_marker)]
    for at in range(0, len(ordered), MAX_DELETED_AT_ONCE):
        listed = {"Objects": ordered[at : at + MAX_DELETED_AT_ONCE], "Quiet": True}
        answer = client.delete_objects(Bucket=bucket, Delete=listed)
        for error in answer.get("Errors", []):
            raise StoreFault(
                f"s3://{bucket}/{error['Key']} was not deleted: {error.get('Message')} "
                f"({error.get('Code')}); a lock or a policy of the bucket keeps it"
            )
