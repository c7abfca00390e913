"""Records to a Kafka topic, acknowledged by every replica that is in sync."""

import asyncio
import logging
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Producer

from serving.collector.errors import CollectorError, SinkUnavailable
from serving.collector.records import Record

log = logging.getLogger(__name__)

POLL_S = 0.1
GROUPED = {"linger.ms": "0"}  # records arrive in groups already
PATIENCE = {"delivery.timeout.ms": "8000"}  # libraries give a request up after 10 s
DURABLE = {"acks": "all", "enable.idempotence": "true"}  # not for a setting to weaken


class KafkaSink:
    """Produces to the topic of the stream's name; the stream's ``partition_by`` is the key."""

    def __init__(self, topic: str, properties: Mapping[str, str]) -> None:
        """``properties`` are librdkafka's: bootstrap.servers, security.protocol, and so on."""
        self._topic = topic
        self._properties = {**GROUPED, **PATIENCE, **properties, **DURABLE}
        self._producer = self._connected()
        self._closing = threading.Event()
        self._poller = threading.Thread(target=self._poll, name=f"kafka-{topic}", daemon=True)
        self._poller.start()

    async def write(self, records: Sequence[Record]) -> None:
        delivery = _Delivery(len(records))
        for record in records:
            try:
                self._producer.produce(
                    self._topic,
                    record.line.rstrip(b"\n"),
                    key=record.key,
                    on_delivery=delivery.report,
                )
            except (BufferError, KafkaException) as error:
                delivery.report(error, None)
        await delivery.done
        if delivery.errors:
            if any(_is_fatal(error) for error in delivery.errors):
                self._producer = self._connected()
            raise SinkUnavailable(f"topic {self._topic}: {delivery.errors[0]}")

    async def close(self) -> None:
        """Every write has had its reports, so nothing is left to flush."""
        self._closing.set()
        await asyncio.to_thread(self._poller.join)

    def _connected(self) -> Producer:
        try:
            return Producer(self._properties, logger=log)
        except KafkaException as error:
            reason = error.args[0].str()
            raise CollectorError(f"SCALE_KAFKA_*: {reason}; see librdkafka's names") from None

    def _poll(self) -> None:
        while not self._closing.is_set():
            self._producer.poll(POLL_S)


class _Delivery:
    """Counts the reports of one write; they come from the polling thread."""

    def __init__(self, num_expected: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._lock = threading.Lock()
        self._num_expected = num_expected
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.errors: list[Any] = []

    def report(self, error: Any, _message: Any) -> None:
        with self._lock:
            self._num_expected -= 1
            if error is not None:
                self.errors.append(error)
            is_last = not self._num_expected
        if is_last:
            self._loop.call_soon_threadsafe(self.done.set_result, None)


def _is_fatal(error: Any) -> bool:
    """Whether the producer can never send again: it has lost track of its sequence."""
    if isinstance(error, KafkaException):
        error = error.args[0]
    return isinstance(error, KafkaError) and bool(error.fatal())
