"""A sample of the vectors that answers were made from, logged so that skew can be found.

A request only puts what it has at hand into a bounded queue; a thread makes lines of it. The values
are those of the arrays that the graph was fed, not the store's, so that a fault anywhere on the way
into the graph shows.
"""

import hashlib
import logging
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
import numpy as np

from scale_assets.features.codec import to_micros
from serving.features import Lookup
from serving.release import Manifest
from serving.vector_files import VectorFiles

MAX_WAITING = 1024
MAX_BATCH = 256
PAUSE_S = 0.05  # waking the thread for each vector would cost a request more than the line does
CLOSE_S = 5.0

Inputs = Mapping[str, np.ndarray | None]  # by name; a batch of one, None where there was no value

log = logging.getLogger(__name__)
encode = msgspec.json.Encoder().encode


class ViewRead(msgspec.Struct, frozen=True):
    """What the online store gave of one view; times in microseconds since 1970."""

    key: str
    state: str  # found, expired or absent
    as_of_us: int  # by the store's clock
    feature_time_us: int | None = None
    known_at_us: int | None = None
    schema: str | None = None  # of the layout that the value was written with


class ServedVector(msgspec.Struct, frozen=True):
    """One line of the log."""

    served_at_us: int  # by the wall clock
    model: str
    version: str
    feature_service: str
    views: dict[str, ViewRead]
    values: dict[str, dict[str, Any]]  # by type as the graph takes it, then by input


class Offered(NamedTuple):
    """What a request hands over; nothing of it is changed afterwards."""

    served_at_us: int
    manifest: Manifest
    lookups: Sequence[Lookup]
    inputs: Inputs


def is_sampled(key: str, rate: float) -> bool:
    """Whether this entity's vectors are logged: the same in every process, at any time."""
    digest = hashlib.blake2b(key.encode(errors="replace"), digest_size=8).digest()
    return int.from_bytes(digest, "big") < rate * 2**64


class VectorLog:
    """Takes vectors from any thread without ever making one wait, and writes them in its own."""

    def __init__(
        self,
        files: VectorFiles,
        *,
        rate: float,
        count: Callable[[str], None],
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """``count`` is told "logged", "dropped" (the queue was full) or "failed" of each vector."""
        self._files = files
        self._rate = rate
        self._count = count
        self._waiting: queue.Queue[Offered] = queue.Queue(max_waiting)
        self._is_closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="vectors", daemon=True)
        self._thread.start()

    def offer(
        self, key: str, manifest: Manifest, lookups: Sequence[Lookup], inputs: Inputs
    ) -> None:
        """Log what an answer for ``key`` was made from, if it is in the sample."""
        if not is_sampled(key, self._rate) or any(found.now_us < 0 for found in lookups):
            return  # before a replayed world has a time there is nothing to compare with
        try:
            self._waiting.put_nowait(Offered(time.time_ns() // 1000, manifest, lookups, inputs))
        except queue.Full:
            self._count("dropped")

    def close(self) -> None:
        """Write what waits, as far as a few seconds allow."""
        self._is_closing.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._is_closing.wait(PAUSE_S)
            while batch := list(self._batch()):
                self._write(batch)
        self._files.close()

    def _batch(self) -> Iterator[Offered]:
        try:
            for _ in range(MAX_BATCH):
                yield self._waiting.get_nowait()
        except queue.Empty:
            return

    def _write(self, batch: Sequence[Offered]) -> None:
        """A log that cannot be written costs its lines, never an answer."""
        outcome = "logged"
        try:
            self._files.append(b"".join(encode(vector_of(each)) + b"\n" for each in batch))
        except Exception:
            log.exception("%d served vectors could not be logged", len(batch))
            outcome = "failed"
        for _ in batch:
            self._count(outcome)


def vector_of(offered: Offered) -> ServedVector:
    """The line that a request's vector becomes."""
    manifest = offered.manifest
    return ServedVector(
        served_at_us=offered.served_at_us,
        model=manifest.model,
        version=manifest.version,
        feature_service=manifest.feature_service,
        views={view: _read(found, view) for found in offered.lookups for view in found.read},
        values=_by_type(manifest, offered.inputs),
    )


def _read(found: Lookup, view: str) -> ViewRead:
    row, as_of_us = found.read[view], found.as_of_us(view)
    if row is None:
        return ViewRead(found.key, "absent", as_of_us)
    return ViewRead(
        found.key,
        "found" if view in found.rows else "expired",
        as_of_us,
        to_micros(row.feature_time),
        to_micros(row.known_at),
        f"{row.schema:016x}",
    )


def _by_type(manifest: Manifest, inputs: Inputs) -> dict[str, dict[str, Any]]:
    """Each input under the name that the model was trained with; tabular ones are columns.

    Grouped by numpy's name of the type; a text is a "string", no value is of type "none".
    """
    values: dict[str, dict[str, Any]] = defaultdict(dict)
    for group, sources in (("numeric", manifest.numeric), ("categorical", manifest.categorical)):
        row = inputs.get(group)
        if row is not None:
            names = (source.name for source in sources)
            values[_kind(row)].update(zip(names, row[0].tolist(), strict=True))
    for source in manifest.inputs:
        if source.name in inputs:
            value = inputs[source.name]
            values[_kind(value)][source.name] = None if value is None else value.tolist()[0]
    return values


def _kind(value: np.ndarray | None) -> str:
    if value is None:
        return "none"
    return "string" if value.dtype.kind in "OU" else value.dtype.name
