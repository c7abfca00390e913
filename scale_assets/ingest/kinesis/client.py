"""Calls to Kinesis: retried while it asks us to slow down, refused in words that name the way out."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeVar

from scale_assets.ingest.errors import IngestError, SourceUnavailable

THROTTLED = (
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "ThrottlingException",
)
ATTEMPTS = 10
LONGEST_WAIT_SECONDS = 10.0

Result = TypeVar("Result")


class MissingStream(IngestError):
    """The account has no such stream in this region."""


@dataclass(frozen=True)
class Account:
    """Where the streams are; what is None is left to boto3's own chain of configuration."""

    region: str | None = None
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)

    def connect(self) -> Any:
        import boto3  # type: ignore[import-untyped]
        from botocore.config import Config  # type: ignore[import-untyped]
        from botocore.exceptions import NoRegionError  # type: ignore[import-untyped]

        try:
            return boto3.client(
                "kinesis",
                region_name=self.region,
                endpoint_url=self.endpoint_url,
                aws_access_key_id=self.access_key_id,
                aws_secret_access_key=self.secret_access_key,
                config=Config(connect_timeout=10, read_timeout=30, retries={"max_attempts": 3}),
            )
        except NoRegionError as error:
            raise IngestError("Kinesis needs a region; set SCALE_KINESIS_REGION") from error


@dataclass(frozen=True)
class Shard:
    """One shard; a closed one takes no more records."""

    id: str
    parents: tuple[str, ...]


@dataclass(frozen=True)
class Stream:
    """One incarnation of a stream: one deleted and made again has another time of creation."""

    name: str
    created_ms: int
    retention_hours: int
    shards: tuple[Shard, ...]  # parents before their children

    @property
    def retention_ms(self) -> int:
        return self.retention_hours * 3_600_000

    def place(self, shard: str) -> str:
        return f"{self.name}/{self.created_ms}/{shard}"


def find_stream(client: Any, name: str) -> Stream:
    """The stream as it is now.

    Raises:
        MissingStream: There is none of this name.
        SourceUnavailable: Kinesis does not answer.
    """
    said = call(client.describe_stream_summary, StreamName=name)["StreamDescriptionSummary"]
    created: datetime = said["StreamCreationTimestamp"]
    return Stream(
        name=name,
        created_ms=int(created.timestamp() * 1000),
        retention_hours=said["RetentionPeriodHours"],
        shards=tuple(_parents_first(list(_shards(client, name)))),
    )


def _shards(client: Any, name: str) -> Iterator[Shard]:
    page: dict[str, Any] = {"StreamName": name}
    while page:
        said = call(client.list_shards, **page)
        for shard in said["Shards"]:
            parents = (shard.get("ParentShardId"), shard.get("AdjacentParentShardId"))
            yield Shard(shard["ShardId"], tuple(each for each in parents if each))
        page = {"NextToken": said["NextToken"]} if said.get("NextToken") else {}


def _parents_first(shards: list[Shard]) -> Iterator[Shard]:
    waiting, listed = shards, {shard.id for shard in shards}
    while waiting:
        known = {shard.id for shard in waiting}
        ready = [shard for shard in waiting if not known & set(shard.parents) & listed]
        yield from ready
        waiting = [shard for shard in waiting if shard not in ready]


def call(method: Callable[..., Result], **arguments: Any) -> Result:
    """Call Kinesis, again with growing pauses while it says that we ask too much.

    Raises:
        MissingStream: It has no such stream.
        SourceUnavailable: It does not answer, or keeps asking us to slow down.
    """
    from botocore.exceptions import BotoCoreError, ClientError
    from tenacity import (
        Retrying,
        retry_if_exception,
        stop_after_attempt,
        wait_random_exponential,
    )

    waiting = Retrying(
        retry=retry_if_exception(_is_throttled),
        wait=wait_random_exponential(multiplier=0.2, max=LONGEST_WAIT_SECONDS),
        stop=stop_after_attempt(ATTEMPTS),
        reraise=True,
    )
    try:
        return waiting(method, **arguments)
    except ClientError as error:
        code = error.response["Error"]["Code"]
        if code == "ResourceNotFoundException":
            said = f"{error}; create the stream, or mend transport.stream or SCALE_KINESIS_REGION"
            raise MissingStream(said) from error
        if code in ("ExpiredIteratorException", "InvalidArgumentException"):
            raise
        raise SourceUnavailable(f"Kinesis: {error}") from error
    except BotoCoreError as error:
        raise SourceUnavailable(
            f"Kinesis: {error}; check SCALE_KINESIS_REGION, SCALE_KINESIS_ENDPOINT_URL and the "
            "credentials"
        ) from error


def _is_throttled(error: BaseException) -> bool:
    response = getattr(error, "response", {})
    return response.get("Error", {}).get("Code") in THROTTLED
