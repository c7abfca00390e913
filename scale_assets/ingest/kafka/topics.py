"""A topic as it is now: its incarnation, its partitions and how far they reach."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.kafka.cluster import CONNECT_SECONDS, Faults

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient

Offsets = dict[int, int]  # by partition


class MissingTopic(IngestError):
    """The cluster has no such topic."""


@dataclass(frozen=True)
class Topic:
    """One incarnation of a topic: one deleted and made again has another id."""

    name: str
    id: str
    partitions: tuple[int, ...]

    def place(self, partition: int) -> str:
        """The name of a table's position in this partition."""
        return f"{self.name}/{self.id}/{partition}"


def find_topic(admin: "AdminClient", faults: Faults, name: str) -> Topic:
    """Ask the cluster.

    Raises:
        MissingTopic: It has none of this name, or does not let us see it.
        SourceUnavailable: It does not answer.
    """
    from confluent_kafka import KafkaError, KafkaException, TopicCollection

    asked = admin.describe_topics(TopicCollection([name]), request_timeout=CONNECT_SECONDS)
    try:
        found = asked[name].result()
    except KafkaException as exception:
        error = exception.args[0]
        if error.code() in (
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
        ):
            raise MissingTopic(
                f"topic {name} of Kafka at {faults.cluster.bootstrap_servers}: {error.str()}; "
                "create it, allow it to be read, or mend transport.topic"
            ) from exception
        admin.poll(0)
        raise faults.unavailable(error) from exception
    partitions = tuple(sorted(partition.id for partition in found.partitions))
    return Topic(name=name, id=str(found.topic_id), partitions=partitions)


def first_offsets(
    admin: "AdminClient", faults: Faults, topic: Topic, partitions: Iterable[int]
) -> Offsets:
    """The oldest offset that each partition still has."""
    return _offsets(admin, faults, topic, partitions, which="earliest")


def end_offsets(
    admin: "AdminClient", faults: Faults, topic: Topic, partitions: Iterable[int]
) -> Offsets:
    """The offset after the last record whose fate is decided (the last stable offset)."""
    return _offsets(admin, faults, topic, partitions, which="latest")


def _offsets(
    admin: "AdminClient", faults: Faults, topic: Topic, partitions: Iterable[int], *, which: str
) -> Offsets:
    import confluent_kafka.admin
    from confluent_kafka import IsolationLevel, KafkaException, TopicPartition

    of_module: Any = confluent_kafka.admin  # which does not list this class among its exports
    spec = getattr(of_module.OffsetSpec, which)()
    wanted = {TopicPartition(topic.name, partition): spec for partition in partitions}
    if not wanted:
        return {}
    answers = admin.list_offsets(
        wanted, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=CONNECT_SECONDS
    )
    try:
        return {each.partition: answer.result().offset for each, answer in answers.items()}
    except KafkaException as exception:
        admin.poll(0)
        raise faults.unavailable(exception.args[0]) from exception
