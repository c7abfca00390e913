"""A list that one task fills and another empties, all of it at once."""

import asyncio
from collections.abc import Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Intake(Generic[Item]):
    """Whoever takes gets everything that came since the last time."""

    def __init__(self) -> None:
        self._items: list[Item] = []
        self._arrival = asyncio.Event()
        self._is_closed = False

    def put(self, items: Iterable[Item]) -> None:
        self._items.extend(items)
        self._arrival.set()

    def close(self) -> None:
        """Nothing more comes."""
        self._is_closed = True
        self._arrival.set()

    async def take(self) -> list[Item]:
        """What is there, after waiting for something; nothing when nothing more comes."""
        while not self._items and not self._is_closed:
            self._arrival.clear()
            await self._arrival.wait()
        taken, self._items = self._items, []
        return taken
