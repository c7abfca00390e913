"""The seam between transports and feeds: records in pieces, each with where it takes a table.

A transport is a ``Source``. Nothing that it remembers is trusted: a ``Reading`` is told which
positions the table holds, as the Delta transactions of the rows' own commits, and goes on there.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from threading import Event
from typing import Any, Self, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.ingest.columns import OF_FILES

Records: TypeAlias = bytes | memoryview | list[bytes] | pa.Table
Positions: TypeAlias = Mapping[str, int]
UNREADABLE = "unreadable"  # the rule that a record broke which its transport cannot read


@dataclass(frozen=True, kw_only=True)
class Piece:
    """Consecutive records of one place in a source, read whole before any is committed."""

    place: str  # stored beside each row: a file's name, a topic's partition, a shard
    records: Records  # whole JSON lines, one buffer per record, or a table that is typed already
    first_position: int  # of the first record, when the positions are consecutive
    positions_after: Positions  # where a table stands that has this piece, 64-bit each
    address: Sequence[Any]  # JSON by which ``Reading.reread`` finds exactly these records again
    num_bytes: int
    is_end: bool = True  # nothing of this place is left after it
    record_positions: pa.Array | None = None  # int64 per record, when they are not consecutive
    attributes: pa.Table | None = None  # what came with each record: the source's ``columns``
    # Records, by index, that the transport itself cannot read, and why; ``records`` has their bytes.
    refused: Mapping[int, str] = field(default_factory=dict)
    notices: tuple[str, ...] = ()  # what the commit that takes it has to record: gaps, new topics
    is_replayed: bool = False  # from the quarantine, with what its lines carried there

    def explained(self, quarantined: pa.Table) -> pa.Table:
        """Quarantined rows, not yet located, with the transport's own reason where it has one."""
        if not self.refused:
            return quarantined
        at = [position - self.first_position for position in quarantined["_position"].to_pylist()]
        for name, given in (("rule", lambda _: UNREADABLE), ("reason", self.refused.__getitem__)):
            told = quarantined[name].to_pylist()
            told = [
                given(index) if index in self.refused else said
                for index, said in zip(at, told, strict=True)
            ]
            column = quarantined.schema.get_field_index(name)
            quarantined = quarantined.set_column(
                column, quarantined.schema.field(column), pa.array(told, pa.string())
            )
        return quarantined

    def located(self, rows: pa.Table) -> pa.Table:
        """Validated rows with their records' positions and attributes.

        ``_position`` comes in as validation counts it, from ``first_position`` on. Of a column that
        the rows have already, an attribute's values come first.
        """
        if self.record_positions is None and self.attributes is None:
            return rows
        at = pc.subtract(rows["_position"], self.first_position)
        if self.attributes is not None:
            for column in self.attributes.schema:
                values = self.attributes[column.name].take(at)
                if column.name not in rows.column_names:
                    rows = rows.append_column(column, values)
                    continue
                index = rows.schema.get_field_index(column.name)
                rows = rows.set_column(index, column, pc.coalesce(values, rows[column.name]))
        if self.record_positions is not None:
            index = rows.schema.get_field_index("_position")
            positions = self.record_positions.take(at)
            rows = rows.set_column(index, rows.schema.field(index), positions)
        return rows


class Reading(ABC):
    """One run's connection to a source."""

    is_complete = False  # whether all that it will give is there: pieces never wait for more

    def __init__(self) -> None:
        self.broken: dict[str, str] = {}  # place to what is wrong with it; nothing of it was taken
        self.stopping = Event()  # set when the run is asked to end: wait for no more records

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

    columns: pa.Schema = OF_FILES  # what it knows of a record besides its value

    def for_stream(self, stream: str) -> Self:
        """The source as this stream reads it, where it keeps books under the stream's name."""
        del stream
        return self

    @abstractmethod
    def reading(self) -> AbstractContextManager[Reading]:
        """Connect.

        Raises:
            IngestError: The source is not there.
        """

    def following(self) -> AbstractContextManager[Reading]:
        """Connect for long, beside other followers with whom the places may be shared out.

        Who reads what is never a matter of exactness: the positions are.
        """
        return self.reading()

    def lines(self, raws: Sequence[bytes]) -> tuple[Sequence[bytes], Mapping[int, str]]:
        """What could not be read when it came, tried again: the lines, and why some still cannot.

        Raises:
            SourceUnavailable: What is needed to read them does not answer.
        """
        return raws, {}

    @abstractmethod
    def fingerprint(self) -> str | None:
        """Changes whenever the source has something new; None while there is no source yet."""

    @abstractmethod
    def describe(self) -> str:
        """Name it as messages do."""
