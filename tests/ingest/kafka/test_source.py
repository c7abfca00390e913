"""A topic's records, each once, wherever a run stops, and whatever the broker says in between."""

import os
import subprocess
import sys
from dataclasses import replace

import pyarrow as pa
import pytest

from scale_assets.ingest.account import account
from scale_assets.ingest.errors import IngestError, SourceUnavailable
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.kafka import reading
from scale_assets.ingest.kafka.cluster import Cluster
from scale_assets.ingest.kafka.source import KafkaSource
from scale_assets.lake import Lake
from scale_assets.lake.transactions import transactions
from tests.ingest.conftest import die_at, in_batches_of, rows
from tests.ingest.kafka.conftest import with_source
from tests.ingest.kafka.mock import send, values


def positions(lake: Lake, feed: EventFeed) -> dict[str, int]:
    found = transactions(lake.open(feed.table))
    prefix = f"{feed.name}/{feed.source.topic}/"
    return {name.removeprefix(prefix): at for name, at in found.items() if name.startswith(prefix)}


def ids(lake: Lake) -> list[str]:
    return [row["event_id"] for row in rows(lake)]


def test_every_partition_is_read_once_and_stands_in_the_table(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str
) -> None:
    send(broker, topic, values(range(5)))
    send(broker, topic, values(range(5, 8), day=2), partition=3)

    first, again = ingest(lake, kafka_feed), ingest(lake, kafka_feed)

    assert (first.num_received, first.num_accepted, again.num_received) == (8, 8, 0)
    assert ids(lake) == [f"e{n}" for n in range(8)]
    assert positions(lake, kafka_feed) == {"first/0": 5, "first/3": 3}
    send(broker, topic, values([8]), partition=3)
    assert ingest(lake, kafka_feed).num_accepted == 1
    assert rows(lake)[-1]["_source_file"] == f"{topic}/first/3"
    assert rows(lake)[-1]["_position"] == 3
    assert account(lake, kafka_feed).is_exact


def test_what_came_with_a_record_is_kept(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str
) -> None:
    headers = [("trace", b"\x00\xff"), ("trace", b"2"), ("none", None)]
    send(broker, topic, values([1]), key=b"\xffkey", headers=headers, timestamp=1_359_676_800_123)
    send(broker, topic, [b"broken"], key=None)

    ingest(lake, kafka_feed)

    kept, refused = rows(lake)[0], rows(lake, kafka_feed.quarantine_table)[0]
    assert kept["_key"] == b"\xffkey"
    assert [(each["name"], each["value"]) for each in kept["_headers"]] == headers
    assert kept["_timestamp"].isoformat() == "2013-02-01T00:00:00.123000+00:00"
    assert (refused["_key"], refused["_headers"], refused["raw"]) == (None, None, b"broken")
    assert refused["_position"] == 1


@pytest.mark.parametrize("value", [None, b"", b" \n"])
def test_a_record_without_a_value_is_refused_and_counted(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str, value: bytes | None
) -> None:
    send(broker, topic, [*values([1]), value, *values([2])])

    report = ingest(lake, kafka_feed)

    assert (report.num_received, report.num_accepted, report.num_quarantined) == (3, 2, 1)
    refused = rows(lake, kafka_feed.quarantine_table)[0]
    assert (refused["raw"], refused["rule"], refused["_position"]) == (b"null", "not_an_object", 1)
    assert account(lake, kafka_feed).is_exact


def test_batches_are_bounded_in_bytes(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str
) -> None:
    for partition in (0, 1):
        numbers = range(partition * 100, partition * 100 + 100)
        send(broker, topic, values(numbers), partition=partition)

    report = ingest(lake, in_batches_of(kafka_feed, 2000))

    assert report.num_batches > 5
    assert sorted(ids(lake)) == sorted(f"e{n}" for n in range(200))
    assert account(lake, kafka_feed).is_exact


def test_a_topic_made_again_is_said_and_read_from_its_start(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str
) -> None:
    send(broker, topic, values(range(3)))
    ingest(lake, kafka_feed)
    send(broker, topic, values(range(3, 6)))

    # The mock broker cannot delete a topic: the six records stand for those of a new one.
    again = with_source(kafka_feed, incarnation="second")
    report = ingest(lake, again)

    assert (report.num_received, report.num_duplicates, report.num_accepted) == (6, 3, 3)
    said = f"{topic}/second/0: the topic was made again; the table stood at {topic}/first/0 at 3"
    assert report.notices[0].startswith(said)
    assert lake.last_metadata(kafka_feed.table)["notices"] == report.notices
    assert ingest(lake, again).notices == []


def test_a_log_that_was_cut_short_stops_the_partition_and_no_other(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(broker, topic, values(range(3)))
    ingest(lake, kafka_feed)
    send(broker, topic, values([7]), partition=1)
    ends = reading.end_offsets
    monkeypatch.setattr(reading, "end_offsets", lambda *asked: ends(*asked) | {0: 2})

    report = ingest(lake, kafka_feed)

    assert report.num_accepted == 1
    with pytest.raises(IngestError, match=r"stands at 3, .* ends at 2: .*--accept-loss"):
        report.raise_if_broken()
    accepted = ingest(lake, with_source(kafka_feed, accept_loss=True))
    assert "stands at 3" in accepted.notices[0]
    assert "accepted, on at 2" in accepted.notices[0]


def test_records_deleted_before_they_were_read_stop_the_partition_until_accepted(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(broker, topic, values(range(3)))
    ingest(lake, kafka_feed)
    send(broker, topic, values(range(3, 9)))
    oldest = reading.first_offsets
    monkeypatch.setattr(reading, "first_offsets", lambda *asked: oldest(*asked) | {0: 7})

    for _ in range(2):
        with pytest.raises(IngestError, match=r"records 3 to 6 were deleted .*\(4 offsets"):
            ingest(lake, kafka_feed).raise_if_broken()
    assert ingest(lake, with_source(kafka_feed, accept_loss=True)).num_accepted == 2
    assert ids(lake) == ["e0", "e1", "e2", "e7", "e8"]
    assert ingest(lake, kafka_feed).broken == {}


def test_a_run_that_dies_between_its_commits_is_finished_from_the_same_offsets(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(broker, topic, [*values(range(3)), b"broken"])

    die_at("after_quarantine", lake, kafka_feed, monkeypatch)
    send(broker, topic, values(range(3, 5)))

    report = ingest(lake, kafka_feed)

    assert (report.num_batches, report.num_accepted, report.num_quarantined) == (2, 5, 1)
    assert ids(lake) == ["e0", "e1", "e2", "e3", "e4"]
    assert account(lake, kafka_feed).is_exact


def test_an_unfinished_batch_of_a_topic_that_is_gone_stops_until_accepted(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    send(broker, topic, [*values(range(3)), b"broken"])

    die_at("after_quarantine", lake, kafka_feed, monkeypatch)
    again = with_source(kafka_feed, incarnation="second")
    with pytest.raises(IngestError, match=r"half committed: .*records 0 to 3 .* made again since"):
        ingest(lake, again)
    report = ingest(lake, with_source(again, accept_loss=True))
    assert "records 0 to 3 of an unfinished batch are gone" in report.notices[0]
    assert account(lake, again).is_exact
    assert ids(lake) == ["e0", "e1", "e2"]


def test_the_fingerprint_changes_with_every_record_and_is_none_without_a_topic(
    kafka_feed: EventFeed, broker: str, topic: str
) -> None:
    send(broker, topic, values([1]))
    first = kafka_feed.source.fingerprint()
    assert first == kafka_feed.source.fingerprint()
    send(broker, topic, values([2]), partition=2)
    assert kafka_feed.source.fingerprint() != first


def test_a_broker_that_is_not_there_is_named_with_its_setting(
    lake: Lake, kafka_feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("topics", "cluster"):
        monkeypatch.setattr(f"scale_assets.ingest.kafka.{module}.CONNECT_SECONDS", 2.0)
    source = KafkaSource(cluster=Cluster("127.0.0.1:1"), topic="t")
    with pytest.raises(
        SourceUnavailable,
        match=r"SCALE_KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:1: .*refused.* is it up",
    ):
        ingest(lake, replace(kafka_feed, source=source))


def test_a_cluster_that_no_setting_names_is_said(kafka_feed: EventFeed) -> None:
    source = KafkaSource(cluster=Cluster(""), topic="t")
    with pytest.raises(IngestError, match="set SCALE_KAFKA_BOOTSTRAP_SERVERS"):
        source.fingerprint()


def test_a_wrong_property_is_said() -> None:
    source = KafkaSource(cluster=Cluster("127.0.0.1:1", {"no.such": "1"}), topic="t")
    with pytest.raises(IngestError, match=r"no\.such.*SCALE_KAFKA_"):
        source.fingerprint()


def test_librdkafka_prints_nothing() -> None:
    code = (
        "from scale_assets.ingest.kafka import cluster, topics\n"
        "topics.CONNECT_SECONDS = 1.0\n"
        "from scale_assets.ingest.errors import SourceUnavailable\n"
        "from scale_assets.ingest.kafka.source import KafkaSource\n"
        "try: KafkaSource(cluster=cluster.Cluster('127.0.0.1:1'), topic='t').fingerprint()\n"
        "except SourceUnavailable: print('unavailable')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=dict(os.environ), capture_output=True, check=True
    )
    assert (done.stdout, done.stderr) == (b"unavailable\n", b"")


def test_passwords_are_not_shown() -> None:
    source = KafkaSource(cluster=Cluster("h:1", {"sasl.password": "hidden"}), topic="t")
    assert "hidden" not in repr(source)


def test_offsets_with_gaps_are_the_records_positions() -> None:
    from scale_assets.ingest.kafka.records import Collected
    from scale_assets.ingest.kafka.topics import Topic
    from scale_assets.ingest.values import JsonValues

    class Said:
        def __init__(self, offset: int) -> None:
            self._offset = offset

        def offset(self) -> int:
            return self._offset

        def value(self) -> bytes:
            return b"{}"

        key = headers = lambda self: None

        def timestamp(self) -> tuple[int, int]:
            return 0, -1

    collected = Collected(3)
    for offset in (4, 5, 9):
        collected.add(Said(offset))
    collected.next = 12  # markers follow
    piece = collected.piece(Topic("t", "i", (0,)), 0, JsonValues(), is_end=True)

    assert piece.positions_after == {"t/i/0": 12}
    assert piece.address == ["t", "i", 0, 3, 12, 3]
    located = piece.located(pa.table({"_position": [4, 6]}))
    assert located["_position"].to_pylist() == [4, 9]
    assert located["_timestamp"].to_pylist() == [None, None]
