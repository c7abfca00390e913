"""A body is refused at the chunk that goes over the limit; nothing after it is read."""

import asyncio
from collections.abc import MutableMapping
from typing import Any

import pytest

from serving.bodies import BodyTooLarge, counting

CHUNK = b"x" * 10


class Chunks:
    """What a server hands an application: as many chunks as are asked for."""

    def __init__(self) -> None:
        self.num_read = 0

    async def receive(self) -> MutableMapping[str, Any]:
        self.num_read += 1
        return {"type": "http.request", "body": CHUNK, "more_body": True}


@pytest.mark.parametrize(("max_bytes", "num_allowed"), [(0, 0), (9, 0), (10, 1), (25, 2)])
def test_reading_stops_at_the_limit(max_bytes: int, num_allowed: int) -> None:
    chunks = Chunks()
    receive = counting(chunks.receive, max_bytes)

    async def read_all() -> None:
        while True:
            await receive()

    with pytest.raises(BodyTooLarge):
        asyncio.run(read_all())

    assert chunks.num_read == num_allowed + 1
