"""Dagster's SQLite storage with the event log's connections kept open; named in dagster.yaml.

Dagster opens a new engine for every event, and the last one to close a file in write-ahead mode
makes SQLite checkpoint and sync it: three syncs per event, paid for every date of every daily
table. Here each file keeps one connection per process, and commits sync at checkpoints only: a
power cut may lose the newest log entries, never the file, and what was not logged is due again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
        super().__init__(base_dir, inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator[Connection]:
        with self._db_lock, self._engine(shard).connect() as connection, connection.begin():
            yield connection

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
