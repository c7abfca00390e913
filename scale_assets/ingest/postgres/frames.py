"""A run of replication frames as one buffer, with the place of each message in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from scale_assets.ingest.postgres.errors import ProtocolError
from scale_assets.ingest.postgres.messages import KNOWN
from scale_assets.ingest.postgres.tuples import PADDING, Ints, Wire

HEADER_BYTES = 25  # of XLogData: its letter, two log positions, when the server sent it
SENT_AT = 17

Frame: TypeAlias = bytes | memoryview  # one XLogData message of the replication stream

_IS_KNOWN = np.zeros(256, dtype=bool)
_IS_KNOWN[list(KNOWN)] = True


@dataclass(frozen=True)
class Chunk:
    """Consecutive messages: message i has the letter ``tags[i]``, from ``starts`` to ``ends``."""

    wire: Wire
    starts: Ints
    ends: Ints
    tags: Ints

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> "Chunk":
        sizes = np.fromiter(map(len, frames), np.int64, len(frames))
        if (sizes <= HEADER_BYTES).any():
            raise ProtocolError(f"a frame of {sizes.min()} bytes holds no message")
        ends = np.cumsum(sizes)
        starts = ends - sizes + HEADER_BYTES
        wire = Wire(b"".join([*frames, PADDING]))
        tags = wire.bytes_at(starts)
        unknown = tags[~_IS_KNOWN[tags]]
        if len(unknown):
            raise ProtocolError(f"message {chr(unknown[0])!r}; pgoutput version 1 was asked for")
        return cls(wire, starts, ends, tags)

    def __len__(self) -> int:
        return len(self.tags)

    def all(self, *tags: int) -> Ints:
        """The numbers of the messages with one of these letters."""
        found = self.tags == tags[0]
        for tag in tags[1:]:
            found |= self.tags == tag
        return np.flatnonzero(found)

    def message(self, number: int) -> bytes:
        return self.wire.slice(int(self.starts[number]), int(self.ends[number]))

    def sent_at(self, messages: Ints) -> Ints:
        """When the server sent them, in its own count of microseconds."""
        return self.wire.read(8, self.starts[messages] - HEADER_BYTES + SENT_AT)

    def require_sizes(self, messages: Ints, size: int) -> None:
        """Raises ProtocolError unless each of these messages has exactly this many bytes."""
        given = self.ends[messages] - self.starts[messages]
        if (given != size).any():
            tag = chr(self.tags[messages[0]])
            raise ProtocolError(f"message {tag!r} of {given[given != size][0]} bytes, not {size}")
