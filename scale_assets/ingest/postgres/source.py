"""A captured database as the source of its feeds: what tells that there is something new."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.postgres.connection import Database
from scale_assets.ingest.source import Reading, Source

WAL_STEP_BYTES = 64 << 20  # of others' log, after which the slot should be moved on
FINGERPRINT = """
    select coalesce(sum(n_tup_ins + n_tup_upd + n_tup_del), 0),
        count(*), (pg_current_wal_lsn() - '0/0')::bigint / %s,
        exists (select 1 from pg_replication_slots where slot_name = %s)
    from pg_stat_all_tables where schemaname || '.' || relname = any (%s)
"""


@dataclass(frozen=True)
class PostgresSource(Source):
    """Tables that one slot tells of."""

    database: Database
    slot: str
    tables: Sequence[str]

    def reading(self) -> AbstractContextManager[Reading]:
        """A slot moves on for all of its tables at once, so no feed reads it alone.

        Raises:
            IngestError: Always.
        """
        raise IngestError(
            f"{self.describe()} is read by its capture, all tables together: run "
            "`scale capture`, or materialize its assets"
        )

    def fingerprint(self) -> str:
        """Rows written to the tables so far, as the server's statistics have it, and its log.

        The log counts in large steps: it grows by others' tables too, and the slot must follow.
        """
        with self.database.connect() as connection:
            row = connection.execute(
                FINGERPRINT, [WAL_STEP_BYTES, self.slot, list(self.tables)]
            ).fetchone()
        return "-".join(map(str, row or ()))

    def describe(self) -> str:
        return f"slot {self.slot} of database {self.database.name}"
