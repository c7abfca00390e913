"""Where records go: the seam between collecting and keeping."""

from collections.abc import Sequence
from typing import Protocol

from serving.collector.records import Record


class Sink(Protocol):
    """Keeps the records of one stream."""

    async def write(self, records: Sequence[Record]) -> None:
        """Return when every record is durable, in order.

        Raises:
            SinkUnavailable: One of them may not be, so none may be acknowledged.
        """

    async def close(self) -> None:
        """Finish what was written; nothing is written afterwards."""
