"""A Kinesis stream as a source; its name and time of creation are its incarnation."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa

from scale_assets.ingest.columns import OF_KINESIS
from scale_assets.ingest.kinesis.client import Account, MissingStream, find_stream
from scale_assets.ingest.kinesis.reading import KinesisReading
from scale_assets.ingest.source import Reading, Source
from scale_assets.ingest.values import JsonValues, ValueFormat

LOOK_EVERY_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class KinesisSource(Source):
    """One stream, every shard of it."""

    account: Account
    stream_name: str
    values: ValueFormat = field(default_factory=JsonValues)
    accept_loss: bool = False
    columns: pa.Schema = field(default=OF_KINESIS, repr=False)

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        client = self.account.connect()
        try:
            yield KinesisReading(self, client)
        finally:
            client.close()

    def lines(self, raws: Sequence[bytes]) -> tuple[Sequence[bytes], Mapping[int, str]]:
        return self.values.lines(raws)

    def fingerprint(self) -> str | None:
        """Changes every minute: Kinesis tells nobody what is new without its being read."""
        client = self.account.connect()
        try:
            stream = find_stream(client, self.stream_name)
        except MissingStream:
            return None
        finally:
            client.close()
        minute = int(time.time() // LOOK_EVERY_SECONDS)
        text = json.dumps([stream.created_ms, [shard.id for shard in stream.shards], minute])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> str:
        return f"Kinesis stream {self.stream_name}"
