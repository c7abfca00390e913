"""One shard's records, collected until they make a piece."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from scale_assets.ingest.columns import OF_KINESIS
from scale_assets.ingest.kinesis.standing import Standing
from scale_assets.ingest.source import Piece
from scale_assets.ingest.values import ValueFormat

AGGREGATED = b"\xf3\x89\x9a\xc2"  # how records begin that the Kinesis Producer Library packed
NOT_UNPACKED = "packed by the Kinesis Producer Library; set AggregationEnabled=false in producers"


class Collected:
    """Records of one shard that a table at ``at`` lacks."""

    def __init__(self, at: Standing, notices: Sequence[str] = ()) -> None:
        self.at = at
        self.notices = tuple(notices)
        self.sequence = at.sequence
        self.num_bytes = 0
        self._data: list[bytes | None] = []
        self._keys: list[str] = []
        self._sequences: list[str] = []
        self._arrivals: list[datetime] = []

    def add(self, record: dict[str, Any]) -> None:
        self._data.append(record["Data"])
        self._keys.append(record["PartitionKey"])
        self._sequences.append(record["SequenceNumber"])
        self._arrivals.append(record["ApproximateArrivalTimestamp"])
        self.sequence = int(record["SequenceNumber"])
        self.num_bytes += len(record["Data"]) + len(record["PartitionKey"])

    @property
    def num_new(self) -> int:
        return len(self._data)

    def standing(self, *, seen_ms: int, is_ended: bool) -> Standing:
        return Standing(
            sequence=self.sequence,
            num_records=self.at.num_records + self.num_new,
            seen_ms=seen_ms,
            is_ended=is_ended,
        )

    def piece(self, place: str, values: ValueFormat, *, after: Standing) -> Piece:
        """A table that takes it stands at ``after``."""
        records, refused = values.lines(self._data)
        packed = {
            index: NOT_UNPACKED
            for index, data in enumerate(self._data)
            if data and data.startswith(AGGREGATED)
        }
        first = self._sequences[0] if self._sequences else None
        return Piece(
            place=place,
            records=records,
            refused={**refused, **packed},
            first_position=self.at.num_records,
            positions_after=after.positions(place),
            address=[place, self.at.as_json(), first, after.as_json()],
            num_bytes=self.num_bytes,
            attributes=pa.table(
                [self._keys, self._sequences, pa.array(self._arrivals, OF_KINESIS.field(2).type)],
                schema=OF_KINESIS,
            ),
            notices=self.notices,
        )
