"""One table of a capture: batches of any size, staged block by block, committed as one."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from deltalake import CommitProperties, Transaction
from deltalake.exceptions import CommitFailedError
from deltalake.transaction import AddAction

from scale_assets.contracts import Contract, parse_contract
from scale_assets.ingest import positions
from scale_assets.ingest.account import Progress
from scale_assets.ingest.batch import batch_metadata
from scale_assets.ingest.columns import SOURCE_FIELDS
from scale_assets.ingest.ingestion import Ingestion
from scale_assets.ingest.postgres.blocks import Block
from scale_assets.ingest.postgres.changes import BlockPiece, PostgresChanges
from scale_assets.ingest.postgres.standing import Incarnation, Standing, standing_of
from scale_assets.ingest.source import Piece
from scale_assets.lake import ConcurrentCommit, Lake, fault_point
from scale_assets.lake.commits import SERIAL_APP, append_staged, stage
from scale_assets.lake.history import last_metadata

SNAPSHOT, STREAM = "snapshot", "stream"  # kinds of a batch's address


@dataclass(kw_only=True)
class Staged:
    """A batch so far: files that no reader sees yet, and what they hold."""

    place: str
    contract: Contract
    contract_text: str
    accepted: list[AddAction] = field(default_factory=list)
    quarantined: list[AddAction] = field(default_factory=list)
    num_received: int = 0
    num_accepted: int = 0
    num_quarantined: int = 0
    num_erased: int = 0
    num_erased_refused: int = 0
    num_bytes: int = 0


class TableCapture(Ingestion):
    """One run of one captured table."""

    feed: PostgresChanges

    def __init__(
        self, lake: Lake, feed: PostgresChanges, *, progress: Progress | None = None
    ) -> None:
        super().__init__(lake, feed, progress=progress)
        self._staged: Staged | None = None

    @property
    def standing(self) -> Standing | None:
        return standing_of(self.taken)

    @property
    def relation(self) -> str:
        return self.feed.relation

    def open(self) -> None:
        super().open()
        self._staged = None

    # ------------------------------------------------------------- batches

    @property
    def has_staged(self) -> bool:
        return self._staged is not None

    def add(self, block: Block, *, place: str) -> None:
        """Judge a block and stage its rows."""
        if self._staged is None:
            self._staged = self._begin(place, self.contract, self.contract_text)
        staged = self._staged
        first = positions.counter(self.accepted, self.feed.name, "received") + staged.num_received
        piece = BlockPiece(
            place=place,
            records=block.rows,
            first_position=first,
            positions_after={},
            address=[],
            num_bytes=block.rows.nbytes,
            block=block,
        )
        decoded = self.decode(staged.contract, piece)
        self._stage(staged, decoded.accepted, decoded.quarantined)
        staged.num_erased += decoded.num_erased
        staged.num_erased_refused += decoded.num_erased_refused
        staged.num_received += decoded.num_erased + decoded.num_erased_refused
        staged.num_bytes += piece.num_bytes

    def add_rows(self, rows: pa.Table) -> None:
        """Stage rows that are known to be right, beside those of the blocks."""
        assert self._staged is not None
        self._stage(self._staged, rows, self.feed.quarantine_schema.empty_table())

    def commit_batch(self, after: Standing, address: list[Any]) -> None:
        """Make what was staged visible, quarantine first, together with where the table stands."""
        staged = self._staged or self._begin("", self.contract, self.contract_text)
        self._staged = None
        name = self.feed.name
        summary = Piece(
            place=staged.place,
            records=b"",
            first_position=0,
            positions_after={after.incarnation.name: after.at},
            address=address,
            num_bytes=staged.num_bytes,
        )
        number = positions.counter(self.accepted, name, "batch") + 1
        erased_refused = staged.num_erased_refused
        if positions.counter(self.quarantine, name, "batch") == number:
            erased_refused = last_metadata(self.quarantine).get("erased", 0)
        else:
            append_staged(
                self.quarantine,
                staged.quarantined,
                positions={positions.counter_app(name, "batch"): number},
                metadata=batch_metadata(
                    [summary],
                    staged.contract,
                    staged.contract_text,
                    num_quarantined=staged.num_quarantined,
                    num_erased=erased_refused,
                ),
            )
        fault_point("after_quarantine")
        counts = {
            "received": staged.num_received,
            "quarantined": staged.num_quarantined,
            "duplicates": 0,
            "ignored": 0,
            "erased": staged.num_erased + erased_refused,
        }
        after_apps = positions.apps(name, summary.positions_after)
        append_staged(
            self.accepted,
            staged.accepted,
            positions={**after_apps, **self._totals_after(number, counts)},
            metadata={"batch": number, "accepted": staged.num_accepted, **counts},
        )
        self._taken |= summary.positions_after
        fault_point("after_commit")
        self._count([summary], staged.num_accepted, counts)

    def _begin(self, place: str, contract: Contract, contract_text: str) -> Staged:
        return Staged(place=place, contract=contract, contract_text=contract_text)

    def _stage(self, staged: Staged, accepted: pa.Table, quarantined: pa.Table) -> None:
        staged.accepted += stage(self.accepted, accepted)
        staged.quarantined += stage(self.quarantine, quarantined)
        staged.num_accepted += accepted.num_rows
        staged.num_quarantined += quarantined.num_rows
        staged.num_received += accepted.num_rows + quarantined.num_rows

    # ------------------------------------------------------------- unfinished batches

    def unfinished(self) -> list[Any] | None:
        """The address of the batch whose quarantine was committed and whose rows were not."""
        name = self.feed.name
        committed = positions.counter(self.accepted, name, "batch")
        if positions.counter(self.quarantine, name, "batch") == committed:
            return None
        address: list[Any] = last_metadata(self.quarantine)["pieces"][0]
        return address

    def begin_again(self, place: str) -> None:
        """Stage the unfinished batch once more, with the contract that it was judged by."""
        text = last_metadata(self.quarantine)["contract"]
        contract = parse_contract(text, source=f"contract of {self.feed.name}'s unfinished batch")
        self._staged = self._begin(place, contract, text)

    def undo(self, place: str) -> None:
        """Take back the quarantine of a batch that cannot be read again.

        The empty commit comes first: whoever may still be at work on that batch conflicts.
        """
        name = self.feed.name
        append_staged(self.accepted, [], positions={})
        file_field, position_field = (field.name for field in SOURCE_FIELDS)
        received = positions.counter(self.accepted, name, "received")
        quoted = place.replace("'", "''")
        try:
            self.quarantine.delete(
                f"{file_field} = '{quoted}' and {position_field} >= {received}",
                commit_properties=CommitProperties(
                    app_transactions=[Transaction(SERIAL_APP, self.quarantine.version() + 1)]
                ),
            )
        except CommitFailedError as error:
            raise ConcurrentCommit(f"{self.quarantine.table_uri}: {error}") from error
        committed = positions.counter(self.accepted, name, "batch")
        append_staged(
            self.quarantine, [], positions={positions.counter_app(name, "batch"): committed}
        )


def stream_place(slot: str, relation: str) -> str:
    return f"{slot}/{relation}"


def snapshot_place(incarnation: Incarnation, relation: str) -> str:
    return f"{incarnation.slot}/{relation}/{SNAPSHOT}/{incarnation.point:016X}"


def behind(tables: Iterable[TableCapture]) -> int:
    """The log position up to which every one of the tables has everything."""
    return min(table.standing.lsn for table in tables if table.standing is not None)
