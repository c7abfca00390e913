"""Connections to a captured database: one that asks, one that replicates."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.postgres.errors import CannotConnect

if TYPE_CHECKING:
    import psycopg
    from psycopg.pq.abc import PGconn

# Values come as text; the same in the snapshot and in the stream, whatever the role's defaults.
SESSION = {
    "datestyle": "ISO",
    "timezone": "UTC",
    "intervalstyle": "iso_8601",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "row_security": "off",  # fail where a policy would hide rows, instead of missing them
    "statement_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "wal_sender_timeout": "300s",  # while a large batch is committed, nobody answers the server
}


@dataclass(frozen=True)
class Database:
    """A database by the name that settings give it, and how to reach it."""

    name: str
    dsn: str = field(repr=False)  # holds a password

    @contextmanager
    def connect(self) -> Iterator["psycopg.Connection[tuple[Any, ...]]"]:
        """A connection for queries, each a transaction of its own unless one is begun.

        Raises:
            CannotConnect: The server does not answer, refuses us, or goes away meanwhile.
            IngestError: It refuses a query.
        """
        import psycopg

        try:
            connection = psycopg.connect(self._conninfo(), autocommit=True)
        except psycopg.Error as error:
            raise self._refused(error) from error
        try:
            with connection:
                yield connection
        except psycopg.OperationalError as error:
            raise self._refused(error) from error
        except psycopg.Error as error:
            raise IngestError(f"database {self.name}: {str(error).strip()}") from error

    @contextmanager
    def replicate(self) -> Iterator["PGconn"]:
        """A connection that speaks the replication protocol, for this database's changes.

        Raises:
            CannotConnect: The server does not answer, or the role may not replicate.
        """
        from psycopg import pq

        connection = pq.PGconn.connect(self._conninfo(replication="database").encode())
        try:
            if connection.status != pq.ConnStatus.OK:
                raise self._refused(connection.get_error_message())
            yield connection
        finally:
            connection.finish()

    def _conninfo(self, **more: str) -> str:
        import psycopg
        from psycopg.conninfo import conninfo_to_dict, make_conninfo

        try:
            given = conninfo_to_dict(self.dsn)
        except psycopg.ProgrammingError as error:
            raise CannotConnect(f"database {self.name}: the DSN is not one: {error}") from error
        ours = " ".join(f"-c {name}={value}" for name, value in SESSION.items())
        options = f"{given.get('options') or ''} {ours}".strip()
        shown = given.get("application_name") or "scale-assets"
        return make_conninfo(
            self.dsn, options=options, client_encoding="UTF8", application_name=shown, **more
        )

    def _refused(self, why: object) -> CannotConnect:
        text = str(why).strip()
        way_out = "start it, or correct its DSN in the settings"
        if "max_wal_senders" in text:
            way_out = "raise max_wal_senders on the server and restart it"
        elif "replication role" in text or "REPLICATION attribute" in text:
            way_out = "give the role the right to replicate: ALTER ROLE <role> REPLICATION"
        return CannotConnect(f"database {self.name}: {text}\n{way_out}")
