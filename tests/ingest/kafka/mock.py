"""librdkafka's own broker for tests: in this process, over TCP, without an administration."""

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Producer

from scale_assets.ingest.kafka.cluster import CONNECT_SECONDS, Faults
from scale_assets.ingest.kafka.source import KafkaSource
from scale_assets.ingest.kafka.topics import MissingTopic, Topic
from tests.ingest.conftest import event


@dataclass(frozen=True, kw_only=True)
class MockSource(KafkaSource):
    """The mock broker gives topics no ids, so that the test names the incarnation."""

    incarnation: str = "first"

    def find_topic(self, admin: Any, _faults: Faults) -> Topic:
        found = admin.list_topics(self.topic, timeout=CONNECT_SECONDS).topics[self.topic]
        if found.error is not None:
            raise MissingTopic(f"topic {self.topic}: {found.error.str()}")
        return Topic(self.topic, self.incarnation, tuple(sorted(found.partitions)))


@contextmanager
def mock_broker() -> Iterator[str]:
    """The address of a broker that lives as long as the block."""
    owner = Producer({"test.mock.num.brokers": 1, "log_level": 0})
    brokers = owner.list_topics(timeout=10).brokers.values()
    yield ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
    owner.purge()


def send(address: str, topic: str, values: Iterable[bytes | None], **message: Any) -> None:
    """Produce in order, and wait until all of it is acknowledged."""
    producer = Producer({"bootstrap.servers": address, "log_level": 0, "linger.ms": 5})
    failed: list[Any] = []
    for value in values:
        producer.produce(
            topic,
            value=value,
            on_delivery=lambda error, _: failed.append(error) if error else None,
            **{"partition": 0, **message},
        )
        producer.poll(0)
    assert producer.flush(30) == 0
    assert not failed


def values(numbers: Iterable[int], day: int = 1, **others: Any) -> list[bytes]:
    return [json.dumps(event(number, day, **others)).encode() for number in numbers]
