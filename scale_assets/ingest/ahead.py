"""One step ahead: the next item is made ready while the one before it is dealt with."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def one_ahead(prepare: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """``map``, one step ahead of its caller. What fetching or preparing one raises comes in its place.

    The items are fetched and prepared by one other thread, so that neither needs to be safe for
    several. A caller that stops early closes the iterator, which waits for what is in the works.
    """
    coming = iter(items)

    def step() -> list[Result]:
        return [prepare(item) for item in _at_most_one(coming)]

    with ThreadPoolExecutor(1) as pool:
        ready = pool.submit(step)
        while found := ready.result():
            ready = pool.submit(step)
            yield found.pop()


def _at_most_one(items: Iterator[Item]) -> Iterator[Item]:
    for item in items:
        yield item
        return
