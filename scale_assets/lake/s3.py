"""How to reach an S3 store, for each of the libraries that talk to it."""

from dataclasses import dataclass, field
from typing import Any

from scale_assets.lake.errors import LakeError

MIB = 1 << 20
ATTEMPTS = 8  # of one request that is refused for the moment, or not answered


@dataclass(frozen=True, kw_only=True)
class S3Options:
    """A store, our keys to it, and the folder that mirrors what we read and write there.

    An endpoint, a region or keys left out come from the AWS default chain: its variables, its
    files, the role of this machine.
    """

    cache_dir: str
    cache_gib: float = 20.0  # of the mirror; what a run may still read can exceed it
    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    timeout_seconds: float = 30.0  # of one request
    part_mib: int = 16  # larger files go up in parts of this many MiB

    def __post_init__(self) -> None:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise LakeError("S3 needs both an access key id and its secret, or neither; give both")
        if not 5 <= self.part_mib <= 5 * 1024:
            raise LakeError(f"part_mib ({self.part_mib}) must be from 5 to 5120, S3's own limits")

    def for_delta(self) -> dict[str, str]:
        """Storage options of delta-rs: a commit is a conditional put, never a rename."""
        options = {
            "aws_conditional_put": "etag",
            "AWS_S3_ALLOW_UNSAFE_RENAME": "false",  # whatever the environment says
            "timeout": f"{round(self.timeout_seconds * 1000)}ms",
            "max_retries": str(ATTEMPTS),
        }
        given = {
            "AWS_ENDPOINT_URL": self.endpoint_url,
            "AWS_REGION": self.region,
            "AWS_ACCESS_KEY_ID": self.access_key_id,
            "AWS_SECRET_ACCESS_KEY": self.secret_access_key,
        }
        options |= {name: value for name, value in given.items() if value is not None}
        if self.endpoint_url is not None and self.endpoint_url.startswith("http://"):
            options["AWS_ALLOW_HTTP"] = "true"
        return options

    def client(self) -> Any:
        """boto3's client; threads may share it."""
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self.region,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(
                connect_timeout=self.timeout_seconds,
                read_timeout=self.timeout_seconds,
                # "standard" takes a bare 429 for our mistake
                retries={"mode": "legacy", "total_max_attempts": ATTEMPTS},
                s3={"addressing_style": "path"} if self.endpoint_url else {},
                max_pool_connections=32,
            ),
        )


@dataclass(frozen=True)
class S3Place:
    """A bucket and a prefix in it, as ``s3://bucket/prefix`` says them."""

    bucket: str
    prefix: str  # without slashes around it; "" is the whole bucket

    @classmethod
    def parse(cls, url: str) -> "S3Place":
        """The place that a URL names.

        Raises:
            LakeError: It is not one of S3, or names no bucket.
        """
        scheme, _, path = url.partition("://")
        bucket, _, prefix = path.partition("/")
        if scheme not in ("s3", "s3a") or not bucket:
            raise LakeError(f"{url} is no place in an S3 store; write s3://bucket/prefix")
        return cls(bucket, prefix.strip("/"))

    def key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")
