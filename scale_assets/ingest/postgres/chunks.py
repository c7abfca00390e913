"""Frames as they come, cut where transactions end."""

from collections.abc import Sequence

from scale_assets.ingest.postgres.frames import HEADER_BYTES, Frame
from scale_assets.ingest.postgres.messages import COMMIT


class Frames:
    """Frames that wait to be decoded."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._frames: list[Frame] = []
        self._size = 0

    @property
    def room(self) -> int:
        """Bytes that still fit."""
        return max(0, self._max_bytes - self._size)

    def __len__(self) -> int:
        return len(self._frames)

    def add(self, frames: Sequence[Frame]) -> None:
        self._frames.extend(frames)
        self._size += sum(map(len, frames))

    def take(self) -> list[Frame]:
        """Everything up to the last end of a transaction; all of one that does not fit."""
        end = len(self._frames)
        while end and self._frames[end - 1][HEADER_BYTES] != COMMIT:
            end -= 1
        if not end and not self.room:
            end = len(self._frames)
        taken, self._frames = self._frames[:end], self._frames[end:]
        self._size -= sum(map(len, taken))
        return taken
