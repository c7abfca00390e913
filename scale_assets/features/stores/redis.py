"""Packed values in Redis or a Redis Cluster: one string per entity and view.

A value's key is ``namespace:{entity key}:view``: the braces put all views of an entity into one slot
of a cluster. What describes the views lies under ``namespace.meta{namespace}:...``, in one slot too.
"""

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import timedelta
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from redis.crc import key_slot
from redis.exceptions import NoScriptError

from scale_assets.features.layouts import AnyLayout, parse_layout
from scale_assets.features.stores.base import (
    Backend,
    Clock,
    Found,
    OnlineStoreError,
    Outcome,
    PackedRow,
    Progress,
    Put,
    ViewInfo,
    undeclared,
    unknown_schema,
)
from scale_assets.features.stores.lease import lease
from scale_assets.features.stores.progress import progress_from_json, progress_json
from scale_assets.features.stores.redis_client import parse_address
from scale_assets.features.stores.redis_errors import REDIS_ERRORS

VIEWS_FOR_S = 5.0  # how long a change of a view may go unnoticed
SCRIPT_ROWS = 500  # a script keeps the server busy for about a microsecond per row
PIPELINE_ROWS = 10_000
SCAN_COUNT = 1_000
KEPT_TTLS = 2  # a value reads as expired for as long again as it was fresh, then its key goes
_SCRIPTS = {
    name: Path(__file__).with_name(f"{name}.lua").read_text()
    for name in ("put", "remove_loaded", "advance")
}


class RedisBackend(Backend):
    """A pool of connections; every method is one or a few round trips."""

    def __init__(self, url: str, *, clock: Clock = "data") -> None:
        self.address = parse_address(url)
        self.where = self.address.where
        self.clock = clock
        self._prefix = f"{self.address.namespace}:{{"
        self._meta = f"{self.address.namespace}.meta{{{self.address.namespace}}}:"
        self._clock_key = f"{self._meta}clock"
        self._layouts: dict[int, AnyLayout] = {}
        self._views: tuple[float, dict[str, ViewInfo]] = (float("-inf"), {})

    @cached_property
    def client(self) -> Any:
        return self.address.connect()

    def close(self) -> None:
        if "client" in self.__dict__:
            self.client.close()

    def release_thread(self) -> None:
        """Nothing: connections are shared."""

    def require(self) -> None:
        with self._errors():
            self.client.ping()

    # ---------------------------------------------------------------- reading

    def get(self, requests: Mapping[str, Sequence[str]]) -> Found:
        self._require_declared(requests)
        names = [f"{self._prefix}{key}}}:{view}" for view, keys in requests.items() for key in keys]
        wants_clock = self.clock == "data" or not requests
        if wants_clock:
            names.append(self._clock_key)
        try:
            found = self._get_by_slot(names) if self.address.is_cluster else self.client.mget(names)
        except REDIS_ERRORS as error:  # not by _errors(), which costs a read a microsecond
            raise self.address.failed(error) from error
        clock = found.pop() if wants_clock else None
        values = iter(found)
        return Found(
            {view: list(islice(values, len(keys))) for view, keys in requests.items()},
            None if clock is None else int(clock),
        )

    def _get_by_slot(self, names: list[str]) -> list[bytes | None]:
        """One MGET per slot, those of a node in one round trip."""
        slots = _by_slot(names)
        with self.client.pipeline() as pipe:
            for places in slots.values():
                pipe.execute_command("MGET", *(names[place] for place in places))
            replies = pipe.execute()
        found: list[bytes | None] = [None] * len(names)
        for places, values in zip(slots.values(), replies, strict=True):
            for place, value in zip(places, values, strict=True):
                found[place] = value
        return found

    def views(self) -> Mapping[str, ViewInfo]:
        read_at, views = self._views
        if time.monotonic() - read_at > VIEWS_FOR_S:
            views = self._read_views()
        return views

    def _read_views(self) -> dict[str, ViewInfo]:
        with self._errors(), self.client.pipeline(transaction=False) as pipe:
            pipe.hgetall(f"{self._meta}views")
            pipe.hgetall(f"{self._meta}schemas")
            declared, schemas = pipe.execute()
        for schema, text in schemas.items():
            self._layouts.setdefault(int(schema, 16), parse_layout(text.decode()))
        views = {}
        for view, text in declared.items():
            found = json.loads(text)
            ttl = None if found["ttl"] is None else timedelta(microseconds=found["ttl"])
            views[view.decode()] = ViewInfo(self.layout(int(found["schema"], 16)), ttl)
        self._views = (time.monotonic(), views)
        return views

    def layout(self, schema: int) -> AnyLayout:
        if schema not in self._layouts:
            with self._errors():
                text = self.client.hget(f"{self._meta}schemas", f"{schema:016x}")
            if text is None:
                raise unknown_schema(schema, self.where)
            self._layouts[schema] = parse_layout(text.decode())
        return self._layouts[schema]

    def keys(self, view: str) -> Iterator[list[str]]:
        """By walking over all keys of the server, since Redis has no other list of them."""
        end = f"}}:{view}"
        pattern = f"{_glob(self._prefix)}*{_glob(end)}"
        with self._errors():
            names = self.client.scan_iter(match=pattern, count=SCAN_COUNT)
            while batch := list(islice(names, SCAN_COUNT)):
                yield [
                    text.removeprefix(self._prefix).removesuffix(end)
                    for text in (name.decode() for name in batch)
                ]

    def newest_feature_time(self, view: str) -> int | None:
        self._require_declared([view])
        with self._errors():
            found = self.client.hget(f"{self._meta}newest", view)
        return None if found is None else int(found)

    # ---------------------------------------------------------------- writing

    def declare(self, view: str, layout: AnyLayout, *, ttl: timedelta | None) -> None:
        if "}" in view:
            raise OnlineStoreError(f"view {view!r}: a name with '}}' cannot be kept in Redis")
        schema = f"{layout.schema:016x}"
        ttl_us = None if ttl is None else ttl // timedelta(microseconds=1)
        with self._errors(), self.client.pipeline(transaction=True) as pipe:
            pipe.hset(f"{self._meta}schemas", schema, layout.text)
            pipe.hset(f"{self._meta}views", view, json.dumps({"schema": schema, "ttl": ttl_us}))
            pipe.execute()
        self._views = (float("-inf"), {})

    def put(self, view: str, rows: Sequence[PackedRow], how: Put) -> Outcome:
        num_written = 0
        undecided: list[str] = []
        arguments = (how.value, self._kept_us(view))
        for start in range(0, len(rows), PIPELINE_ROWS):
            chunk = rows[start : start + PIPELINE_ROWS]
            names = [f"{self._prefix}{row.key}}}:{view}" for row in chunk]
            calls = list(self._calls(names))
            replies = self._scripts(
                "put",
                [
                    (
                        [names[place] for place in places],
                        [*arguments, *(chunk[place].value for place in places)],
                    )
                    for places in calls
                ],
            )
            for places, (written, *others) in zip(calls, replies, strict=True):
                num_written += written
                undecided += [chunk[places[other - 1]].key for other in others]
        return Outcome(num_written, undecided)

    def remove_loaded(self, view: str, keys: Sequence[str]) -> int:
        names = [f"{self._prefix}{key}}}:{view}" for key in keys]
        calls: list[tuple[list[str], list[Any]]] = [
            ([names[place] for place in places], []) for places in self._calls(names)
        ]
        return sum(self._scripts("remove_loaded", calls))

    def advance(self, view: str, *, feature_time: int | None, known_at: int) -> None:
        keys = [f"{self._meta}newest", self._clock_key]
        self._scripts(
            "advance", [(keys, [view, "" if feature_time is None else feature_time, known_at])]
        )

    def progress(self, view: str) -> Progress:
        with self._errors():
            return progress_from_json(self.client.hget(f"{self._meta}progress", view))

    def set_progress(self, view: str, progress: Progress) -> None:
        with self._errors():
            self.client.hset(f"{self._meta}progress", view, progress_json(progress))

    def atomically(self) -> AbstractContextManager[None]:
        """Nothing: keys of several slots cannot change at once, so loads may be repeated instead."""
        return nullcontext()

    @contextmanager
    def sole_loader(self, view: str) -> Iterator[Callable[[], None]]:
        key, what = f"{self._meta}loading:{view}", f"{self.where}: the load of {view}"
        with self._errors(), lease(self.client, key, what=what) as check:
            yield check

    def forget(self, view: str, keys: Iterable[str]) -> int:
        with self._errors(), self.client.pipeline(transaction=False) as pipe:
            for key in keys:
                pipe.unlink(f"{self._prefix}{key}}}:{view}")
            return sum(pipe.execute())

    def wipe(self) -> None:
        """Nothing here: what the server keeps on disk is its own, see docs/guides/erasure.md."""

    def drop(self, view: str) -> None:
        for keys in self.keys(view):
            self.forget(view, keys)
        with self._errors(), self.client.pipeline(transaction=True) as pipe:
            for name in ("views", "newest", "progress"):
                pipe.hdel(f"{self._meta}{name}", view)
            pipe.execute()
        self._views = (float("-inf"), {})

    # ---------------------------------------------------------------- how

    def _kept_us(self, view: str) -> int | str:
        """How long after its feature_time a value may stay; "" where ages are not the wall's."""
        ttl = self.views()[view].ttl if self.clock == "wall" else None
        return "" if ttl is None else KEPT_TTLS * ttl // timedelta(microseconds=1)

    def _calls(self, names: list[str]) -> Iterator[list[int]]:
        """Places of the names that one call of a script may take together."""
        groups: Iterable[Sequence[int]] = (
            _by_slot(names).values() if self.address.is_cluster else [range(len(names))]
        )
        for places in groups:
            for start in range(0, len(places), SCRIPT_ROWS):
                yield list(places[start : start + SCRIPT_ROWS])

    def _scripts(self, name: str, calls: list[tuple[list[str], list[Any]]]) -> list[Any]:
        """Call a script many times in one round trip (one per node of a cluster)."""
        with self._errors():
            try:
                return self._run(self._digests[name], calls)
            except NoScriptError:  # the server started anew; every call may be repeated
                del self._digests
                return self._run(self._digests[name], calls)

    def _run(self, digest: str, calls: list[tuple[list[str], list[Any]]]) -> list[Any]:
        with self.client.pipeline(transaction=False) as pipe:
            for keys, arguments in calls:
                pipe.execute_command("EVALSHA", digest, len(keys), *keys, *arguments)
            return list(pipe.execute())

    @cached_property
    def _digests(self) -> dict[str, str]:
        return {name: self.client.script_load(text) for name, text in _SCRIPTS.items()}

    def _require_declared(self, views: Iterable[str]) -> None:
        known = self.views()
        if any(view not in known for view in views):
            known = self._read_views()
        for view in views:
            if view not in known:
                raise undeclared(view, known, self.where)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except REDIS_ERRORS as error:
            raise self.address.failed(error) from error


def _by_slot(names: list[str]) -> dict[int, list[int]]:
    slots: dict[int, list[int]] = {}
    for place, name in enumerate(names):
        slots.setdefault(key_slot(name.encode()), []).append(place)
    return slots


def _glob(text: str) -> str:
    """Text that a pattern of Redis takes literally."""
    return "".join(f"\\{char}" if char in "*?[]\\^-" else char for char in text)
