"""Against librdkafka's own mock cluster: acknowledged is delivered, and nothing else is."""

import asyncio
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from serving.collector.build import build
from serving.collector.config import Config
from serving.collector.errors import CollectorError, SinkUnavailable
from serving.collector.kafka_sink import KafkaSink
from serving.collector.records import Record
from tests.serving.collector.conftest import KEY, click

confluent_kafka = pytest.importorskip("confluent_kafka")


class Broker:
    """A mock cluster, up until it is stopped."""

    def __init__(self) -> None:
        self._owner = confluent_kafka.Producer({"test.mock.num.brokers": 1})
        (broker,) = self._owner.list_topics(timeout=10).brokers.values()
        self.servers = f"{broker.host}:{broker.port}"

    def stop(self) -> None:
        self._owner = None
        gc.collect()

    def messages(self, topic: str, num_expected: int) -> list[tuple[Any, Any]]:
        consumer = confluent_kafka.Consumer(
            {
                "bootstrap.servers": self.servers,
                "group.id": "test",
                "auto.offset.reset": "earliest",
            }
        )
        consumer.subscribe([topic])
        found: list[tuple[Any, Any]] = []
        deadline = time.monotonic() + 20
        while len(found) < num_expected and time.monotonic() < deadline:
            message = consumer.poll(0.2)
            if message is not None and not message.error():
                found.append((message.key(), message.value()))
        consumer.close()
        return found


@pytest.fixture
def broker() -> Iterator[Broker]:
    running = Broker()
    yield running
    running.stop()


def records(*lines: bytes) -> list[Record]:
    return [Record(None, {}, line + b"\n", b"key") for line in lines]  # type: ignore[arg-type]


def test_a_write_is_delivered_in_order_when_it_returns(broker: Broker) -> None:
    async def work() -> None:
        sink = KafkaSink("clicks", {"bootstrap.servers": broker.servers})
        await sink.write(records(b"1", b"2"))
        await sink.write(records(b"3"))
        await sink.close()

    asyncio.run(work())

    assert broker.messages("clicks", 3) == [(b"key", b"1"), (b"key", b"2"), (b"key", b"3")]


def test_a_broker_that_is_gone_acknowledges_nothing(broker: Broker) -> None:
    async def work() -> None:
        patience = {"delivery.timeout.ms": "4000", "log_level": "0"}
        sink = KafkaSink("clicks", {"bootstrap.servers": broker.servers, **patience})
        await sink.write(records(b"1"))
        broker.stop()
        with pytest.raises(SinkUnavailable, match="topic clicks"):
            await sink.write(records(b"2", b"3"))
        await sink.close()

    asyncio.run(work())


def test_a_full_buffer_is_unavailable_not_lost(broker: Broker) -> None:
    async def work() -> None:
        small = {"queue.buffering.max.messages": "2", "linger.ms": "100"}
        sink = KafkaSink("clicks", {"bootstrap.servers": broker.servers, **small})
        with pytest.raises(SinkUnavailable, match="Queue full"):
            await sink.write(records(b"1", b"2", b"3", b"4"))
        await sink.write(records(b"5"))
        await sink.close()

    asyncio.run(work())


@pytest.mark.parametrize("weaker", [{"acks": "1"}, {"enable.idempotence": "false"}], ids=str)
def test_no_property_weakens_the_promise(broker: Broker, weaker: dict[str, str]) -> None:
    async def work() -> None:
        sink = KafkaSink("clicks", {"bootstrap.servers": broker.servers, **weaker})
        assert (sink._properties["acks"], sink._properties["enable.idempotence"]) == ("all", "true")
        await sink.close()

    asyncio.run(work())


def test_a_property_that_is_none_is_named() -> None:
    with pytest.raises(CollectorError, match=r"SCALE_KAFKA_.*bootstrap\.server\b"):
        KafkaSink("clicks", {"bootstrap.server": "x"})


def test_a_request_is_answered_when_kafka_has_it_and_503_when_not(
    config: Config, broker: Broker
) -> None:
    kafka = {
        "bootstrap.servers": broker.servers,
        "delivery.timeout.ms": "4000",
        "log_level": "0",
    }
    with TestClient(build(msgspec.structs.replace(config, kafka=kafka))) as client:
        taken = client.post("/v1/track", json=click(1), auth=(KEY, ""))
        ((key, value),) = broker.messages("clicks", 1)
        broker.stop()
        lost = client.post("/v1/track", json=click(2), auth=(KEY, ""))
        health = client.get("/healthz").json()

    assert taken.status_code == 200
    row = msgspec.json.decode(value)
    assert (row["event_id"], row["user"]) == ("m1", key.decode())
    assert (lost.status_code, lost.json()["code"]) == (503, "unavailable")
    assert lost.headers["retry-after"] == "1"
    assert health == {"live": True, "failing": ["clicks"]}
    assert not Path(config.feeds_dir).exists()
