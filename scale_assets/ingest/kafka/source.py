"""A Kafka topic as a source. A position is a partition's next offset: ``<topic>/<id>/<partition>``.

The topic's id is its incarnation. Offsets committed to a group are for lag monitors alone.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.ingest.columns import OF_KAFKA
from scale_assets.ingest.kafka.cluster import Cluster, Faults
from scale_assets.ingest.kafka.reading import KafkaReading
from scale_assets.ingest.kafka.sharing import SharedReading
from scale_assets.ingest.kafka.topics import MissingTopic, Topic, end_offsets, find_topic
from scale_assets.ingest.source import Reading, Source
from scale_assets.ingest.values import JsonValues, ValueFormat

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

CONSUMER = {
    "enable_auto_commit": False,
    "enable_auto_offset_store": False,
    "enable_partition_eof": True,
    "auto_offset_reset": "error",  # never jump: where to read on is the table's to say
    "isolation_level": "read_committed",
    "allow_auto_create_topics": False,
    "session_timeout_ms": 15_000,  # after which a follower that died hands on what it read
}


@dataclass(frozen=True, kw_only=True)
class KafkaSource(Source):
    """One topic, read committed."""

    cluster: Cluster
    topic: str
    values: ValueFormat = field(default_factory=JsonValues)
    group_prefix: str = "scale-"
    stream: str = ""
    accept_loss: bool = False
    columns: pa.Schema = field(default=OF_KAFKA, repr=False)

    @property
    def group(self) -> str:
        """What the stream's followers share, and where lag monitors look."""
        return f"{self.group_prefix}{self.stream}"

    def for_stream(self, stream: str) -> "KafkaSource":
        return replace(self, stream=stream)

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        with self._connected(KafkaReading) as reading:
            yield reading

    @contextmanager
    def following(self) -> Iterator[Reading]:
        """The followers of a stream are a consumer group, which shares the partitions out."""
        with self._connected(SharedReading) as reading:
            yield reading

    @contextmanager
    def _connected(self, kind: type[KafkaReading]) -> Iterator[KafkaReading]:
        faults = Faults(self.cluster)
        admin = self.cluster.admin(faults)
        # Every consumer names the group; only those that subscribe join it.
        consumer = self.cluster.consumer(faults, group_id=self.group, **CONSUMER)
        try:
            yield kind(self, admin, consumer, faults)
        finally:
            consumer.close()

    def find_topic(self, admin: "AdminClient", faults: Faults) -> Topic:
        return find_topic(admin, faults, self.topic)

    def lines(self, raws: Sequence[bytes]) -> tuple[Sequence[bytes], Mapping[int, str]]:
        return self.values.lines(raws)

    def fingerprint(self) -> str | None:
        """A digest of the topic's id and of where each partition ends."""
        faults = Faults(self.cluster)
        admin = self.cluster.admin(faults)
        try:
            topic = self.find_topic(admin, faults)
        except MissingTopic:
            return None
        ends = end_offsets(admin, faults, topic, topic.partitions)
        text = json.dumps([topic.id, sorted(ends.items())])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> str:
        return f"topic {self.topic} of Kafka at {self.cluster.bootstrap_servers}"
