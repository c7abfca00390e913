"""One partition's messages, collected until they make a piece."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from scale_assets.ingest.columns import HEADERS, OF_KAFKA
from scale_assets.ingest.kafka.topics import Topic
from scale_assets.ingest.source import Piece
from scale_assets.ingest.values import ValueFormat

if TYPE_CHECKING:
    from confluent_kafka import Message

NO_TIMESTAMP = 0  # a message's timestamp type


class Collected:
    """Records of one partition from ``first`` on; ``next`` is where the partition goes on."""

    def __init__(self, first: int, notices: Sequence[str] = ()) -> None:
        self.first = self.next = first
        self.notices = tuple(notices)
        self.num_bytes = 0
        self._offsets: list[int] = []
        self._values: list[bytes | None] = []
        self._keys: list[bytes | None] = []
        self._headers: list[Any] = []  # None, or pairs of name and value
        self._stamps: list[tuple[int, int]] = []

    def add(self, message: "Message") -> int:
        """Keep a message; returns its size in bytes."""
        value, key, offset = message.value(), message.key(), message.offset()
        assert offset is not None
        self._offsets.append(offset)
        self._values.append(value)
        self._keys.append(key)
        self._headers.append(message.headers())
        self._stamps.append(message.timestamp())
        self.next = offset + 1
        size = len(value or b"") + len(key or b"")
        self.num_bytes += size
        return size

    @property
    def num_records(self) -> int:
        return len(self._offsets)

    @property
    def moves(self) -> bool:
        """Whether a table that takes it stands elsewhere afterwards, or learns something."""
        return self.next > self.first or bool(self.notices)

    def piece(self, topic: Topic, partition: int, values: ValueFormat, *, is_end: bool) -> Piece:
        place = topic.place(partition)
        records, refused = values.lines(self._values)
        offsets = self._offsets
        first = offsets[0] if offsets else self.first
        gapless = not offsets or offsets[-1] - first == len(offsets) - 1
        address = [topic.name, topic.id, partition, self.first, self.next, len(offsets)]
        return Piece(
            place=place,
            records=records,
            refused=refused,
            first_position=first,
            positions_after={place: self.next},
            address=address,
            num_bytes=self.num_bytes,
            is_end=is_end,
            record_positions=None if gapless else pa.array(offsets, pa.int64()),
            attributes=self._attributes(),
            notices=self.notices,
        )

    def _attributes(self) -> pa.Table:
        stamps = [None if kind == NO_TIMESTAMP else ms for kind, ms in self._stamps]
        milliseconds = pa.array(stamps, pa.timestamp("ms", tz="UTC"))
        return pa.table(
            [
                pa.array(self._keys, pa.binary()),
                pa.array(self._headers, HEADERS),
                milliseconds.cast(OF_KAFKA.field("_timestamp").type),
            ],
            schema=OF_KAFKA,
        )
