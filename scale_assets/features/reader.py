"""Thin reader of the online store: a backend and the codec, neither Feast nor pandas."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from scale_assets.features.codec import (
    adapted,
    from_micros,
    schema_of,
    times_of,
    to_micros,
)
from scale_assets.features.layouts import AnyLayout
from scale_assets.features.matrix import matrix_plan, require_numbers
from scale_assets.features.stores import Backend, Clock, OnlineStoreError, ViewInfo, open_backend
from scale_assets.features.stores.sqlite import quoted

__all__ = ["FeatureMatrix", "OnlineReader", "OnlineRow", "OnlineStoreError", "quoted"]

MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class OnlineRow:
    """One entity's values in one view, and their age; an expired row has no values to serve."""

    values: dict[str, Any]
    feature_time: datetime
    known_at: datetime
    age: timedelta
    is_expired: bool
    schema: int  # of the layout that the value was written with


@dataclass(frozen=True, slots=True)
class FeatureMatrix:
    """Numbers of N entities and C columns.

    Unknown and expired is NaN. Times and ages are microseconds; those of absent entities are -1.
    """

    values_NC: np.ndarray
    feature_time_us_N: np.ndarray
    known_at_us_N: np.ndarray
    age_us_N: np.ndarray
    is_expired_N: np.ndarray


class RowsAnswer(NamedTuple):
    """Rows by view, in the order of the keys that were asked for; now in microseconds."""

    rows: dict[str, list[OnlineRow | None]]
    now: int  # -1 while nothing told the time of a replayed world


class PackedAnswer(NamedTuple):
    """Packed values by view, in the order of the keys that were asked for; now in microseconds."""

    values: dict[str, list[bytes | None]]
    now: int


class OnlineReader:
    """Reads packed values; a server may share one among its threads.

    Raises:
        OnlineStoreError: There is no such store, or it cannot be reached.
    """

    def __init__(self, store: str | Path | Backend, *, clock: Clock = "data") -> None:
        self.backend = store if isinstance(store, Backend) else open_backend(store, clock=clock)
        self.backend.require()

    def read(self, view: str, keys: Sequence[str]) -> list[OnlineRow | None]:
        """Values of each key, in order; None where the entity is unknown."""
        return self.read_views({view: keys})[view]

    def read_views(
        self, requests: Mapping[str, Sequence[str]]
    ) -> dict[str, list[OnlineRow | None]]:
        """Values of several views, each with its own keys, by one round trip."""
        return self.read_rows(requests).rows

    def read_rows(self, requests: Mapping[str, Sequence[str]]) -> RowsAnswer:
        """The same, and the time that ages are counted to."""
        found = self.backend.get(requests)
        now = self._now(found.clock)
        views = self.backend.views()
        rows = {
            view: [None if data is None else self._row(views[view], data, now) for data in values]
            for view, values in found.values.items()
        }
        return RowsAnswer(rows, now)

    def read_packed(self, requests: Mapping[str, Sequence[str]]) -> PackedAnswer:
        """Bytes of several views by one round trip, and the time that ages are counted to."""
        found = self.backend.get(requests)
        return PackedAnswer(found.values, self._now(found.clock))

    def read_matrix(
        self,
        view: str,
        keys: Sequence[str],
        columns: Sequence[str],
        *,
        dtype: type[np.floating] = np.float64,
    ) -> FeatureMatrix:
        """Numeric columns of many entities as one array, without a Python object per value.

        Raises:
            OnlineStoreError: A column is not numeric, or not in the view.
        """
        found = self.backend.get({view: keys})
        info = self.backend.views()[view]
        wanted = tuple(columns)
        require_numbers(info.layout, wanted)
        values_NC = np.empty((len(keys), len(wanted)), dtype)
        values_NC.fill(np.nan)  # np.full takes several times as long for one row
        times_N2 = np.empty((len(keys), 2), dtype=np.int64)
        times_N2.fill(-1)
        now = self._now(found.clock)
        for layout, rows, packed in self._by_layout(found.values[view]):
            plan = matrix_plan(layout, wanted)
            plan.fill(packed, values_NC, times_N2, rows, now)
        return self._aged(values_NC, times_N2, info.ttl, now)

    def views(self) -> Mapping[str, ViewInfo]:
        return self.backend.views()

    def clock(self) -> datetime | None:
        """The newest known time that a write has seen: "now" of a replayed world."""
        clock = self.backend.get({}).clock
        return None if clock is None else from_micros(clock)

    def newest_feature_time(self, view: str) -> datetime | None:
        """The newest instant that any value of the view describes; None while it is empty."""
        found = self.backend.newest_feature_time(view)
        return None if found is None else from_micros(found)

    def close(self) -> None:
        self.backend.close()

    def _now(self, clock: int | None) -> int:
        """What ages are counted to; while nothing told the time of a replayed world, all is new."""
        if self.backend.clock == "data":
            return -1 if clock is None else clock
        return to_micros(datetime.now(UTC))

    def _row(self, view: ViewInfo, data: bytes, now: int) -> OnlineRow:
        feature_time, known_at = times_of(data)
        age = max(now - feature_time, 0) * MICROSECOND
        is_expired = view.ttl is not None and age > view.ttl
        return OnlineRow(
            values={} if is_expired else self.values(view.layout, data, now),
            feature_time=from_micros(feature_time),
            known_at=from_micros(known_at),
            age=age,
            is_expired=is_expired,
            schema=schema_of(data),
        )

    def values(self, current: AnyLayout, data: bytes, now: int) -> dict[str, Any]:
        """Read a value into the columns of a layout, whichever layout it was written with.

        Windows over a stream's events end at ``now``, microseconds.
        """
        schema = schema_of(data)
        if schema == current.schema:
            return current.values_at(data, now)
        # Written under another schema, before or after ours: our columns, where it has them.
        written = self.backend.layout(schema)
        values = written.values_at(data, now)
        kinds = dict(written.columns)
        return {
            name: adapted(values[name], kinds[name], kind) if name in kinds else None
            for name, kind in current.columns
        }

    def _by_layout(
        self, values: list[bytes | None]
    ) -> Iterator[tuple[AnyLayout, Any, list[bytes]]]:
        """Values of one layout together, with the rows that they fill."""
        packed = [data for data in values if data is not None]
        schemas = {data[1:9] for data in packed}
        if len(schemas) == 1 and len(packed) == len(values):
            yield self.backend.layout(schema_of(packed[0])), slice(None), packed
            return  # the common case: no row is addressed by its number
        for schema in schemas:
            places = [n for n, data in enumerate(values) if data and data[1:9] == schema]
            alike = [data for data in packed if data[1:9] == schema]
            yield self.backend.layout(schema_of(alike[0])), places, alike

    @staticmethod
    def _aged(
        values_NC: np.ndarray, times_N2: np.ndarray, ttl: timedelta | None, now: int
    ) -> FeatureMatrix:
        feature_time_N, known_at_N = times_N2[:, 0], times_N2[:, 1]
        age_N = np.maximum(now - feature_time_N, 0)
        age_N[known_at_N == -1] = -1
        if ttl is None:
            is_expired_N = np.zeros(len(age_N), dtype=bool)
        else:
            is_expired_N = age_N > ttl // MICROSECOND
            if is_expired_N.any():
                values_NC[is_expired_N] = np.nan
        return FeatureMatrix(values_NC, feature_time_N, known_at_N, age_N, is_expired_N)
