"""Several tables through one slot: snapshots first, then the stream, each change exactly once."""

import logging
import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from scale_assets.ingest.account import IngestReport, Progress
from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.ingest.postgres.continuity import require_continuity, require_own
from scale_assets.ingest.postgres.errors import Disturbed, SlotBusy
from scale_assets.ingest.postgres.publication import require_publication
from scale_assets.ingest.postgres.server import Health, Server, Slot, find_slot, look_at
from scale_assets.ingest.postgres.snapshots import Snapshots
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.ingest.postgres.standing import parse_lsn
from scale_assets.ingest.postgres.streaming import BUSY_S, RETRY_S, Streaming, Until
from scale_assets.ingest.postgres.table_capture import SNAPSHOT, STREAM, TableCapture
from scale_assets.ingest.postgres.tables import require_tables
from scale_assets.ingest.revalidate import Revalidation, RevalidationReport
from scale_assets.lake import ConcurrentCommit, Lake, fault_point

if TYPE_CHECKING:
    import threading

    import psycopg

    Connection = psycopg.Connection[Any]

MAX_DISTURBED = 3

log = logging.getLogger(__name__)


@dataclass(kw_only=True)
class CaptureReport:
    """What one run did, and how the slot was when it began; None if there was none."""

    tables: dict[str, IngestReport]
    replayed: dict[str, RevalidationReport] = field(default_factory=dict)
    health: Health | None = None
    snapshots: list[str] = field(default_factory=list)


class Capture:
    """One run of one capture. A run that was killed anywhere is made good by the next."""

    def __init__(
        self,
        lake: Lake,
        spec: CaptureSpec,
        feeds: Sequence[PostgresChanges],
        *,
        progress: Progress | None = None,
    ) -> None:
        self.lake = lake
        self.spec = spec
        self.tables = [TableCapture(lake, feed, progress=progress) for feed in feeds]
        self.report = CaptureReport(tables={t.feed.name: t.report for t in self.tables})

    def health(self) -> Health | None:
        """How much log the slot holds back now; None while there is no slot."""
        with self.spec.database.connect() as connection:
            return self._health(self._look(connection), find_slot(connection, self.spec.slot))

    def run(
        self,
        *,
        resync: Collection[str] = (),
        stop: "threading.Event | None" = None,
        replay_quarantine: bool = False,
    ) -> CaptureReport:
        """Read on from where the tables stand: up to now, or until told to stop.

        ``resync`` names tables (of the database) whose snapshot is taken anew, whatever they hold:
        its rows are read again, and keys that it lacks are deleted. With ``replay_quarantine``,
        changes that the contracts accept by now leave the quarantines first.

        Raises:
            NotPrepared: The server, a table or the publication is not set up.
            SlotLost: Changes are missing between the tables and the slot; nothing was taken.
            SlotBusy: Another run is at work.
        """
        started = time.monotonic()
        unknown = set(resync) - {table.relation for table in self.tables}
        assert not unknown, unknown
        anew = set(resync)
        with self.spec.database.connect() as connection, self._alone(connection):
            disturbed, is_done = 0, False
            while not is_done:
                try:
                    self._require_prepared(connection)
                    is_done = self._through(
                        connection, anew, stop, replay_quarantine=replay_quarantine
                    )
                except ConcurrentCommit:
                    continue  # the other writer got through
                except Disturbed:
                    disturbed += 1
                    if disturbed == MAX_DISTURBED:
                        raise
        for report in self.report.tables.values():
            report.seconds = time.monotonic() - started
        return self.report

    def _through(
        self,
        connection: "Connection",
        anew: set[str],
        stop: "threading.Event | None",
        *,
        replay_quarantine: bool,
    ) -> bool:
        """Everything once; False where a contract was mended meanwhile, so that it is due again."""
        server = self._look(connection)
        slot = find_slot(connection, self.spec.slot)
        self._note_health(self._health(server, slot))
        for table in self.tables:
            table.open()
        self._undo(anew)
        if slot is not None:
            require_own(self.spec, server, slot)
            if slot.why_lost and anew:
                connection.execute("select pg_drop_replication_slot(%s)", [slot.name])
                slot = None
        kept = [table for table in self.tables if table.relation not in anew]
        require_continuity(self.spec, server, slot, kept)
        self._finish(kept)
        if replay_quarantine:
            self._replay_quarantine()
        lacking = [t for t in self.tables if t.standing is None or t.relation in anew]
        if lacking:
            snapshots = Snapshots(
                lake=self.lake, spec=self.spec, server=server, connection=connection
            )
            snapshots.take(lacking, is_new=slot is None, done=anew.discard)
            self.report.snapshots += [table.relation for table in lacking]
        fault_point("at_handover")
        until = Until(stop=stop) if stop is not None else Until(lsn=self._wal_end(connection))
        return Streaming(self.spec, self.tables).run(until)

    def _require_prepared(self, connection: "Connection") -> None:
        """As the contracts are now."""
        keys = {t.relation: t.feed.load_contract()[0].primary_key for t in self.tables}
        require_tables(connection, keys)
        require_publication(connection, self.spec.publication, list(keys))

    def _undo(self, anew: set[str]) -> None:
        """Unfinished batches that cannot be read again, or need not be."""
        for table in self.tables:
            address = table.unfinished()
            if address is not None and (address[0] == SNAPSHOT or table.relation in anew):
                table.undo(address[1])

    def _finish(self, tables: Sequence[TableCapture]) -> None:
        """Unfinished batches of the stream, which the slot still has."""
        for table in tables:
            address = table.unfinished()
            if address is None:
                continue
            if address[0] != STREAM:
                raise IngestError(
                    f"{table.feed.name}: a batch from another transport is half committed; run "
                    "the feed once more the way that it came, then through the slot"
                )
            Streaming(self.spec, [table]).finish(table, address[2])

    def _replay_quarantine(self) -> None:
        """Once a run, when no batch is unfinished: what settles then is opening the tables."""
        for table in self.tables:
            if table.feed.name not in self.report.replayed:
                report = Revalidation(table, table.open).run()
                self.report.replayed[table.feed.name] = report

    @contextmanager
    def _alone(self, connection: "Connection") -> Iterator[None]:
        """Hold the capture on the server, so that two runs do not disturb each other."""
        give_up = time.monotonic() + BUSY_S
        lock = "select pg_try_advisory_lock(hashtextextended(%s, 0))"
        while connection.execute(lock, [f"scale-assets/{self.spec.slot}"]).fetchone() != (True,):
            if time.monotonic() > give_up:
                raise SlotBusy(
                    f"capture {self.spec.name}: another run reads slot {self.spec.slot}; wait "
                    "for it, or stop it"
                )
            time.sleep(RETRY_S)
        yield

    def _look(self, connection: "Connection") -> Server:
        with self.spec.database.replicate() as replication:
            return look_at(connection, replication)

    def _health(self, server: Server, slot: Slot | None) -> Health | None:
        held_back = None if slot is None else slot.held_back(server.wal_end)
        return None if held_back is None else Health(held_back=held_back, limit=server.wal_limit)

    def _note_health(self, health: Health | None) -> None:
        self.report.health = self.report.health or health
        if health is not None and health.is_alarming:
            log.warning(
                "slot %s holds back %d bytes of log, more than half of max_slot_wal_keep_size "
                "(%d): beyond that the server gives it up",
                *(self.spec.slot, health.held_back, health.limit),
            )

    @staticmethod
    def _wal_end(connection: "Connection") -> int:
        row = connection.execute("select pg_current_wal_flush_lsn()::text").fetchone()
        assert row is not None
        return parse_lsn(row[0])
