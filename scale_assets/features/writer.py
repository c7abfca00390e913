"""Writes the online store: one SQLite file, one table per view, newer values win."""

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple, Self

from scale_assets.features.codec import Layout
from scale_assets.features.reader import table_of

BUSY_TIMEOUT_S = 60.0
_CREATE = (
    "create table if not exists scale_schemas (schema text primary key, layout text not null)",
    # ttl and clock are microseconds; clock is the newest known time that a write had seen
    (
        "create table if not exists scale_views (view text primary key, schema text not null,"
        " ttl integer, loaded_table text, loaded_version integer, clock integer)"
    ),
)
# Unqualified names are the stored row's.
_NOT_OLDER = "(excluded.feature_time, excluded.known_at) >= (feature_time, known_at)"


class PackedRow(NamedTuple):
    """One packed value; digest identifies a row loaded from the lake and is None for a push."""

    key: str
    feature_time: int
    known_at: int
    digest: int | None
    value: bytes


class Snapshot(NamedTuple):
    """A Delta table, by its own id, at one version."""

    table_id: str
    version: int


class OnlineWriter:
    """One connection that writes; SQLite lets one transaction write at a time, others wait."""

    def __init__(self, path: str | Path) -> None:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        self._connection.execute("pragma journal_mode = wal")
        self._connection.execute("pragma synchronous = normal")
        with self.transaction():
            for statement in _CREATE:
                self._connection.execute(statement)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing, also when the process dies inside."""
        self._connection.execute("begin immediate")
        try:
            yield
        except BaseException:
            self._connection.execute("rollback")
            raise
        self._connection.execute("commit")

    def declare(self, view: str, layout: Layout, *, ttl: timedelta | None) -> None:
        """Create the view's table; a changed layout takes effect for values written from now on."""
        schema = f"{layout.schema:016x}"
        ttl_us = None if ttl is None else ttl // timedelta(microseconds=1)
        self._connection.execute(
            f"create table if not exists {table_of(view)} (key text primary key,"
            " feature_time integer not null, known_at integer not null, digest integer,"
            " value blob not null)"
        )
        self._connection.execute(
            "insert or ignore into scale_schemas values (?, ?)", (schema, layout.text)
        )
        self._connection.execute(
            "insert into scale_views (view, schema, ttl) values (?, ?, ?)"
            " on conflict (view) do update set schema = excluded.schema, ttl = excluded.ttl",
            (view, schema, ttl_us),
        )

    def push(self, view: str, rows: Iterable[PackedRow]) -> None:
        """Write values as they come; one that is older than the stored value is ignored."""
        written = list(rows)
        self._upsert(view, written, _NOT_OLDER)
        self._advance_clock(view, max((row.known_at for row in written), default=0))

    def load(self, view: str, rows: Iterable[PackedRow], *, removed: Iterable[str]) -> None:
        """Follow the lake: its rows replace its earlier rows, and pushes unless those are newer."""
        self._upsert(view, rows, f"digest is not null or {_NOT_OLDER}")
        self._connection.executemany(
            f"delete from {table_of(view)} where key = ?", ((key,) for key in removed)
        )

    def mark_loaded(self, view: str, snapshot: Snapshot, *, clock: int) -> None:
        """Record what the view now equals; call in the transaction that loaded it."""
        self._connection.execute(
            "update scale_views set loaded_table = ?, loaded_version = ? where view = ?",
            (*snapshot, view),
        )
        self._advance_clock(view, clock)

    def loaded(self, view: str, layout: Layout) -> Snapshot | None:
        """The snapshot that the view equals, if it was loaded with this layout."""
        row = self._connection.execute(
            "select loaded_table, loaded_version from scale_views where view = ? and schema = ?",
            (view, f"{layout.schema:016x}"),
        ).fetchone()
        return Snapshot(*row) if row and row[1] is not None else None

    def loaded_digests(self, view: str) -> list[tuple[str, int]]:
        """Key and digest of every row that came from the lake."""
        return self._connection.execute(
            f"select key, digest from {table_of(view)} where digest is not null"
        ).fetchall()

    def keys(self, view: str) -> list[str]:
        """Keys of every value, loaded or pushed; none where the view was never declared."""
        if not self._connection.execute(
            "select 1 from sqlite_master where name = ?", (f"view:{view}",)
        ).fetchall():
            return []
        rows = self._connection.execute(f"select key from {table_of(view)}").fetchall()
        return [key for (key,) in rows]

    def forget(self, view: str, keys: Iterable[str]) -> None:
        """Delete values of these keys; ``wipe`` then takes their bytes out of the file."""
        self._connection.execute("pragma secure_delete = on")
        self._connection.executemany(
            f"delete from {table_of(view)} where key = ?", ((key,) for key in keys)
        )

    def wipe(self) -> bool:
        """Leave nothing of what was deleted in the file or its log; False while readers hold it."""
        self._connection.execute("vacuum")
        (is_busy, *_) = self._connection.execute("pragma wal_checkpoint(truncate)").fetchone()
        return not is_busy

    def drop(self, view: str) -> None:
        """Forget a view and its values."""
        self._connection.execute(f"drop table if exists {table_of(view)}")
        self._connection.execute("delete from scale_views where view = ?", (view,))

    def _advance_clock(self, view: str, clock: int) -> None:
        self._connection.execute(
            "update scale_views set clock = max(coalesce(clock, 0), ?) where view = ?",
            (clock, view),
        )

    def _upsert(self, view: str, rows: Iterable[PackedRow], condition: str) -> None:
        table = table_of(view)
        self._connection.executemany(
            f"insert into {table} (key, feature_time, known_at, digest, value)"
            " values (?, ?, ?, ?, ?) on conflict (key) do update set"
            " feature_time = excluded.feature_time, known_at = excluded.known_at,"
            f" digest = excluded.digest, value = excluded.value where {condition}",
            rows,
        )
