"""Snapshots of several tables at one log position, each visible whole or not at all."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from scale_assets.ingest import positions
from scale_assets.ingest.postgres import snapshot
from scale_assets.ingest.postgres.reconcile import deletes, newest_lsn, vanished_keys
from scale_assets.ingest.postgres.replication import create_slot
from scale_assets.ingest.postgres.rows import keys_of
from scale_assets.ingest.postgres.server import Server
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.ingest.postgres.standing import Incarnation, Standing, point_after
from scale_assets.ingest.postgres.table_capture import SNAPSHOT, TableCapture, snapshot_place
from scale_assets.lake import Lake, fault_point

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]


@dataclass(frozen=True, kw_only=True)
class Snapshots:
    """Takes snapshots for one run of a capture."""

    lake: Lake
    spec: CaptureSpec
    server: Server
    connection: "Connection"

    def take(
        self, tables: Sequence[TableCapture], *, is_new: bool, done: Callable[[str], None]
    ) -> None:
        """Snapshot the tables. ``is_new``: make the slot with it; else it is there already.

        Where the slot is older than the snapshot, the stream repeats what the snapshot holds, and
        the table skips it: its position is the snapshot's.

        Raises:
            Disturbed: A table was rewritten or emptied meanwhile; start again.
        """
        spec = self.spec
        sources = [
            snapshot.source_of(self.connection, spec.publication, table.relation)
            for table in tables
        ]
        temporary = f"{spec.slot[:40]}_snapshot_{os.getpid()}"
        with spec.database.replicate() as replication:
            slot = spec.slot if is_new else temporary
            lsn, exported = create_slot(replication, slot, temporary=not is_new)
            fault_point("after_slot")
            with snapshot.at_snapshot(
                self.connection, exported, simulated_clock=spec.simulated_clock
            ) as read_at:
                replication.finish()  # the temporary slot has done its work
                for table, source in zip(tables, sources, strict=True):
                    self._take(table, source, lsn=lsn, read_at=read_at)
                    done(table.relation)

    def _take(
        self, table: TableCapture, source: snapshot.Source, *, lsn: int, read_at: datetime
    ) -> None:
        """One table's rows, and deletes of the keys that it has and the snapshot has not."""
        standing = table.standing
        newest = max(newest_lsn(table.accepted), standing.at if standing else 0)
        incarnation = Incarnation(
            system=self.server.system,
            timeline=self.server.timeline,
            slot=self.spec.slot,
            point=point_after(newest, lsn - 1),  # commits from the consistent point on are streamed
        )
        place = snapshot_place(incarnation, table.relation)
        present, num_rows = [], 0
        has_rows = self.lake.num_rows(table.feed.table) > 0
        for block in snapshot.blocks(
            self.connection,
            source,
            point=incarnation.point,
            read_at=read_at,
            max_bytes=self.spec.max_batch_bytes,
        ):
            table.add(block, place=place)
            num_rows += len(block)
            if has_rows:
                present.append(keys_of(table.contract, block))
            fault_point("in_snapshot")
        if has_rows:
            keys = vanished_keys(
                self.lake,
                table.feed.table,
                table.contract,
                version=table.accepted.version(),
                present=present,
            )
            received = positions.counter(table.accepted, table.feed.name, "received")
            table.add_rows(
                deletes(
                    keys,
                    table.feed.schema(table.contract),
                    lsn=incarnation.point,
                    first_ordinal=num_rows,
                    first_position=received + num_rows,
                    at=read_at,
                    place=place,
                )
            )
        table.commit_batch(Standing(incarnation, incarnation.point), [SNAPSHOT, place])
