"""What a replay leaves in Kafka's topics is what it writes into files, however often it stops."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from scale_assets.ingest.account import account
from scale_assets.ingest.changes import ChangeFeed
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.feed import Feed
from scale_assets.ingest.file_source import FilesSource
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.kafka.cluster import Cluster
from scale_assets.ingest.kafka.source import KafkaSource
from scale_assets.lake import Lake
from scale_assets.replay import kafka
from scale_assets.replay.feeds import replay
from scale_assets.replay.kafka import PROGRESS, STREAMS, KafkaReplayError, key_of, send_feeds
from scale_assets.replay.source import Input
from scale_assets.servers.server import Server
from tests.ingest.kafka.mock import mock_broker
from tests.servers.fixtures import jars_dir, kafka_server, servers_dir  # noqa: F401

CONTRACTS = Path(__file__).resolve().parents[2] / "scale_assets" / "defs" / "ingest" / "contracts"
MIDWAY = date(2013, 3, 1)


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    with mock_broker() as found:
        yield found


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return "".join(each if each.isalnum() else "-" for each in request.node.name)[:150] + "."


@pytest.fixture
def topics_make_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mock broker has no administration; it makes a topic that is asked for."""

    def create(properties: Any, prefix: str, _num_partitions: int) -> None:
        admin = AdminClient(dict(properties))
        for feed in (*STREAMS, PROGRESS):
            admin.list_topics(prefix + feed, timeout=10)

    monkeypatch.setattr(kafka, "create_topics", create)


@pytest.fixture(scope="session")
def feeds_dir(small_world: Input, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("feeds")
    replay(small_world, folder)
    return folder


def lines_of(feeds_dir: Path, feed: str, until: date | None = None) -> list[bytes]:
    files = sorted((feeds_dir / feed).glob("*.jsonl"))
    return [
        line
        for file in files
        if until is None or date.fromisoformat(file.stem) <= until
        for line in file.read_bytes().splitlines()
    ]


def records_of(address: str, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    """Key and value of every committed record, partition by partition."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "test",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
    consumer.assign([TopicPartition(topic, each, OFFSET_BEGINNING) for each in partitions])
    found: dict[int, list[Any]] = {each: [] for each in partitions}
    open_ = set(partitions)
    while open_:
        message = consumer.poll(20)
        assert message is not None
        if message.error():
            open_.discard(message.partition())
        else:
            found[message.partition()].append((message.key(), message.value()))
    consumer.close()
    return [record for records in found.values() for record in records]


def by_key(values: list[bytes]) -> dict[bytes, list[bytes]]:
    keyed = defaultdict(list)
    for value in values:
        keyed[key_of(value)].append(value)
    return dict(keyed)


def assert_sent(address: str, prefix: str, feeds_dir: Path, until: date | None = None) -> None:
    for feed in STREAMS:
        records = records_of(address, prefix + feed)
        expected = lines_of(feeds_dir, feed, until)
        values = [value for _, value in records if value is not None]
        assert Counter(values) == Counter(expected), feed
        assert by_key(values) == by_key(expected), feed
        assert [key for key, _ in records] == [key_of(value) for value in values]


@pytest.mark.usefixtures("topics_make_themselves")
def test_one_run_or_many_send_each_record_once(address: str, prefix: str, feeds_dir: Path) -> None:
    properties = {"bootstrap.servers": address, "log_level": 0}

    first = send_feeds(feeds_dir, properties, prefix=prefix, until=MIDWAY)
    assert first.last_day is not None
    assert first.last_day <= MIDWAY
    assert_sent(address, prefix, feeds_dir, MIDWAY)
    rest = send_feeds(feeds_dir, properties, prefix=prefix)
    again = send_feeds(feeds_dir, properties, prefix=prefix)

    assert_sent(address, prefix, feeds_dir)
    assert again.num_records == 0
    assert again.last_day == rest.last_day
    total = sum(len(lines_of(feeds_dir, feed)) for feed in STREAMS)
    assert first.num_records + rest.num_records == total


@pytest.mark.usefixtures("topics_make_themselves")
def test_a_run_that_failed_midway_is_taken_up(
    address: str, prefix: str, feeds_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    properties = {"bootstrap.servers": address, "log_level": 0}
    monkeypatch.setattr(kafka, "RECORDS_PER_TRANSACTION", 400)
    produce, sent = kafka.Sender._produce, 0

    def failing(self: kafka.Sender, topic: str, value: bytes, **where: Any) -> None:
        nonlocal sent
        sent += 1
        if sent == 1000:
            raise RuntimeError("the process ends here")
        produce(self, topic, value, **where)

    with monkeypatch.context() as patched:
        patched.setattr(kafka.Sender, "_produce", failing)
        with pytest.raises(RuntimeError):
            send_feeds(feeds_dir, properties, prefix=prefix)
    done = send_feeds(feeds_dir, properties, prefix=prefix)

    assert 0 < done.num_records < sum(len(lines_of(feeds_dir, feed)) for feed in STREAMS)
    assert_sent(address, prefix, feeds_dir)


@pytest.mark.usefixtures("topics_make_themselves")
def test_topics_of_another_choice_are_refused(
    address: str, prefix: str, feeds_dir: Path, small_world: Input, tmp_path: Path
) -> None:
    properties = {"bootstrap.servers": address, "log_level": 0}
    send_feeds(feeds_dir, properties, prefix=prefix, until=MIDWAY)
    replay(small_world, tmp_path, modules=["BBB"])

    with pytest.raises(KafkaReplayError, match="SCALE_KAFKA_TOPIC_PREFIX"):
        send_feeds(tmp_path, properties, prefix=prefix)


def test_a_delete_has_the_key_of_its_row() -> None:
    row = '{"presentation_id":"AAA-2013B","student_id":7}'
    deleted = f'{{"before":{row},"after":null,"op":"d"}}'.encode()

    assert key_of(deleted) == key_of(row.encode())


SEND = """
import sys
from pathlib import Path
from scale_assets.replay import kafka
kafka.RECORDS_PER_TRANSACTION = 300
kafka.send_feeds(
    Path(sys.argv[1]), {"bootstrap.servers": sys.argv[2]}, prefix=sys.argv[3],
    progress=lambda *_: print("sent", flush=True),
)
"""


@pytest.mark.slow
def test_a_killed_replay_ends_exactly_and_its_lake_equals_that_of_files(
    kafka_server: Server,  # noqa: F811
    prefix: str,
    feeds_dir: Path,
    tmp_path: Path,
) -> None:
    address = kafka_server.start().address
    command = [sys.executable, "-c", SEND, str(feeds_dir), address, prefix]
    for num_transactions in (1, 3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            for _ in range(num_transactions):
                child.stdout.readline()
            time.sleep(0.05)
            os.kill(child.pid, signal.SIGKILL)
    subprocess.run(command, check=True, capture_output=True)

    assert_sent(address, prefix, feeds_dir)
    for make, name in ((clicks_feed, "clicks"), (registrations_feed, "registrations")):
        cluster = Cluster(address)
        ours = taken(tmp_path / "kafka", make(KafkaSource(cluster=cluster, topic=prefix + name)))
        theirs = taken(tmp_path / "files", make(FilesSource(feeds_dir / name)))
        assert ours == theirs


def clicks_feed(source: Any) -> Feed:
    return EventFeed(
        name="clicks",
        source=source,
        contract_path=CONTRACTS / "clicks.odcs.yaml",
        table="raw/clicks",
        quarantine_table="raw/clicks_quarantine",
        key=("event_id",),
        event_time="event_time",
        start=date(2013, 1, 1),
        end=date(2015, 1, 1),
        dedup_horizon_days=7,
    )


def registrations_feed(source: Any) -> Feed:
    return ChangeFeed(
        name="registrations",
        source=source,
        contract_path=CONTRACTS / "registrations.odcs.yaml",
        table="raw/registrations_changes",
        quarantine_table="raw/registrations_quarantine",
    )


def taken(root: Path, feed: Feed) -> Counter[tuple[Any, ...]]:
    """Rows by what they say, not by where they came from."""
    lake = Lake(root)
    ingest(lake, feed)
    totals = account(lake, feed)
    assert totals.is_exact
    assert totals.duplicates == 0
    contract, _ = feed.load_contract()
    columns = [field.name for field in contract.fields]
    rows = lake.read(feed.table, columns=columns).to_pylist()
    return Counter(tuple(row.values()) for row in rows)
