"""What the online store asks of the place that keeps its packed values."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Literal, NamedTuple, Self

from scale_assets.errors import ScaleError
from scale_assets.features.codec import is_loaded, schema_of, times_of
from scale_assets.features.layouts import AnyLayout
from scale_assets.features.streaming.states import counted_of

# What a value's age is measured against: now, or the newest known time written, where a world is
# replayed.
Clock = Literal["wall", "data"]


class OnlineStoreError(ScaleError):
    """The online store lacks the view or column that was asked for, or cannot be reached."""


class PackedRow(NamedTuple):
    """An entity's packed value in one view; the bytes say how new it is."""

    key: str
    value: bytes


class Snapshot(NamedTuple):
    """A Delta table, by its own id, at one version."""

    table_id: str
    version: int


@dataclass(frozen=True)
class Progress:
    """How far a view follows its table: what it equals, and the load that is under way.

    A load goes to ``target`` in ``num_parts`` parts, of which ``done`` are in the store. Other rows
    may come while it waits: parts are told apart by their keys, so a part may be written again.
    """

    loaded: Snapshot | None = None
    target: Snapshot | None = None
    num_parts: int = 0
    done: frozenset[int] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class ViewInfo:
    """What the store knows of a view; ttl None never expires."""

    layout: AnyLayout
    ttl: timedelta | None


class Found(NamedTuple):
    """Packed values by view, in the order of the keys that were asked for, and the store's clock."""

    values: dict[str, list[bytes | None]]
    clock: int | None


class Put(StrEnum):
    """When an offered value replaces the stored one. Equal bytes are never written again."""

    PUSH = "push"  # unless it is older: a stream's or Feast's
    ADD = "add"  # if it is newer: rows that the lake has more than it had
    FOLLOW = "follow"  # always, except for a newer push: the lake's latest row as it is now
    COUNT = "count"  # unless it has counted a later commit: a state over a stream's events


class Outcome(NamedTuple):
    """How many values were written; keys whose loaded value differs but is not older or newer."""

    num_written: int
    undecided: list[str]


class Backend(ABC):
    """Packed values by view and entity key. Any thread may call; ``close`` ends its connections."""

    where: str  # for messages: without any secret
    clock: Clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def release_thread(self) -> None:
        """Close what only this thread used, before it ends."""

    @abstractmethod
    def require(self) -> None:
        """Raises OnlineStoreError if there is no such store, or it cannot be reached."""

    # ---------------------------------------------------------------- reading

    @abstractmethod
    def get(self, requests: Mapping[str, Sequence[str]]) -> Found:
        """Values of several views by one round trip."""

    @abstractmethod
    def views(self) -> Mapping[str, ViewInfo]:
        """The declared views; a change may take seconds to be seen."""

    @abstractmethod
    def layout(self, schema: int) -> AnyLayout:
        """The layout of a schema id. Every id that was ever declared stays known.

        Raises:
            OnlineStoreError: It was never declared.
        """

    @abstractmethod
    def keys(self, view: str) -> Iterator[list[str]]:
        """Keys of every value of a view, in batches; none where it was never declared."""

    @abstractmethod
    def newest_feature_time(self, view: str) -> int | None:
        """The newest instant that any value written to the view describes."""

    # ---------------------------------------------------------------- writing

    @abstractmethod
    def declare(self, view: str, layout: AnyLayout, *, ttl: timedelta | None) -> None:
        """Make a view known; a changed layout takes effect for values written from now on."""

    @abstractmethod
    def put(self, view: str, rows: Sequence[PackedRow], how: Put) -> Outcome:
        """Write each value that ``how`` lets replace the stored one, atomically for each key."""

    @abstractmethod
    def remove_loaded(self, view: str, keys: Sequence[str]) -> int:
        """Delete values that came from the lake, which has them no more; pushes stay."""

    @abstractmethod
    def advance(self, view: str, *, feature_time: int | None, known_at: int) -> None:
        """Tell the newest times written; ``known_at`` also moves the clock of replayed worlds."""

    @abstractmethod
    def progress(self, view: str) -> Progress: ...

    @abstractmethod
    def set_progress(self, view: str, progress: Progress) -> None: ...

    @abstractmethod
    def atomically(self) -> AbstractContextManager[None]:
        """All or nothing where the backend has transactions; elsewhere each call by itself."""

    @abstractmethod
    def sole_loader(self, view: str) -> AbstractContextManager[Callable[[], None]]:
        """Wait until nobody else loads the view; a loader that was killed does not hold it.

        Gives a check to call before writing.

        Raises:
            OnlineStoreError: From the check: somebody else took over, as we were silent too long.
        """

    @abstractmethod
    def forget(self, view: str, keys: Iterable[str]) -> int:
        """Delete values of these keys, whoever wrote them."""

    @abstractmethod
    def wipe(self) -> None:
        """Leave nothing of what was forgotten in files of the store.

        Raises:
            OnlineStoreError: Something keeps it from that.
        """

    @abstractmethod
    def drop(self, view: str) -> None:
        """Forget a view and its values."""


def replaces(offered: bytes, stored: bytes | None, how: Put) -> bool | None:
    """Whether a value is to be written; None where nothing tells which of two loaded is newer.

    The script of the Redis backend decides in the same words.
    """
    if stored is None:
        return True
    if offered[1:] == stored[1:]:  # the first byte tells who wrote it; the lake's word is kept
        return is_loaded(offered) and not is_loaded(stored)
    if how is Put.COUNT:
        return schema_of(offered) != schema_of(stored) or counted_of(offered) >= counted_of(stored)
    new, old = times_of(offered), times_of(stored)
    if how is Put.PUSH or not is_loaded(stored):
        return new >= old
    if how is Put.ADD and new == old:
        return None
    return how is Put.FOLLOW or new > old


def undeclared(view: str, views: Iterable[str], where: str) -> OnlineStoreError:
    return OnlineStoreError(
        f"view {view!r} is not in {where}; it has {sorted(views)}. Load it first: `scale load`"
    )


def unknown_schema(schema: int, where: str) -> OnlineStoreError:
    return OnlineStoreError(
        f"{where}: schema {schema:016x} is not recorded; load the view again: `scale load --rebuild`"
    )
