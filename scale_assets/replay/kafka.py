"""Replayed events and changes onto Kafka topics, each record exactly once.

Days go out in transactions that also say, in a topic of their own, which day they end with: one run
up to a day or many, killed or not, leave the same records in the same order per key.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from scale_assets.errors import ScaleError
from scale_assets.replay.feeds import FEEDS
from scale_assets.replay.manifest import MANIFEST_NAME

SNAPSHOTS = ("presentations", "sites", "assessments")  # whole copies stay files
STREAMS = tuple(feed for feed in FEEDS if feed not in SNAPSHOTS)
PROGRESS = "replay-progress"
RECORDS_PER_TRANSACTION = 50_000
SECONDS = 60.0
PARTITION_EOF = -191  # librdkafka's own code

log = logging.getLogger(__name__)  # librdkafka's own words: it asks again by itself
log.addHandler(logging.NullHandler())

Properties = Mapping[str, Any]
Progress = Callable[[date, int, int], None]  # day just sent, days done, days to send


class KafkaReplayError(ScaleError):
    """The topics hold another replay, or the cluster does not take this one."""


@dataclass(frozen=True)
class KafkaReplay:
    """What one run sent, and the day that the topics have reached."""

    num_records: int
    num_days: int
    last_day: date | None


class Who(msgspec.Struct, frozen=True):
    """The fields that are a record's key."""

    presentation_id: str
    student_id: int


class Line(msgspec.Struct, frozen=True):
    """An event, or a change's envelope."""

    presentation_id: str | None = None
    student_id: int | None = None
    after: Who | None = None
    before: Who | None = None


def send_feeds(
    feeds_dir: Path,
    properties: Properties,
    *,
    prefix: str = "",
    until: date | None = None,
    num_partitions: int = 3,
    progress: Progress | None = None,
) -> KafkaReplay:
    """Send the files that ``replay`` wrote, for days after the topics' last and up to ``until``.

    Args:
        feeds_dir: The feeds folder; its files stay as they are.
        properties: librdkafka's, of the cluster.
        prefix: Comes before each feed's name in its topic's.
        until: The last day; None means all that there are.
        num_partitions: Of each topic that has to be made.
        progress: Called after each transaction.

    Raises:
        KafkaReplayError: The topics hold another input or choice, or the cluster refuses.
    """
    from confluent_kafka import KafkaException

    replayed = _fingerprint(feeds_dir)
    try:
        create_topics(properties, prefix, num_partitions)
        last = _last_day(properties, prefix + PROGRESS, replayed)
        days = [day for day in _days(feeds_dir, until) if last is None or day > last]
        sender = Sender(feeds_dir, properties, prefix, replayed)
        num_records, num_done = 0, 0
        for batch in _batches(feeds_dir, days):
            num_records += sender.send(batch)
            num_done += len(batch)
            if progress is not None:
                progress(batch[-1], num_done, len(days))
    except KafkaException as error:
        raise KafkaReplayError(f"Kafka: {error.args[0].str()}; see SCALE_KAFKA_*") from error
    return KafkaReplay(num_records, len(days), days[-1] if days else last)


class Sender:
    """One transactional producer; a new one ends whatever an earlier one left open."""

    def __init__(
        self, feeds_dir: Path, properties: Properties, prefix: str, replayed: Mapping[str, Any]
    ) -> None:
        from confluent_kafka import Producer

        self.feeds_dir = feeds_dir
        self.prefix = prefix
        self.replayed = replayed
        self._producer = Producer(
            {
                **properties,
                "transactional.id": f"scale-{prefix}{PROGRESS}",
                "linger.ms": 50,
                "compression.type": "zstd",
            },
            logger=log,
        )
        self._producer.init_transactions(SECONDS)

    def send(self, days: list[date]) -> int:
        """All records of these days and the mark behind them, in one transaction."""
        producer, num_records = self._producer, 0
        producer.begin_transaction()
        for day in days:
            for feed in STREAMS:
                for line in _lines(self.feeds_dir / feed / f"{day}.jsonl"):
                    self._produce(self.prefix + feed, line, key=key_of(line))
                    num_records += 1
        mark = {**self.replayed, "day": days[-1].isoformat()}
        self._produce(self.prefix + PROGRESS, json.dumps(mark).encode(), partition=0)
        producer.commit_transaction(SECONDS)
        return num_records

    def _produce(self, topic: str, value: bytes, **where: Any) -> None:
        while True:
            try:
                self._producer.produce(topic, value, **where)
            except BufferError:  # librdkafka's queue is full: let some of it go out
                self._producer.poll(0.1)
            else:
                return


def key_of(line: bytes) -> bytes:
    """As Debezium's JSON converter writes it: the row's key as an object."""
    found = msgspec.json.decode(line, type=Line)
    who = found.after or found.before or found
    return json.dumps(
        {"presentation_id": who.presentation_id, "student_id": who.student_id}
    ).encode()


def create_topics(properties: Properties, prefix: str, num_partitions: int) -> None:
    """Make the topics that the cluster lacks."""
    from confluent_kafka import KafkaError, KafkaException
    from confluent_kafka.admin import AdminClient
    from confluent_kafka.cimpl import NewTopic

    admin = AdminClient(dict(properties), logger=log)
    wanted = [NewTopic(prefix + feed, num_partitions=num_partitions) for feed in STREAMS]
    wanted.append(NewTopic(prefix + PROGRESS, num_partitions=1))
    for answer in admin.create_topics(wanted, operation_timeout=SECONDS).values():
        try:
            answer.result(SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise


def _fingerprint(feeds_dir: Path) -> dict[str, Any]:
    manifest = json.loads((feeds_dir / MANIFEST_NAME).read_text())
    return {name: manifest[name] for name in ("format", "fingerprint", "presentations")}


def _last_day(properties: Properties, topic: str, replayed: Mapping[str, Any]) -> date | None:
    """The day of the last mark that a transaction committed."""
    mark = _last_record(properties, topic)
    if mark is None:
        return None
    found = json.loads(mark)
    day = date.fromisoformat(found.pop("day"))
    if found != replayed:
        raise KafkaReplayError(
            f"topic {topic} is of another input or other courses; give those again, delete the "
            "replay's topics, or set another SCALE_KAFKA_TOPIC_PREFIX"
        )
    return day


def _last_record(properties: Properties, topic: str) -> bytes | None:
    from confluent_kafka import (
        OFFSET_BEGINNING,
        Consumer,
        KafkaException,
        TopicPartition,
    )

    consumer = Consumer(
        {
            **properties,
            "group.id": f"scale-{topic}",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
        },
        logger=log,
    )
    consumer.assign([TopicPartition(topic, 0, OFFSET_BEGINNING)])
    last: bytes | None = None
    try:
        while True:
            message = consumer.poll(SECONDS)
            if message is None:
                raise KafkaReplayError(f"topic {topic} is not read within {SECONDS:.0f} s")
            error = message.error()
            if error is None:
                last = message.value()
            elif error.code() == PARTITION_EOF:
                return last
            else:
                raise KafkaException(error)
    finally:
        consumer.close()


def _days(feeds_dir: Path, until: date | None) -> list[date]:
    named = {path.stem for feed in STREAMS for path in (feeds_dir / feed).glob("*.jsonl")}
    days = sorted(map(date.fromisoformat, named))
    return [day for day in days if until is None or day <= until]


def _batches(feeds_dir: Path, days: list[date]) -> Iterator[list[date]]:
    """Days in a row with about RECORDS_PER_TRANSACTION records, or one that has more."""
    manifest = json.loads((feeds_dir / MANIFEST_NAME).read_text())["rows"]
    batch: list[date] = []
    num_records = 0
    for day in days:
        batch.append(day)
        num_records += sum(manifest[feed].get(day.isoformat(), 0) for feed in STREAMS)
        if num_records >= RECORDS_PER_TRANSACTION:
            yield batch
            batch, num_records = [], 0
    if batch:
        yield batch


def _lines(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as file:
            yield from (line.rstrip(b"\n") for line in file)
