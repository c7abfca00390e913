"""A stream's table in a small lake, and the plain computation of what its view must say."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa

from scale_assets.features.codec import entity_key
from scale_assets.features.reader import OnlineReader
from scale_assets.features.stores import Backend, Outcome, PackedRow, Progress, Put
from scale_assets.features.streaming.aggregates import Aggregates, Last, Recency, Windowed
from scale_assets.features.streaming.declared import EventColumns, StreamingView
from scale_assets.features.streaming.keys import JoinKey
from scale_assets.lake import Lake

HOUR_US = 3_600_000_000
TIMES = pa.timestamp("us", tz="UTC")
AGGREGATES = Aggregates(
    (
        Windowed(name="clicks_1h", window=timedelta(hours=1), column="clicks"),
        Windowed(name="events_7d", window=timedelta(days=7)),
        Last(name="last_sites", column="site", limit=3),
        Recency(name="seconds_since_last"),
    )
)
VIEW = StreamingView(
    name="live",
    table="raw/clicks",
    columns=EventColumns(
        keys=(JoinKey("course", "{course_id}"), JoinKey("visitor", "{school}: {student_id}")),
        event_time="event_time",
        received_at="received_at",
    ),
    aggregates=AGGREGATES,
)


@dataclass(frozen=True)
class Click:
    """One row of the stream's table; times are microseconds."""

    course_id: str | None
    student_id: int
    at: int
    delay: int = 0
    clicks: int | None = 1
    site: int | None = 1

    @property
    def key(self) -> str:
        return entity_key({"course": self.course_id, "visitor": f"it's: {self.student_id}"})


def append(lake: Lake, clicks: Sequence[Click], *, number: int) -> None:
    rows = pa.table(
        {
            "course_id": pa.array([c.course_id for c in clicks], pa.string()),
            "school": pa.array(["it's"] * len(clicks), pa.string()),
            "student_id": pa.array([c.student_id for c in clicks], pa.int64()),
            "event_time": pa.array([c.at for c in clicks], TIMES),
            "received_at": pa.array([c.at + c.delay for c in clicks], TIMES),
            "clicks": pa.array([c.clicks for c in clicks], pa.int64()),
            "site": pa.array([c.site for c in clicks], pa.int64()),
            "event_date": pa.array([c.at for c in clicks], TIMES).cast(pa.date32()),
        }
    )
    lake.append_once(
        VIEW.table, rows, positions={"s": number}, partition_by=["event_date", "course_id"]
    )


def expected(clicks: Iterable[Click], now: int) -> dict[str, dict[str, Any]]:
    """By key, event by event."""
    found: dict[str, list[Click]] = {}
    for click in clicks:
        if click.course_id is not None:
            found.setdefault(click.key, []).append(click)
    return {key: _values(of_key, now) for key, of_key in found.items()}


def _values(clicks: list[Click], now: int) -> dict[str, Any]:
    oldest_5m = (now - HOUR_US) // (HOUR_US // 12) * (HOUR_US // 12)
    oldest_1h = (now - 7 * 24 * HOUR_US) // HOUR_US * HOUR_US
    sites = sorted((c.at, c.site) for c in clicks if c.site is not None)
    return {
        "clicks_1h": sum(c.clicks or 0 for c in clicks if c.at >= oldest_5m),
        "events_7d": sum(1 for c in clicks if c.at >= oldest_1h),
        "last_sites": [site for _, site in sites[-3:]],
        "seconds_since_last": (now - max(c.at for c in clicks)) // 1_000_000,
    }


def stored(backend: Backend, keys: Sequence[str], now: int) -> dict[str, dict[str, Any]]:
    """By key, as a server reads them; keys without a state are absent."""
    reader = OnlineReader(backend)
    layout = backend.views()[VIEW.name].layout
    found = zip(keys, backend.get({VIEW.name: keys}).values[VIEW.name], strict=True)
    return {
        key: {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in reader.values(layout, data, now).items()
        }
        for key, data in found
        if data is not None
    }


class Died(Exception):
    """The process is gone."""


class Dying:
    """A backend whose user dies in the middle of its n-th write."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.dies_in: int | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def put(self, view: str, rows: Sequence[PackedRow], how: Put) -> Outcome:
        return Outcome(sum(self._put(view, row, how) for row in rows), [])

    def _put(self, view: str, row: PackedRow, how: Put) -> int:
        self._maybe_die()
        return self.backend.put(view, [row], how).num_written

    def set_progress(self, view: str, progress: Progress) -> None:
        self._maybe_die()
        self.backend.set_progress(view, progress)

    def _maybe_die(self) -> None:
        if self.dies_in is not None:
            self.dies_in -= 1
            if self.dies_in < 0:
                raise Died
