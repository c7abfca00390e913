"""The seam between transports and feeds: records in pieces, each with where it takes a table.

A transport is a ``Source``. Nothing that it remembers is trusted: a ``Reading`` is told which
positions the table holds, as the Delta transactions of the rows' own commits, and goes on there.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

Records: TypeAlias = bytes | list[bytes] | pa.Table
Positions: TypeAlias = Mapping[str, int]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Consecutive records of one place in a source, read whole before any is committed."""

    place: str  # stored beside each row: a file's name, a topic's partition, a shard
    records: Records  # whole JSON lines, one buffer per record, or a table that is typed already
    first_position: int  # of the first record, when the positions are consecutive
    positions_after: Positions  # where a table stands that has this piece, 64-bit each
    address: list[Any]  # JSON by which ``Reading.reread`` finds exactly these records again
    num_bytes: int
    is_end: bool = True  # nothing of this place is left after it
    record_positions: pa.Array | None = None  # int64 per record, when they are not consecutive
    attributes: pa.Table | None = None  # what came with each record: the source's ``columns``

    def located(self, rows: pa.Table) -> pa.Table:
        """Validated rows with their records' positions and attributes.

        ``_position`` comes in as validation counts it, from ``first_position`` on.
        """
        if self.record_positions is None and self.attributes is None:
            return rows
        at = pc.subtract(rows["_position"], self.first_position)
        if self.attributes is not None:
            for column in self.attributes.schema:
                rows = rows.append_column(column, self.attributes[column.name].take(at))
        if self.record_positions is not None:
            index = rows.schema.get_field_index("_position")
            positions = self.record_positions.take(at)
            rows = rows.set_column(index, rows.schema.field(index), positions)
        return rows


class Reading(ABC):
    """One run's connection to a source."""

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}  # place to what is wrong with it; nothing of it was taken

    @abstractmethod
    def pieces(self, taken: Positions, *, max_bytes: int) -> Iterator[Piece]:
        """What a table at ``taken`` lacks of what the source has now, in order, in pieces."""

    @abstractmethod
    def reread(self, address: list[Any]) -> Piece:
        """The piece of this address, which an unfinished batch needs.

        Raises:
            IngestError: The source no longer has these records.
        """

    @abstractmethod
    def acknowledge(self, taken: Positions) -> None:
        """Tell the source what is durable; called after a commit, and on the way in.

        A hint for the source's own bookkeeping, which no reading ever relies on.
        """


class Source(ABC):
    """Where a feed's records come from."""

    columns: pa.Schema = pa.schema([])  # what it knows of a record besides its value

    @abstractmethod
    def reading(self) -> AbstractContextManager[Reading]:
        """Connect.

        Raises:
            IngestError: The source is not there.
        """

    @abstractmethod
    def fingerprint(self) -> str | None:
        """Changes whenever the source has something new; None while there is no source yet."""

    @abstractmethod
    def describe(self) -> str:
        """Name it as messages do."""
