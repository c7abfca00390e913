"""What only a real broker does: transactions, compaction, deletion, new partitions, signing in."""

import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic

from scale_assets.ingest.account import account
from scale_assets.ingest.errors import IngestError, SourceUnavailable
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.kafka.cluster import Cluster
from scale_assets.ingest.kafka.source import KafkaSource
from scale_assets.lake import Lake
from scale_assets.servers.kafka import Kafka
from scale_assets.servers.server import Server
from tests.ingest.conftest import rows
from tests.ingest.kafka.conftest import with_source
from tests.ingest.kafka.mock import send, values
from tests.ingest.kafka.test_source import ids, positions
from tests.servers.fixtures import started

pytestmark = pytest.mark.slow


def make(address: str, topic: str, partitions: int = 1, **config: str) -> None:
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    wanted = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=config)
    admin.create_topics([wanted])[topic].result(30)
    deadline = time.monotonic() + 30  # the answer comes before every broker knows it
    while topic not in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline


def remove(address: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    admin.delete_topics([topic])[topic].result(30)
    deadline = time.monotonic() + 30
    while topic in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def address(kafka_server: Server) -> str:
    return kafka_server.start().address


@pytest.fixture
def real_feed(feed: EventFeed, address: str, topic: str) -> EventFeed:
    return replace(feed, source=KafkaSource(cluster=Cluster(address), topic=topic))


def test_only_committed_transactions_are_taken(
    lake: Lake, real_feed: EventFeed, address: str, topic: str
) -> None:
    make(address, topic)
    producer = Producer({"bootstrap.servers": address, "transactional.id": topic, "log_level": 0})
    producer.init_transactions(30)
    for first, is_kept in ((0, True), (3, False), (6, True), (9, False)):
        producer.begin_transaction()
        for value in values(range(first, first + 3)):
            producer.produce(topic, value=value, partition=0)
        producer.flush(30)
        if first == 6:
            # Nothing of an open transaction is taken, nor what comes after it.
            send(address, topic, values([20]))
            assert ingest(lake, real_feed).num_received == 3
            assert positions(lake, real_feed).popitem()[1] == 8
        (producer.commit_transaction if is_kept else producer.abort_transaction)(30)

    report = ingest(lake, real_feed)

    assert report.num_received == 4
    assert ids(lake) == ["e0", "e1", "e2", "e6", "e7", "e8", "e20"]
    # Twelve records, one outside of transactions, four markers; the last ones are aborted.
    assert positions(lake, real_feed).popitem()[1] == 17
    assert [row["_position"] for row in rows(lake)] == [0, 1, 2, 8, 9, 10, 11]
    assert ingest(lake, real_feed).num_batches == 0
    assert account(lake, real_feed).is_exact


def test_compacted_offsets_are_gaps_and_no_loss(
    lake: Lake, real_feed: EventFeed, address: str, topic: str
) -> None:
    config = {
        "cleanup.policy": "compact",
        "segment.ms": "100",
        "min.cleanable.dirty.ratio": "0.01",
        "max.compaction.lag.ms": "100",
        "delete.retention.ms": "100",
    }
    make(address, topic, **config)
    send(address, topic, values(range(5)), key=b"a")
    ingest(lake, real_feed)
    for number in range(5, 40):
        send(address, topic, values([number]), key=b"b" if number % 2 else b"c")
    time.sleep(0.5)
    send(address, topic, values([40]), key=b"a")  # rolls the segment, so that it can be cleaned
    oldest = _wait_until_compacted(address, topic, fewer_than=30)

    report = ingest(lake, real_feed)

    assert report.broken == {}
    assert report.num_received == len([offset for offset in oldest if offset >= 5])
    assert [row["_position"] for row in rows(lake)] == [*range(5), *(o for o in oldest if o >= 5)]
    assert account(lake, real_feed).is_exact


def _wait_until_compacted(address: str, topic: str, *, fewer_than: int) -> list[int]:
    deadline = time.monotonic() + 120
    while True:
        offsets = _offsets(address, topic)
        if len(offsets) < fewer_than:
            return offsets
        assert time.monotonic() < deadline, offsets
        time.sleep(1)


def _offsets(address: str, topic: str) -> list[int]:
    from confluent_kafka import Consumer, TopicPartition

    config = {"bootstrap.servers": address, "group.id": "peek", "enable.partition.eof": True}
    consumer = Consumer({**config, "log_level": 0})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[int] = []
    while True:
        for message in consumer.consume(100, 1):
            if message.error():
                consumer.close()
                return found
            found.append(message.offset())


def test_a_topic_made_again_is_said_and_read_from_its_start(
    lake: Lake, real_feed: EventFeed, address: str, topic: str
) -> None:
    make(address, topic)
    send(address, topic, values(range(3)))
    ingest(lake, real_feed)
    before = real_feed.source.fingerprint()
    remove(address, topic)
    assert real_feed.source.fingerprint() is None
    with pytest.raises(IngestError, match=r"create it.*or mend transport\.topic"):
        ingest(lake, real_feed)
    make(address, topic)
    send(address, topic, values(range(3, 6)))

    report = ingest(lake, real_feed)

    assert real_feed.source.fingerprint() != before
    assert "the topic was made again" in report.notices[0]
    assert ids(lake) == [f"e{n}" for n in range(6)]


def test_what_retention_deleted_unread_stops_until_accepted(
    lake: Lake, real_feed: EventFeed, address: str, topic: str
) -> None:
    from confluent_kafka import TopicPartition

    make(address, topic, 2)
    send(address, topic, values(range(3)))
    ingest(lake, real_feed)
    send(address, topic, values(range(3, 9)))
    send(address, topic, values([50]), partition=1)
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    (deleted,) = admin.delete_records([TopicPartition(topic, 0, 6)]).values()
    deleted.result(30)

    report = ingest(lake, real_feed)
    assert report.num_accepted == 1
    with pytest.raises(IngestError, match=r"records 3 to 5 were deleted before they were read"):
        report.raise_if_broken()
    assert ingest(lake, with_source(real_feed, accept_loss=True)).num_accepted == 3
    assert ingest(lake, real_feed).broken == {}


def test_new_partitions_are_read_from_their_start(
    lake: Lake, real_feed: EventFeed, address: str, topic: str
) -> None:
    make(address, topic)
    send(address, topic, values([0]))
    ingest(lake, real_feed)
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(30)
    send(address, topic, values([1]), partition=2)

    report = ingest(lake, real_feed)

    assert (report.num_accepted, report.notices) == (1, [])


def test_lag_monitors_see_what_is_durable(
    lake: Lake, real_feed: EventFeed, address: str, topic: str
) -> None:
    from confluent_kafka import ConsumerGroupTopicPartitions

    make(address, topic)
    send(address, topic, values(range(7)))
    ingest(lake, real_feed)
    admin = AdminClient({"bootstrap.servers": address, "log_level": 0})
    asked = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions("scale-views")])
    told = {each.topic: each.offset for each in asked["scale-views"].result(30).topic_partitions}
    assert told[topic] == 7


# ------------------------------------------------------------------ TLS and SASL

PASSWORD = "a secret of the test"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory, jars_dir: Path) -> Iterator[tuple[str, Path]]:
    """A broker that wants TLS and a password at the address, and the file of its authority."""
    from scale_assets.servers.process import free_ports

    folder = tmp_path_factory.mktemp("guarded")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", "key.pem", "-out", "ca.pem", "-subj", "/CN=127.0.0.1"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    (folder / "store.pem").write_text(
        (folder / "key.pem").read_text() + (folder / "ca.pem").read_text()
    )
    (port,) = free_ports(1)
    kafka = Kafka(folder / "kafka", jars_dir=jars_dir, any_port=True)
    (folder / "kafka").mkdir()
    clients, controller = kafka.ports
    login = (
        f'org.apache.kafka.common.security.plain.PlainLoginModule required user_scale="{PASSWORD}";'
    )
    kafka.properties = {
        "listeners": f"PLAINTEXT://127.0.0.1:{clients},CONTROLLER://127.0.0.1:{controller},"
        f"SASL_SSL://127.0.0.1:{port}",
        "advertised.listeners": f"PLAINTEXT://127.0.0.1:{clients},SASL_SSL://127.0.0.1:{port}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,"
        "SASL_SSL:SASL_SSL",
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": login,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(folder / "store.pem"),
    }
    with started(kafka):
        send(f"127.0.0.1:{clients}", "t", values([1]), partition=-1)
        yield f"127.0.0.1:{port}", folder / "ca.pem"


def settings_of(guarded: tuple[str, Path], **changes: Any) -> Cluster:
    from scale_assets.components.kafka_transport import kafka_cluster
    from scale_assets.settings import Settings

    address, ca_path = guarded
    values = {
        "kafka_bootstrap_servers": address,
        "kafka_security_protocol": "SASL_SSL",
        "kafka_sasl_mechanism": "PLAIN",
        "kafka_username": "scale",
        "kafka_password": PASSWORD,
        "kafka_ca_path": ca_path,
    }
    return kafka_cluster(Settings(**(values | changes)))


def test_tls_and_a_password_come_from_settings(
    lake: Lake, feed: EventFeed, guarded: tuple[str, Path]
) -> None:
    source = KafkaSource(cluster=settings_of(guarded), topic="t")
    assert ingest(lake, replace(feed, source=source)).num_accepted == 1


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({"kafka_password": "wrong"}, "SCALE_KAFKA_PASSWORD", id="password"),
        pytest.param({"kafka_ca_path": None}, "SCALE_KAFKA_CA_PATH", id="authority"),
    ],
)
def test_what_is_refused_names_the_setting(
    guarded: tuple[str, Path], changes: dict[str, Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scale_assets.ingest.kafka.topics.CONNECT_SECONDS", 5.0)
    source = KafkaSource(cluster=settings_of(guarded, **changes), topic="t")
    with pytest.raises(SourceUnavailable, match=said):
        source.fingerprint()
