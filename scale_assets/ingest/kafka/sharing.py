"""Reading a topic beside other followers: the group says who reads what, the table from where."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from scale_assets.ingest.kafka.reading import KafkaReading
from scale_assets.ingest.kafka.topics import Topic

if TYPE_CHECKING:
    from confluent_kafka import Consumer, Message, TopicPartition


class SharedReading(KafkaReading):
    """Reads the partitions that the group assigned to it, from the table's positions.

    Two that read the same partition for a moment stay exact: one of their commits goes through.
    """

    def __init__(self, *connection: Any) -> None:
        super().__init__(*connection)
        self._assigned: tuple[int, ...] = ()
        self._is_rebalanced = False
        self._held: list[Message] = []  # came while the group was asked
        self.consumer.subscribe(
            [self.source.topic],
            on_assign=self._on_assign,
            on_revoke=self._on_revoke,
            on_lost=self._on_revoke,
        )

    def _mine(self, topic: Topic) -> tuple[int, ...]:
        # Also while nothing is pending: a member that never polls is put out of the group.
        self._held = self.consumer.consume(1, timeout=0)
        if self._is_rebalanced:
            self._is_rebalanced = False
            self._held, self._at = [], {}
        return tuple(each for each in self._assigned if each in topic.partitions)

    def _polls(self, pending: set[int]) -> Iterator[list["Message"]]:
        if self._held:
            held, self._held = self._held, []
            yield held
        for messages in super()._polls(pending):
            if self._is_rebalanced:
                return  # these may be from where no table stands
            yield messages

    def _move_to(self, topic: Topic, starts: dict[int, int]) -> None:
        if starts != self._at:
            self._held = []
        super()._move_to(topic, starts)

    def _on_assign(self, consumer: "Consumer", partitions: "list[TopicPartition]") -> None:
        self._assigned = tuple(sorted(each.partition for each in partitions))
        self._is_rebalanced = True
        # Nothing, until the next pass knows from where. A logical offset instead would have to be
        # looked up, which librdkafka may do late: it then leaves the explicit one for that.
        consumer.assign([])

    def _on_revoke(self, consumer: "Consumer", _partitions: "list[TopicPartition]") -> None:
        self._assigned = ()
        self._is_rebalanced = True
        consumer.unassign()
