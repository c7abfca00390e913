"""librdkafka's own broker for tests: in this process, over TCP, without an administration."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from confluent_kafka import Producer

from scale_assets.ingest.kafka.cluster import CONNECT_SECONDS, Faults
from scale_assets.ingest.kafka.source import KafkaSource
from scale_assets.ingest.kafka.topics import MissingTopic, Topic


class MockSource(KafkaSource):
    """The mock broker gives topics no ids, so that the test names the incarnation."""

    def find_topic(self, admin: Any, _faults: Faults) -> Topic:
        found = admin.list_topics(self.topic, timeout=CONNECT_SECONDS).topics[self.topic]
        if found.error is not None:
            raise MissingTopic(f"topic {self.topic}: {found.error.str()}")
        return Topic(
            name=self.topic,
            id=incarnation.get(self.topic, "id1"),
            partitions=tuple(found.partitions),
        )


incarnation: dict[str, str] = {}


@contextmanager
def mock_cluster() -> Iterator[str]:
    """The address of a broker that lives as long as the block."""
    owner = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    brokers = owner.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    owner.purge()


def send(address: str, topic: str, values: Iterable[bytes | None], **options: Any) -> None:
    """Produce and wait until all of it is acknowledged."""
    partition = options.pop("partition", 0)
    producer = Producer({"bootstrap.servers": address, "log_level": 0, "linger.ms": 1})
    failed: list[Any] = []
    for value in values:
        producer.produce(
            topic,
            value=value,
            partition=partition,
            on_delivery=lambda error, _: failed.append(error) if error else None,
            **options,
        )
        producer.poll(0)
    assert producer.flush(20) == 0
    assert not failed
