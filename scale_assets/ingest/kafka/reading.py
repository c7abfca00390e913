"""One run's connection to a topic: where a table stands says where reading goes on."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from scale_assets.ingest.errors import IngestError, SourceUnavailable
from scale_assets.ingest.kafka.cluster import (
    AUTO_OFFSET_RESET,
    LOG_TRUNCATION,
    PARTITION_EOF,
    TIMED_OUT,
    Faults,
    log,
)
from scale_assets.ingest.kafka.records import Collected
from scale_assets.ingest.kafka.topics import Offsets, Topic, end_offsets, first_offsets
from scale_assets.ingest.source import Piece, Positions, Reading

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message
    from confluent_kafka.admin import AdminClient

    from scale_assets.ingest.kafka.source import KafkaSource

MESSAGES_PER_POLL = 5000
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 30.0  # without a message, while the broker says there are some
ACCEPT_LOSS = "`scale ingest NAME --accept-loss`"


class KafkaReading(Reading):
    """Reads every partition of the topic."""

    def __init__(
        self, source: "KafkaSource", admin: "AdminClient", consumer: "Consumer", faults: Faults
    ) -> None:
        super().__init__()
        self.source = source
        self.admin = admin
        self.consumer = consumer
        self.faults = faults
        self._at: Offsets = {}  # what the consumer reads, and the next offset of each
        self._read: Topic | None = None
        self._told: Offsets = {}

    def pieces(self, taken: Positions, *, max_bytes: int) -> Iterator[Piece]:
        self.broken.clear()
        topic = self._read = self._topic()
        mine = self._mine(topic)
        ends = end_offsets(self.admin, self.faults, topic, mine)
        collected = self._starts(topic, mine, ends, taken)
        self._move_to(topic, {partition: each.first for partition, each in collected.items()})
        pending = {partition for partition in collected if self._at[partition] < ends[partition]}
        size = 0
        for messages in self._polls(pending):
            for message in messages:
                size += self._take(topic, message, collected)
                if size >= max_bytes:
                    yield from self._flush(topic, collected, pending)
                    size = 0
            self._reached(collected)
            pending -= {each for each in pending if self._is_done(each, topic, ends)}
        yield from self._flush(topic, collected, pending)

    def reread(self, address: list[Any]) -> Piece:
        name, topic_id, partition, first, following, num_records = address
        topic = self._topic()
        if (topic.name, topic.id) != (name, topic_id):
            return self._gone(address, f"topic {name} was made again since, as {topic.id}")
        (oldest,) = first_offsets(self.admin, self.faults, topic, [partition]).values()
        if oldest > first:
            return self._gone(address, f"its oldest record is now {oldest}")
        # With a consumer of its own: this one may be in the middle of reading on.
        with self.source.reading() as another:
            assert isinstance(another, KafkaReading)
            another.stopping = self.stopping
            found = another.read_range(topic, partition, first, following)
        missing = num_records - found.num_records
        if missing:
            # Compaction, which keeps the newest of each key: what is missing was superseded.
            kept = f"{topic.place(partition)}: {missing} of {num_records} records from {first}"
            found.notices = (f"{kept} were compacted away before an unfinished batch took them",)
        return found.piece(topic, partition, self.source.values, is_end=True)

    def acknowledge(self, taken: Positions) -> None:
        """Tell the group's offsets to the brokers, where lag monitors look for them."""
        from confluent_kafka import KafkaException, TopicPartition

        if self._read is None:
            return
        places = {self._read.place(each): each for each in self._at}
        told = {each: taken[place] for place, each in places.items() if place in taken}
        offsets = [
            TopicPartition(self._read.name, each, offset)
            for each, offset in told.items()
            if self._told.get(each) != offset
        ]
        if not offsets:
            return
        self._told |= told
        try:
            self.consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            log.warning("offsets of group %s were not noted: %s", self.source.group, error)

    # ------------------------------------------------------------ where to read

    def _topic(self) -> Topic:
        return self.source.find_topic(self.admin, self.faults)

    def _mine(self, topic: Topic) -> tuple[int, ...]:
        return topic.partitions

    def _starts(
        self, topic: Topic, mine: tuple[int, ...], ends: Offsets, taken: Positions
    ) -> dict[int, Collected]:
        """Where to read each partition on; those that lost records are broken, unless accepted."""
        oldest = first_offsets(self.admin, self.faults, topic, mine)
        remade = _other_incarnations(topic, taken)
        found = {}
        for partition in mine:
            place = topic.place(partition)
            position = taken.get(place)
            if position is None:
                notices = [f"{place}: {remade}; reading it from its start"] if remade else []
                found[partition] = Collected(oldest[partition], notices)
            elif oldest[partition] <= position <= ends[partition]:
                found[partition] = Collected(position)
            else:
                lost, go_on = _lost(position, oldest[partition], ends[partition])
                if not self.source.accept_loss:
                    self.broken[place] = f"{place}: {lost}; to go on at {go_on}: {ACCEPT_LOSS}"
                    continue
                found[partition] = Collected(go_on, [f"{place}: {lost}; accepted, on at {go_on}"])
        return found

    def _move_to(self, topic: Topic, starts: Offsets) -> None:
        """Make the consumer read exactly these partitions from exactly these offsets."""
        from confluent_kafka import TopicPartition

        if starts == self._at:
            return  # it stands there already, with the next records fetched
        self._at = dict(starts)
        self.consumer.assign([TopicPartition(topic.name, *each) for each in starts.items()])

    # ------------------------------------------------------------ reading

    def _polls(self, pending: set[int]) -> Iterator[list["Message"]]:
        """Messages as they come, until nothing is pending or the run is asked to end.

        Raises:
            SourceUnavailable: The broker has records and does not give them.
        """
        from confluent_kafka import KafkaError

        heard = time.monotonic()
        while pending and not self.stopping.is_set():
            messages = self.consumer.consume(MESSAGES_PER_POLL, timeout=POLL_SECONDS)
            if messages:
                heard = time.monotonic()
                self.faults.forget()
            elif time.monotonic() - heard > PATIENCE_SECONDS:
                self.consumer.poll(0)
                raise self.faults.unavailable(KafkaError(TIMED_OUT))
            yield messages

    def _take(self, topic: Topic, message: "Message", collected: dict[int, Collected]) -> int:
        """Keep a message; returns the bytes by which the pieces grew."""
        if message.error() is not None:
            self._note(topic, message)
            return 0
        partition = message.partition()
        assert partition is not None
        return collected[partition].add(message)

    def _note(self, topic: Topic, message: "Message") -> None:
        """What came instead of a message: the end of a partition, or what is wrong with it."""
        from confluent_kafka import KafkaError

        error, partition, offset = message.error(), message.partition(), message.offset()
        assert error is not None
        if error.code() == PARTITION_EOF:
            # Transaction markers and compacted records before it never come as messages.
            assert partition is not None
            assert offset is not None
            self._at[partition] = max(self._at[partition], offset)
        elif error.code() in (AUTO_OFFSET_RESET, LOG_TRUNCATION):
            assert partition is not None
            place = topic.place(partition)
            self.broken[place] = f"{place}: {error.str()}; the next run says which records"
        elif error.code() in (
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.GROUP_AUTHORIZATION_FAILED,
            KafkaError.UNKNOWN_TOPIC_OR_PART,
        ):
            raise IngestError(f"topic {topic.name}: {error.str()}")
        else:
            self.faults(error)

    def _reached(self, collected: dict[int, Collected]) -> None:
        for partition, each in collected.items():
            self._at[partition] = each.next = max(each.next, self._at[partition])

    def _is_done(self, partition: int, topic: Topic, ends: Offsets) -> bool:
        return self._at[partition] >= ends[partition] or topic.place(partition) in self.broken

    def _flush(
        self, topic: Topic, collected: dict[int, Collected], pending: set[int]
    ) -> Iterator[Piece]:
        """Pieces of what was collected, once it is sure that they came from this incarnation."""
        self._reached(collected)
        full = {each: kept for each, kept in sorted(collected.items()) if kept.moves}
        if not full:
            return
        if self._topic().id != topic.id:
            raise SourceUnavailable(f"topic {topic.name} was made again while it was read")
        for partition, kept in full.items():
            collected[partition] = Collected(kept.next)
            yield kept.piece(topic, partition, self.source.values, is_end=partition not in pending)

    def read_range(self, topic: Topic, partition: int, first: int, following: int) -> Collected:
        """All records of one partition from ``first`` to before ``following``."""
        collected = {partition: Collected(first)}
        self._move_to(topic, {partition: first})
        pending = {partition}
        for messages in self._polls(pending):
            for message in messages:
                if message.error() is None and (message.offset() or 0) >= following:
                    self._at[partition] = following
                    break
                self._take(topic, message, collected)
            self._reached(collected)
            if collected[partition].next >= following:
                pending.clear()
        if self.stopping.is_set():
            raise SourceUnavailable("asked to end before an unfinished batch was read again")
        collected[partition].next = following
        return collected[partition]

    def _gone(self, address: list[Any], why: str) -> Piece:
        name, topic_id, partition, first, following, _ = address
        place = Topic(name, topic_id, ()).place(partition)
        lost = f"{place}: records {first} to {following - 1} of an unfinished batch are gone: {why}"
        if not self.source.accept_loss:
            raise IngestError(f"{lost}; to go on without them: {ACCEPT_LOSS}")
        empty = Collected(first, [f"{lost}; accepted"])
        empty.next = following
        return empty.piece(Topic(name, topic_id, ()), partition, self.source.values, is_end=True)


def _other_incarnations(topic: Topic, taken: Positions) -> str:
    """What a table knows of topics that had this name before; empty if nothing."""
    earlier = {
        place: position
        for place, position in sorted(taken.items())
        if place.startswith(f"{topic.name}/") and place.split("/")[1] != topic.id
    }
    if not earlier or any(place.split("/")[1] == topic.id for place in taken):
        return ""  # a new partition is no new topic
    stood = ", ".join(f"{place} at {position}" for place, position in earlier.items())
    return f"the topic was made again; the table stood at {stood}"


def _lost(position: int, oldest: int, end: int) -> tuple[str, int]:
    """What happened to a partition that does not reach the table's position, and where to go on."""
    if position < oldest:
        lost = f"records {position} to {oldest - 1} were deleted before they were read"
        return f"{lost} ({oldest - position} offsets; lengthen retention.ms)", oldest
    lost = f"the table stands at {position}, and the partition now ends at {end}"
    return f"{lost}: its log was cut short, so records below {position} may have been replaced", end
