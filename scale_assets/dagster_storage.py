"""Dagster's SQLite storage with the event log's connections kept open; named in dagster.yaml.

Dagster opens a new engine for every event, and the last one to close a file in write-ahead mode
makes SQLite checkpoint and sync it: three syncs per event, paid for every date of every daily
table. Here each file keeps one connection per process, and commits sync at checkpoints only: a
power cut may lose the newest log entries, never the file, and what was not logged is due again.
The events of one step's dates, which Dagster hands over in batches, share one transaction per file.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from dagster import AssetKey, EventLogEntry
from dagster._config.config_schema import UserConfigSchema
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

INDEX = "index"
MAX_OPEN_FILES = 16
BUSY_TIMEOUT_SECONDS = 30  # another process, such as the UI, may be writing


class KeptOpenEventLogStorage(SqliteEventLogStorage):
    """One connection per file and process; the storage's own lock keeps threads apart."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        self._engines: dict[str, Engine] = {}
        self._in_batch: dict[str, Connection] = {}  # of the thread that holds the lock
        self._newest: dict[tuple[AssetKey, str], tuple[EventLogEntry, int]] = {}
        self._tables: set[str] = set()
        super().__init__(base_dir, inst_data)
        self._db_lock: Any = threading.RLock()

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock:
            if shard in self._in_batch:
                yield self._in_batch[shard]
                return
            with self._engine(shard).connect() as connection, connection.begin():
                yield connection

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """All events or none, so that Dagster may store them one by one after a failure."""
        with self._db_lock, ExitStack() as stack:
            for shard in sorted({INDEX, *(event.run_id for event in events)}):
                connection = stack.enter_context(self._connect(shard))
                self._in_batch[shard] = connection
            stack.callback(self._newest.clear)
            stack.callback(self._in_batch.clear)
            super().store_event_batch(events)
            for event, event_id in self._newest.values():
                super()._store_asset_event(self._in_batch[INDEX], event, event_id)

    def _store_asset_event(self, conn: Connection, event: EventLogEntry, event_id: int) -> None:
        """Note the asset's newest event; within a batch only the last of each kind remains."""
        if not self._in_batch:
            super()._store_asset_event(conn, event, event_id)
        elif event.dagster_event and (key := event.dagster_event.asset_key):
            kind = (key, event.dagster_event.event_type_value)
            self._newest.pop(kind, None)  # so that the kinds keep the order of their last events
            self._newest[kind] = (event, event_id)

    def has_table(self, table_name: str) -> bool:
        """Whether the index has the table; asked for every event, and none is ever dropped."""
        if table_name not in self._tables and super().has_table(table_name):
            self._tables.add(table_name)
        return table_name in self._tables

    def _engine(self, shard: str) -> Engine:
        """The file's engine; the file of the oldest run is closed when too many are open."""
        if shard not in self._engines:
            while len(self._engines) >= MAX_OPEN_FILES:
                oldest = next(name for name in self._engines if name != INDEX)
                self._engines.pop(oldest).dispose()
            engine = create_engine(
                self.conn_string_for_shard(shard),
                poolclass=StaticPool,
                connect_args={
                    "timeout": BUSY_TIMEOUT_SECONDS,
                    "check_same_thread": False,
                },
            )
            event.listen(engine, "connect", _relax)
            if shard not in self._initialized_dbs:
                self._initdb(engine)
                self._initialized_dbs.add(shard)
            self._engines[shard] = engine
        return self._engines[shard]

    def dispose(self) -> None:
        for engine in self._engines.values():
            engine.dispose()
        self._engines.clear()
        super().dispose()


class KeptOpenSqliteStorage(DagsterSqliteStorage):
    """Runs, schedules and the event log below one folder."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        super().__init__(base_dir, inst_data)
        self._event_log_storage = KeptOpenEventLogStorage(str(Path(base_dir, "history", "runs")))

    @classmethod
    def config_type(cls) -> UserConfigSchema:
        return DagsterSqliteStorage.config_type()

    @classmethod
    def from_config_value(
        cls, inst_data: ConfigurableClassData, config_value: Mapping[str, Any]
    ) -> "KeptOpenSqliteStorage":
        return cls.from_local(inst_data=inst_data, **config_value)


def _relax(connection: Any, _: object) -> None:
    connection.execute("pragma synchronous = normal")
