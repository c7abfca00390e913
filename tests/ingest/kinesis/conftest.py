"""A feed of events from a Kinesis stream of moto's server."""

import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from moto.kinesis import utils as models_utils
from moto.kinesis.models import KinesisBackend, Record, Shard
from moto.kinesis.models import Stream as MotoStream
from moto.server import ThreadedMotoServer

from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.kinesis.client import Account
from scale_assets.ingest.kinesis.source import KinesisSource

STREAM = "views"


FIRST_NUMBER = 49590338271490256608559692538361571095921575989136588898


@pytest.fixture(scope="session")
def as_kinesis_does() -> Iterator[None]:
    """Where moto is simpler than the service: long numbers, and closed shards that keep records."""
    numbers = itertools.count(FIRST_NUMBER, 10**20)

    def put_record(shard: Any, partition_key: str, data: str, explicit_hash_key: str) -> str:
        number = next(numbers)
        shard.records[number] = Record(partition_key, data, number, explicit_hash_key)
        return str(number)

    def keeping_records(change: Callable[..., None]) -> Callable[..., None]:
        def changed(stream: Any, *shards: str) -> None:
            kept = {name: shard.records for name, shard in stream.shards.items()}
            for shard in stream.shards.values():
                shard.records = OrderedDict()
            change(stream, *shards)
            for name, records in kept.items():
                stream.shards[name].records = records

        return changed

    def get_records(backend: Any, arn: str, iterator: str, limit: int) -> tuple[Any, ...]:
        following, records, behind = original(backend, arn, iterator, limit)
        stream_name, shard_id, _ = models_utils.decompose_shard_iterator(iterator)
        shard = backend.describe_stream(stream_arn=arn, stream_name=stream_name).get_shard(shard_id)
        last = next(reversed(shard.records), 0)
        is_end = not shard.is_open and (not records or records[-1].sequence_number == last)
        return (None if is_end else following), records, behind

    original = KinesisBackend.get_records
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Shard, "put_record", put_record)
        patch.setattr(MotoStream, "split_shard", keeping_records(MotoStream.split_shard))
        patch.setattr(MotoStream, "merge_shards", keeping_records(MotoStream.merge_shards))
        patch.setattr(KinesisBackend, "get_records", get_records)
        yield


@pytest.fixture(scope="session")
def moto_server(as_kinesis_does: None) -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def aws(moto_server: str) -> Account:
    return Account("us-east-1", moto_server, "test", "test")


@pytest.fixture
def kinesis(aws: Account) -> Iterator[Any]:
    """A client of an account with one stream of two shards."""
    client = aws.connect()
    client.create_stream(StreamName=STREAM, ShardCount=2)
    yield client
    client.delete_stream(StreamName=STREAM)
    client.close()


@pytest.fixture
def kinesis_feed(feed: EventFeed, aws: Account, kinesis: Any) -> EventFeed:
    return replace(feed, source=KinesisSource(account=aws, stream_name=STREAM))
