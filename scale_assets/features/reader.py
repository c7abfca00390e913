"""Thin reader of the online store: SQLite and the codec, neither Feast nor pandas."""

import json
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from scale_assets.errors import ScaleError
from scale_assets.features.codec import FIXED, FeatureRow, Layout, from_micros, schema_of


class OnlineStoreError(ScaleError):
    """The online store lacks the file, view or column that was asked for."""


@dataclass(frozen=True, slots=True)
class ViewInfo:
    """What the store knows of a view: its columns, how old a value may be, what was loaded."""

    layout: Layout
    ttl: timedelta | None
    loaded_version: int | None


@dataclass(frozen=True, slots=True)
class FeatureMatrix:
    """Numbers of N entities and C columns; unknown is NaN, and feature_time_us is -1 if absent."""

    values_NC: np.ndarray
    feature_time_us_N: np.ndarray
    known_at_us_N: np.ndarray


class OnlineReader:
    """Reads packed values; one read-only connection per thread, so a server may share it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._local = threading.local()
        self._layouts: dict[int, Layout] = {}
        if not self.path.is_file():
            raise OnlineStoreError(
                f"no online store at {self.path}; materialize the online/* assets first"
            )

    def read(self, view: str, keys: Sequence[str]) -> list[FeatureRow | None]:
        """Values of each key, in order; None where the entity is unknown."""
        return self.read_views({view: keys})[view]

    def read_views(
        self, requests: Mapping[str, Sequence[str]]
    ) -> dict[str, list[FeatureRow | None]]:
        """Values of several views, each with its own keys, by one query."""
        found = self.read_packed(requests)
        return {
            view: [
                self._decode(view, found[view][key]) if key in found[view] else None for key in keys
            ]
            for view, keys in requests.items()
        }

    def read_matrix(self, view: str, keys: Sequence[str], columns: Sequence[str]) -> FeatureMatrix:
        """Numeric columns of many entities as one array, without a Python object per value.

        Raises:
            OnlineStoreError: A column is not numeric, or not in the view.
        """
        packed = self.read_packed({view: keys})[view]
        _require_numbers(self.views()[view].layout, columns)
        values_NC = np.full((len(keys), len(columns)), np.nan)
        times_N2 = np.full((len(keys), 2), -1, dtype=np.int64)
        by_schema: dict[int, list[int]] = {}
        for position, key in enumerate(keys):
            if key in packed:
                by_schema.setdefault(schema_of(packed[key]), []).append(position)
        for positions in by_schema.values():
            layout = self._layout(packed[keys[positions[0]]])
            heads = b"".join(packed[keys[position]][: layout.tail_start] for position in positions)
            records = np.frombuffer(heads, dtype=layout.dtype)
            times_N2[positions, 0] = records["feature_time"]
            times_N2[positions, 1] = records["known_at"]
            for column, numbers in enumerate(_numbers(layout, records, columns)):
                values_NC[positions, column] = numbers
        return FeatureMatrix(values_NC, times_N2[:, 0], times_N2[:, 1])

    def read_packed(self, requests: Mapping[str, Sequence[str]]) -> dict[str, dict[str, bytes]]:
        """Packed bytes by view and key, by one query."""
        self._require(*requests)
        found: dict[str, dict[str, bytes]] = {view: {} for view in requests}
        query = " union all ".join(
            f"select {position}, key, value from {table_of(view)} "
            "where key in (select value from json_each(?))"
            for position, view in enumerate(requests)
        )
        views = list(requests)
        arguments = [json.dumps(list(keys)) for keys in requests.values()]
        for position, key, value in self._connection().execute(query, arguments):
            found[views[position]][key] = value
        return found

    def views(self) -> dict[str, ViewInfo]:
        """The views in the store; read again only after another connection's commit."""
        connection = self._connection()
        (version,) = connection.execute("pragma data_version").fetchone()
        cached: tuple[int, dict[str, ViewInfo]] | None = getattr(self._local, "views", None)
        if cached is None or cached[0] != version:
            cached = (version, dict(_views(connection)))
            self._local.views = cached
        return cached[1]

    def clock(self) -> datetime | None:
        """The newest known time that a write has seen: "now" of a simulated world."""
        row = self._connection().execute("select max(clock) from scale_views").fetchone()
        return None if row[0] is None else from_micros(row[0])

    def newest_feature_time(self, view: str) -> datetime | None:
        """The newest instant that any value of the view describes; None while it is empty."""
        self._require(view)
        query = f"select max(feature_time) from {table_of(view)}"
        (found,) = self._connection().execute(query).fetchone()
        return None if found is None else from_micros(found)

    def close(self) -> None:
        """Close this thread's connection; others close with their threads."""
        connection = self._local.__dict__.pop("connection", None)
        if connection is not None:
            connection.close()

    def _require(self, *views: str) -> None:
        for view in views:
            if view not in self.views():
                raise OnlineStoreError(
                    f"view {view!r} is not in {self.path}; it has {sorted(self.views())}"
                )

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(f"{self.path.absolute().as_uri()}?mode=ro", uri=True)
            self._local.connection = connection
        return connection

    def _decode(self, view: str, data: bytes) -> FeatureRow:
        current = self.views()[view].layout
        if schema_of(data) == current.schema:
            return current.decode(data)
        # Written before a schema change: the columns of today, where it has them.
        row = self._layout(data).decode(data)
        values = {name: row.values.get(name) for name, _ in current.columns}
        return FeatureRow(values, row.feature_time, row.known_at)

    def _layout(self, data: bytes) -> Layout:
        schema = schema_of(data)
        if schema not in self._layouts:
            row = (
                self._connection()
                .execute("select layout from scale_schemas where schema = ?", (f"{schema:016x}",))
                .fetchone()
            )
            if row is None:
                raise OnlineStoreError(
                    f"{self.path}: schema {schema:016x} is not recorded; load the view again"
                )
            self._layouts[schema] = Layout.parse(row[0])
        return self._layouts[schema]


def quoted(identifier: str) -> str:
    """An SQL identifier, whatever it contains."""
    return '"' + identifier.replace('"', '""') + '"'


def table_of(view: str) -> str:
    """The view's table in the online store, quoted."""
    return quoted(f"view:{view}")


def _views(connection: sqlite3.Connection) -> Iterator[tuple[str, ViewInfo]]:
    query = (
        "select view, layout, ttl, loaded_version "
        "from scale_views join scale_schemas using (schema)"
    )
    for view, layout, ttl, version in connection.execute(query):
        max_age = None if ttl is None else timedelta(microseconds=ttl)
        yield view, ViewInfo(Layout.parse(layout), max_age, version)


def _require_numbers(layout: Layout, columns: Sequence[str]) -> None:
    kinds = dict(layout.columns)
    for name in columns:
        if name not in kinds:
            raise OnlineStoreError(f"column {name!r} is not in the view; it has {list(kinds)}")
        if kinds[name] not in FIXED:
            raise OnlineStoreError(f"column {name!r} is a {kinds[name]}, not a number; use read()")


def _numbers(layout: Layout, records: np.ndarray, columns: Sequence[str]) -> Iterator[np.ndarray]:
    positions = {name: position for position, (name, _) in enumerate(layout.columns)}
    for name in columns:
        position = positions.get(name)
        if position is None or layout.columns[position][1] not in FIXED:  # an older schema
            yield np.full(len(records), np.nan)
            continue
        is_null = records["null_bitmap"][:, position // 8] >> (position % 8) & 1
        yield np.where(is_null == 1, np.nan, records[f"c{position}"].astype(np.float64))
