"""A stream's records, each once and in order, through splits and merges of its shards."""

import json
import time
from dataclasses import replace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from scale_assets.ingest.account import account
from scale_assets.ingest.errors import IngestError, SourceUnavailable
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.kinesis import client as calls
from scale_assets.ingest.kinesis import reading
from scale_assets.ingest.kinesis.client import Account, MissingStream
from scale_assets.ingest.kinesis.source import KinesisSource
from scale_assets.ingest.kinesis.standing import standing
from scale_assets.ingest.positions import taken
from scale_assets.lake import Lake
from tests.ingest.conftest import die_at, event, rows
from tests.ingest.kinesis.conftest import STREAM

HOUR_MS = 3_600_000


def put(client: Any, numbers: range, *, data: bytes | None = None) -> None:
    records = [
        {"Data": data or json.dumps(event(number)).encode(), "PartitionKey": f"key{number % 5}"}
        for number in numbers
    ]
    client.put_records(StreamName=STREAM, Records=records)


def ids(lake: Lake) -> list[str]:
    found = [row["event_id"] for row in rows(lake)]
    return sorted(found, key=lambda name: int(name[1:]))


def accepting(feed: EventFeed) -> EventFeed:
    source: Any = feed.source
    return replace(feed, source=replace(source, accept_loss=True))


def test_every_record_is_taken_once_with_what_came_with_it(
    lake: Lake, kinesis_feed: EventFeed, kinesis: Any
) -> None:
    put(kinesis, range(20))
    first, again = ingest(lake, kinesis_feed), ingest(lake, kinesis_feed)
    put(kinesis, range(20, 25))
    third = ingest(lake, kinesis_feed)

    counts = [(report.num_received, report.num_accepted) for report in (first, again, third)]
    assert counts == [(20, 20), (0, 0), (5, 5)]
    assert ids(lake) == [f"e{n}" for n in range(25)]
    row = rows(lake)[0]
    assert row["_partition_key"] == f"key{int(row['event_id'][1:]) % 5}"
    assert len(row["_sequence_number"]) > 50
    by_shard: dict[str, list[int]] = {}
    for row in rows(lake):
        by_shard.setdefault(row["_source_file"], []).append(row["_position"])
    assert all(found == list(range(len(found))) for found in by_shard.values())
    assert account(lake, kinesis_feed).is_exact


def test_the_whole_sequence_number_is_in_the_table(
    lake: Lake, kinesis_feed: EventFeed, kinesis: Any
) -> None:
    put(kinesis, range(20))
    ingest(lake, kinesis_feed)
    last = {row["_source_file"]: int(row["_sequence_number"]) for row in rows(lake)}
    held = taken(lake.open(kinesis_feed.table), kinesis_feed.name)
    for place, sequence in last.items():
        found = standing(held, place)
        assert found is not None
        assert found.sequence == sequence > 2**64


def test_children_are_read_after_their_parents(
    lake: Lake, kinesis_feed: EventFeed, kinesis: Any
) -> None:
    put(kinesis, range(20))
    shards = kinesis.list_shards(StreamName=STREAM)["Shards"]
    hashes = shards[0]["HashKeyRange"]
    middle = (int(hashes["StartingHashKey"]) + int(hashes["EndingHashKey"])) // 2
    ingest(lake, kinesis_feed)
    put(kinesis, range(20, 30))
    kinesis.split_shard(
        StreamName=STREAM, ShardToSplit=shards[0]["ShardId"], NewStartingHashKey=str(middle)
    )
    put(kinesis, range(30, 50))
    kinesis.merge_shards(
        StreamName=STREAM,
        ShardToMerge="shardId-000000000003",
        AdjacentShardToMerge=shards[1]["ShardId"],
    )
    put(kinesis, range(50, 70))

    report = ingest(lake, kinesis_feed)

    assert report.num_received == 50
    assert ids(lake) == [f"e{n}" for n in range(70)]
    with kinesis_feed.source.reading() as anew:
        pieces = list(anew.pieces({}, max_bytes=1000))
    by_key: dict[str, list[int]] = {}
    for piece in pieces:
        assert piece.attributes is not None
        keys = piece.attributes["_partition_key"].to_pylist()
        for key, record in zip(keys, piece.records, strict=True):
            by_key.setdefault(key, []).append(int(json.loads(record)["event_id"][1:]))
    assert len(pieces) == 5  # two shards, two of the split, one of the merge
    assert all(found == sorted(found) for found in by_key.values())
    assert ingest(lake, kinesis_feed).num_received == 0


def test_a_stream_made_again_is_said_and_read_from_its_start(
    lake: Lake, kinesis_feed: EventFeed, kinesis: Any
) -> None:
    put(kinesis, range(3))
    ingest(lake, kinesis_feed)
    kinesis.delete_stream(StreamName=STREAM)
    time.sleep(0.01)
    kinesis.create_stream(StreamName=STREAM, ShardCount=1)
    put(kinesis, range(3, 5))

    report = ingest(lake, kinesis_feed)

    assert report.num_accepted == 2
    assert "the stream was made again" in report.notices[0]
    assert ingest(lake, kinesis_feed).notices == []


def test_an_unfinished_batch_is_finished_from_the_same_records(
    lake: Lake, kinesis_feed: EventFeed, kinesis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(kinesis, range(10))
    put(kinesis, range(1), data=b"broken")

    die_at("after_quarantine", lake, kinesis_feed, monkeypatch)
    put(kinesis, range(10, 15))

    report = ingest(lake, kinesis_feed)

    assert (report.num_received, report.num_accepted, report.num_quarantined) == (16, 15, 1)
    assert ids(lake) == [f"e{n}" for n in range(15)]
    assert account(lake, kinesis_feed).is_exact


def test_records_that_may_have_been_trimmed_stop_the_shard_until_accepted(
    lake: Lake, kinesis_feed: EventFeed, kinesis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(kinesis, range(20))
    ingest(lake, kinesis_feed)
    now = int(time.time() * 1000)
    monkeypatch.setattr(reading, "_now_ms", lambda: now + 30 * HOUR_MS)
    # The last record taken is still there, so that nothing after it can be gone.
    assert ingest(lake, kinesis_feed).broken == {}

    monkeypatch.setattr(reading, "_now_ms", lambda: now + 60 * HOUR_MS)
    monkeypatch.setattr(reading.Iterators, "still_has", lambda *_: False)
    put(kinesis, range(20, 25))
    with pytest.raises(IngestError, match=r"records of 6\.0 hours may have been deleted"):
        ingest(lake, kinesis_feed).raise_if_broken()
    report = ingest(lake, accepting(kinesis_feed))
    assert report.num_accepted == 5
    assert all(notice.endswith("accepted") for notice in report.notices)
    assert ingest(lake, kinesis_feed).broken == {}


def test_a_quiet_shard_is_noted_as_seen_now_and_then(
    lake: Lake, kinesis_feed: EventFeed, kinesis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = int(time.time() * 1000)
    assert ingest(lake, kinesis_feed).num_batches == 1  # the first sight of its shards
    assert ingest(lake, kinesis_feed).num_batches == 0
    for hours in (7, 14, 21, 28, 35):
        monkeypatch.setattr(reading, "_now_ms", lambda hours=hours: now + hours * HOUR_MS)
        assert ingest(lake, kinesis_feed).num_batches == 1
    assert ingest(lake, kinesis_feed).broken == {}


def test_an_aggregated_record_is_refused_with_the_way_out(
    lake: Lake, kinesis_feed: EventFeed, kinesis: Any
) -> None:
    put(kinesis, range(1), data=b"\xf3\x89\x9a\xc2packed")
    assert ingest(lake, kinesis_feed).num_quarantined == 1
    refused = rows(lake, kinesis_feed.quarantine_table)[0]
    assert refused["rule"] == "unreadable"
    assert "AggregationEnabled=false" in refused["reason"]


def test_kinesis_is_asked_again_while_it_says_slow_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "LONGEST_WAIT_SECONDS", 0.01)
    said = []

    def throttled() -> str:
        said.append(1)
        if len(said) < 4:
            code = "ProvisionedThroughputExceededException"
            raise ClientError({"Error": {"Code": code, "Message": "slow down"}}, "GetRecords")
        return "at last"

    assert calls.call(throttled) == "at last"
    said.clear()
    said_forever = said

    def always() -> None:
        said_forever.append(1)
        raise ClientError({"Error": {"Code": "LimitExceededException"}}, "GetRecords")

    with pytest.raises(SourceUnavailable, match="LimitExceeded"):
        calls.call(always)
    assert len(said_forever) == calls.ATTEMPTS


def test_a_stream_that_is_not_there_is_named(
    lake: Lake, kinesis_feed: EventFeed, aws: Account
) -> None:
    missing = KinesisSource(account=aws, stream_name="none")
    assert missing.fingerprint() is None
    with pytest.raises(MissingStream, match=r"none.*mend transport\.stream"):
        ingest(lake, replace(kinesis_feed, source=missing))
    nowhere = replace(aws, endpoint_url="http://127.0.0.1:1")
    with pytest.raises(SourceUnavailable, match="SCALE_KINESIS_ENDPOINT_URL"):
        KinesisSource(account=nowhere, stream_name="none").fingerprint()
    assert "test" not in repr(replace(aws, secret_access_key="test", access_key_id=None))
