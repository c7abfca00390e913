"""Packed values in one SQLite file, one table per view: nothing to install, one machine."""

import fcntl
import hashlib
import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

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
    replaces,
    undeclared,
    unknown_schema,
)
from scale_assets.features.stores.progress import progress_from_json, progress_json

BUSY_TIMEOUT_S = 60.0
FORMAT = 2  # of the tables below, kept in the file's user_version
CHUNK_ROWS = 1_000
_CREATE = (
    "create table if not exists scale_schemas (schema text primary key, layout text not null)",
    (
        "create table if not exists scale_views (view text primary key, schema text not null,"
        " ttl integer, newest integer, progress text)"  # times are microseconds
    ),
    "create table if not exists scale_clock (id integer primary key check (id = 1), now integer)",
    f"pragma user_version = {FORMAT}",
)


class SqliteBackend(Backend):
    """Two connections per thread: one that only reads, one that writes, made when needed."""

    def __init__(self, path: str | Path, *, clock: Clock = "data") -> None:
        self.clock = clock
        self.path = Path(path).absolute()
        self.where = str(self.path)
        self._local = threading.local()
        self._layouts: dict[int, AnyLayout] = {}

    def close(self) -> None:
        """Close this thread's connections; others close with their threads."""
        for name in ("reading", "writing"):
            connection = self._local.__dict__.pop(name, None)
            if connection is not None:
                connection.close()

    def release_thread(self) -> None:
        self.close()

    def require(self) -> None:
        if not self.path.is_file():
            raise OnlineStoreError(
                f"no online store at {self.path}; materialize the online/* assets first, or run "
                "`scale load`"
            )
        with self._errors():
            (found,) = self._reading.execute("pragma user_version").fetchone()
        if found != FORMAT:
            raise OnlineStoreError(
                f"{self.path} has format {found}, this code reads {FORMAT}; run `scale load` to "
                "make it anew"
            )

    # ---------------------------------------------------------------- reading

    def get(self, requests: Mapping[str, Sequence[str]]) -> Found:
        self._require_declared(requests)
        query = "select -1, null, now from scale_clock"
        for position, view in enumerate(requests):
            query += (
                f" union all select {position}, key, value from {table_of(view)}"
                " where key in (select value from json_each(?))"
            )
        arguments = [json.dumps(list(keys)) for keys in requests.values()]
        try:
            rows = self._reading.execute(query, arguments).fetchall()
        except sqlite3.Error as error:  # not by _errors(), which costs a read a microsecond
            raise self._failed(error) from error
        clock: int | None = None
        by_view: list[dict[str, bytes]] = [{} for _ in requests]
        for position, key, value in rows:
            if position < 0:
                clock = value
            else:
                by_view[position][key] = value
        values: dict[str, list[bytes | None]] = {
            view: [found.get(key) for key in keys]
            for (view, keys), found in zip(requests.items(), by_view, strict=True)
        }
        return Found(values, clock)

    def views(self) -> Mapping[str, ViewInfo]:
        """Read again only after another connection's commit."""
        if not self.path.is_file():
            return {}
        with self._errors():
            (version,) = self._reading.execute("pragma data_version").fetchone()
            cached: tuple[int, dict[str, ViewInfo]] | None = getattr(self._local, "views", None)
            if cached is None or cached[0] != version:
                cached = self._local.views = (version, self._read_views())
        return cached[1]

    def _read_views(self) -> dict[str, ViewInfo]:
        (found,) = self._reading.execute("pragma user_version").fetchone()
        if not found:  # somebody is just making the file
            return {}
        query = "select view, layout, ttl from scale_views join scale_schemas using (schema)"
        return {
            view: ViewInfo(parse_layout(layout), _duration(ttl))
            for view, layout, ttl in self._reading.execute(query)
        }

    def layout(self, schema: int) -> AnyLayout:
        if schema not in self._layouts:
            query = "select layout from scale_schemas where schema = ?"
            with self._errors():
                row = self._reading.execute(query, (f"{schema:016x}",)).fetchone()
            if row is None:
                raise unknown_schema(schema, self.where)
            self._layouts[schema] = parse_layout(row[0])
        return self._layouts[schema]

    def keys(self, view: str) -> Iterator[list[str]]:
        if view not in self.views():
            return
        with self._errors():
            rows = self._reading.execute(f"select key from {table_of(view)}")
            while batch := rows.fetchmany(CHUNK_ROWS):
                yield [key for (key,) in batch]

    def newest_feature_time(self, view: str) -> int | None:
        self._require_declared([view])
        query = "select newest from scale_views where view = ?"
        with self._errors():
            (found,) = self._reading.execute(query, (view,)).fetchone()
        return None if found is None else int(found)

    # ---------------------------------------------------------------- writing

    def declare(self, view: str, layout: AnyLayout, *, ttl: timedelta | None) -> None:
        schema = f"{layout.schema:016x}"
        with self._transaction() as connection:
            connection.execute(
                f"create table if not exists {table_of(view)}"
                " (key text primary key, value blob not null)"
            )
            connection.execute(
                "insert or ignore into scale_schemas values (?, ?)", (schema, layout.text)
            )
            connection.execute(
                "insert into scale_views (view, schema, ttl) values (?, ?, ?)"
                " on conflict (view) do update set schema = excluded.schema, ttl = excluded.ttl",
                (view, schema, _micros(ttl)),
            )

    def put(self, view: str, rows: Sequence[PackedRow], how: Put) -> Outcome:
        num_written = 0
        undecided: list[str] = []
        with self._transaction() as connection:
            for start in range(0, len(rows), CHUNK_ROWS):
                chunk = rows[start : start + CHUNK_ROWS]
                stored = _stored(connection, view, [row.key for row in chunk])
                written: dict[str, bytes] = {}
                for key, value in chunk:
                    wins = replaces(value, stored.get(key), how)
                    if wins is None:
                        undecided.append(key)
                    elif wins:
                        stored[key] = written[key] = value
                connection.executemany(
                    f"insert into {table_of(view)} (key, value) values (?, ?)"
                    " on conflict (key) do update set value = excluded.value",
                    written.items(),
                )
                num_written += len(written)
        return Outcome(num_written, undecided)

    def remove_loaded(self, view: str, keys: Sequence[str]) -> int:
        query = f"delete from {table_of(view)} where key = ? and substr(value, 1, 1) >= x'80'"
        with self._transaction() as connection:
            return connection.executemany(query, ((key,) for key in keys)).rowcount

    def advance(self, view: str, *, feature_time: int | None, known_at: int) -> None:
        with self._transaction() as connection:
            connection.execute(
                "update scale_views set newest = max(coalesce(newest, ?1), coalesce(?1, newest))"
                " where view = ?2",
                (feature_time, view),
            )
            connection.execute(
                "insert into scale_clock values (1, ?)"
                " on conflict (id) do update set now = max(now, excluded.now)",
                (known_at,),
            )

    def progress(self, view: str) -> Progress:
        if not self.path.is_file():
            return Progress()
        query = "select progress from scale_views where view = ?"
        with self._errors():
            row = self._writing.execute(query, (view,)).fetchone()
        return progress_from_json(row[0] if row else None)

    def set_progress(self, view: str, progress: Progress) -> None:
        with self._transaction() as connection:
            connection.execute(
                "update scale_views set progress = ? where view = ?",
                (progress_json(progress), view),
            )

    @contextmanager
    def atomically(self) -> Iterator[None]:
        with self._transaction():
            yield

    @contextmanager
    def sole_loader(self, view: str) -> Iterator[Callable[[], None]]:
        """A lock on a file beside the store, which ends with its process."""
        name = hashlib.sha256(view.encode()).hexdigest()[:16]
        lock = self.path.with_name(f"{self.path.name}-loading-{name}")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("a")
        except OSError as error:
            raise self._failed(error) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield lambda: None

    def forget(self, view: str, keys: Iterable[str]) -> int:
        with self._errors():
            self._writing.execute("pragma secure_delete = on")
        with self._transaction() as connection:
            return connection.executemany(
                f"delete from {table_of(view)} where key = ?", ((key,) for key in keys)
            ).rowcount

    def wipe(self) -> None:
        with self._errors():
            self._writing.execute("vacuum")
            (is_busy, *_) = self._writing.execute("pragma wal_checkpoint(truncate)").fetchone()
        if is_busy:
            raise OnlineStoreError(
                f"{self.path} is being read; end `scale serve` and run again, so that what was "
                "deleted can leave its log"
            )

    def drop(self, view: str) -> None:
        with self._transaction() as connection:
            connection.execute(f"drop table if exists {table_of(view)}")
            connection.execute("delete from scale_views where view = ?", (view,))

    # ---------------------------------------------------------------- connections

    @property
    def _reading(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "reading", None)
        if connection is None:
            connection = sqlite3.connect(f"{self.path.as_uri()}?mode=ro", uri=True)
            self._local.reading = connection
        return connection

    @property
    def _writing(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "writing", None)
        if connection is None:
            connection = self._local.writing = self._opened()
        return connection

    def _opened(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._failed(error) from error
        connection = sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        connection.execute("begin immediate")
        (found,) = connection.execute("pragma user_version").fetchone()
        if found != FORMAT:  # the lake has everything that an older file holds
            for (name,) in connection.execute(
                "select name from sqlite_master where type = 'table'"
            ).fetchall():
                connection.execute(f"drop table {quoted(name)}")
        for statement in _CREATE:
            connection.execute(statement)
        connection.execute("commit")
        return connection

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """One at a time for the whole file; inside another one of this thread, a part of it."""
        with self._errors():
            connection = self._writing
            if connection.in_transaction:
                yield connection
                return
            connection.execute("begin immediate")
            try:
                yield connection
            except BaseException:
                if connection.in_transaction:  # a full disk ends it by itself
                    connection.execute("rollback")
                raise
            connection.execute("commit")

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: Exception) -> OnlineStoreError:
        said = str(error)
        way_out = "it must be a file that this user may write, on a disk with room"
        if said == "database is locked":
            way_out = f"another process wrote for more than {BUSY_TIMEOUT_S:g} s; run again"
        elif isinstance(error, sqlite3.DatabaseError) and not isinstance(
            error, sqlite3.OperationalError
        ):
            way_out = "move it away, then `scale load --rebuild` makes it anew"
        return OnlineStoreError(f"{self.path}: {said}; {way_out}")

    def _require_declared(self, views: Iterable[str]) -> None:
        known = self.views()
        for view in views:
            if view not in known:
                raise undeclared(view, known, self.where)


def quoted(identifier: str) -> str:
    """An SQL identifier, whatever it contains."""
    return '"' + identifier.replace('"', '""') + '"'


def table_of(view: str) -> str:
    """The view's table, quoted."""
    return quoted(f"view:{view}")


def _stored(connection: sqlite3.Connection, view: str, keys: list[str]) -> dict[str, bytes]:
    query = f"select key, value from {table_of(view)} where key in (select value from json_each(?))"
    return dict(connection.execute(query, (json.dumps(keys),)).fetchall())


def _micros(duration: timedelta | None) -> int | None:
    return None if duration is None else duration // timedelta(microseconds=1)


def _duration(micros: int | None) -> timedelta | None:
    return None if micros is None else timedelta(microseconds=micros)
