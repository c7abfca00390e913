"""A source into two tables, exactly once: the rows accepted, and those set aside.

Per batch, the quarantine is committed first and names the batch and its contract; the accepted
rows follow with the positions. A run that dies between the two is finished by the next one: the
same records, the same contract, before anything else is read. So is a move out of the quarantine.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from scale_assets.contracts import Contract, Mode, parse_contract
from scale_assets.ingest import positions
from scale_assets.ingest.columns import SOURCE_FIELDS, quarantine_schema
from scale_assets.ingest.contract_history import ContractHistory
from scale_assets.ingest.errors import IngestError, SourceUnavailable
from scale_assets.ingest.moves import MOVE, finish_move
from scale_assets.ingest.source import Piece, Reading, Source
from scale_assets.ingest.suppression import SuppressionList, without_forgotten
from scale_assets.lake import ConcurrentCommit, Lake, fault_point
from scale_assets.lake.commits import append, at_newest
from scale_assets.lake.history import is_cut_off, last_metadata, num_rows

MAX_BATCH_BYTES = 64 << 20
HALF_DONE_SECONDS = 5.0  # how long a run that lives may take between two commits that are one

Batch = list[Piece]
Progress = Callable[["IngestReport"], None]


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One piece's rows: accepted (with EVENT_DATE if any), quarantined, and neither (ignored)."""

    accepted: pa.Table
    quarantined: pa.Table
    num_received: int
    num_ignored: int = 0
    num_erased: int = 0  # valid rows of people on the suppression list, not among the accepted
    num_erased_refused: int = 0  # and refused ones, not among the quarantined


@dataclass(kw_only=True)
class IngestReport:
    """What one run did. received = accepted + quarantined + duplicates + ignored + erased."""

    stream: str
    num_received: int = 0
    num_accepted: int = 0
    num_quarantined: int = 0
    num_duplicates: int = 0
    num_ignored: int = 0
    num_erased: int = 0  # of people on the suppression list
    num_batches: int = 0
    num_places: int = 0  # read to their end: files, partitions
    num_bytes: int = 0
    seconds: float = 0.0
    broken: dict[str, str] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)  # gaps and new incarnations, accepted

    def raise_if_broken(self) -> None:
        """Say loudly what was not taken; everything else has been."""
        if self.broken:
            reasons = "\n".join(self.broken.values())
            raise IngestError(f"{self.stream}: {len(self.broken)} not taken:\n{reasons}")


@dataclass(frozen=True, kw_only=True)
class Account:
    """The stream's totals since its first batch, counted where each is kept."""

    received: int
    accepted: int
    quarantined: int
    duplicates: int
    ignored: int
    erased: int = 0  # removed by `scale forget`, or dropped because the person is forgotten

    @property
    def is_exact(self) -> bool:
        kept = self.accepted + self.quarantined
        return self.received == kept + self.duplicates + self.ignored + self.erased


@dataclass(frozen=True, kw_only=True)
class Feed(ABC):
    """One feed: where its records come from, which contract they keep, which tables they fill."""

    name: str
    source: Source
    contract_path: Path
    table: str
    quarantine_table: str
    max_batch_bytes: int = MAX_BATCH_BYTES
    compatibility: Mode = Mode.BACKWARD_TRANSITIVE

    @abstractmethod
    def schema(self, contract: Contract) -> pa.Schema:
        """Columns of the accepted table."""

    @property
    @abstractmethod
    def partition_by(self) -> list[str]:
        """Partition columns of both tables."""

    @abstractmethod
    def decode(self, contract: Contract, piece: Piece) -> Decoded:
        """Validate one piece; of the quarantine, too, whose lines the feed's source refused."""

    @abstractmethod
    def without_duplicates(self, rows: pa.Table, table: DeltaTable) -> pa.Table:
        """The rows, in order, that are neither in the table nor twice in themselves."""

    def numbered(self, part: Decoded, _piece: Piece, _tables: Sequence[DeltaTable], /) -> Decoded:
        """Give rows the numbers that depend on what either table has, where a feed has any."""
        return part

    @property
    def kept_in_quarantine(self) -> pa.Schema:
        """What a refused row carries besides its bytes and its position, for the day it passes."""
        return self.source.columns

    @property
    def quarantine_schema(self) -> pa.Schema:
        return quarantine_schema(self.source.columns)

    def contract_text(self) -> str:
        return self.contract_path.read_text(encoding="utf-8")

    def load_contract(self) -> tuple[Contract, str]:
        text = self.contract_text()
        return parse_contract(text, source=str(self.contract_path)), text


class Ingestion:
    """One run of one feed."""

    def __init__(
        self,
        lake: Lake,
        feed: Feed,
        *,
        progress: Progress | None = None,
        patience_seconds: float = 0.0,
    ) -> None:
        self.lake = lake
        self.feed = feed
        self.source = feed.source.for_stream(feed.name)
        self.progress = progress
        self.patience_seconds = patience_seconds  # with a batch that another run may be finishing
        self.is_open = False
        self.report = IngestReport(stream=feed.name)
        self.suppressions = SuppressionList(lake)
        self.contract, self.contract_text = feed.load_contract()

    def run(self) -> IngestReport:
        """Read on from where the table stands until nothing is left.

        Places that are broken, or changed since they were taken, are in ``report.broken``; no row
        of theirs is. Two runs at once are safe: one gets through, the other starts again behind.
        """
        started = time.monotonic()
        with self.source.reading() as reading:
            while not self.through(reading):
                pass
            self.report.broken = dict(reading.broken)
        self.report.seconds = time.monotonic() - started
        return self.report

    def through(self, reading: Reading) -> bool:
        """Take what the source has now; False when another run's commit came between."""
        try:
            self.settle(reading)
            reading.acknowledge(self.taken)
            self.read_on(reading)
        except ConcurrentCommit:
            self.is_open = False
            return False  # the other run got through, so every round brings the table forward
        except (DeltaError, FileNotFoundError):
            if not (is_cut_off(self.accepted) or is_cut_off(self.quarantine)):
                raise
            self.is_open = False
            return False  # somebody was erased meanwhile, and older versions with them
        return True

    def settle(self, reading: Reading) -> None:
        """Bring the tables forward, and finish whatever a run that died had begun."""
        self._open_or_refresh()
        self.finish_batch(reading)

    def read_on(self, reading: Reading) -> None:
        """Take what the source has beyond ``taken``, batch by batch.

        Raises:
            ConcurrentCommit: Another run took some of it; open again.
        """
        for batch in self._batches(reading):
            self._commit_unless_taken(batch, reading)
            fault_point("before_acknowledge")
            reading.acknowledge(self.taken)
            if reading.stopping.is_set():
                break

    def _commit_unless_taken(self, batch: Batch, reading: Reading) -> None:
        """Commit, and again after each conflict with a commit that took none of these records."""
        while True:
            before = {name: self._taken.get(name) for name in _positions_after(batch)}
            try:
                return self.commit(batch)
            except ConcurrentCommit:
                self.open()
                self.finish_batch(reading)
                if before != {name: self._taken.get(name) for name in before}:
                    raise

    @property
    def taken(self) -> dict[str, int]:
        """The source's positions that the accepted table holds."""
        return self._taken

    def open(self) -> None:
        """Create or open both tables, as the contract is now, if it may follow the earlier ones.

        Raises:
            ConcurrentCommit: Another run finished the move that this one was about to finish.
        """
        feed = self.feed
        self.contract, self.contract_text = feed.load_contract()
        contract = self.contract
        history = ContractHistory(self.lake, feed.name)
        source = str(feed.contract_path)
        history.refuse_breaking(contract, self.contract_text, feed.compatibility, source=source)
        self.accepted = self.lake.evolve(
            feed.table, feed.schema(contract), partition_by=feed.partition_by
        )
        self.quarantine = self.lake.evolve(
            feed.quarantine_table, feed.quarantine_schema, partition_by=feed.partition_by
        )
        history.record(contract, self.contract_text)
        self._taken = positions.taken(self.accepted, feed.name)
        self.is_open = True
        finish_move(feed.name, self.accepted, self.quarantine)

    def _open_or_refresh(self) -> None:
        if not self.is_open or self.feed.contract_text() != self.contract_text:
            self.open()
            return
        version = self.accepted.version()
        if at_newest(self.accepted).version() != version:
            self._taken = positions.taken(self.accepted, self.feed.name)
        at_newest(self.quarantine)  # second, as in open: of a batch it can only be ahead
        finish_move(self.feed.name, self.accepted, self.quarantine)

    def _batches(self, reading: Reading) -> Iterator[Batch]:
        """Whole places up to the byte budget; one beyond it comes alone, piece by piece."""
        batch: Batch = []
        size_bytes = 0
        max_bytes = self.feed.max_batch_bytes
        for piece in reading.pieces(self._taken, max_bytes=max_bytes):
            if batch and size_bytes + piece.num_bytes > max_bytes:
                yield batch
                batch, size_bytes = [], 0
            batch.append(piece)
            size_bytes += piece.num_bytes
        if batch:
            yield batch

    def finish_batch(self, reading: Reading) -> None:
        """Complete the batch whose quarantine was committed and whose rows were not."""
        name = self.feed.name
        committed = positions.counter(self.accepted, name, "batch")
        if positions.counter(self.quarantine, name, "batch") <= committed:
            return
        if self._is_finished_by_another(committed):
            self.finish_batch(reading)  # it may have begun the next one
            return
        said = last_metadata(self.quarantine)
        try:
            batch = [reading.reread(address) for address in said["pieces"]]
        except IngestError as error:
            kind = SourceUnavailable if isinstance(error, SourceUnavailable) else IngestError
            raise kind(f"{name}: batch {committed + 1} is half committed: {error}") from error
        text = said["contract"]
        contract = parse_contract(text, source=f"contract of batch {committed + 1}")
        self._commit(batch, contract, text, said=said)

    def _is_finished_by_another(self, committed: int) -> bool:
        """Give the run that began the batch, if it lives, the time to finish it."""
        deadline = time.monotonic() + self.patience_seconds
        while time.monotonic() < deadline:
            time.sleep(0.1)
            self._open_or_refresh()
            if positions.counter(self.accepted, self.feed.name, "batch") > committed:
                return True
        return False

    def commit(self, batch: Batch) -> None:
        """Commit these pieces, quarantine first, and stand behind them."""
        self._commit(batch, self.contract, self.contract_text)

    def _commit(
        self,
        batch: Batch,
        contract: Contract,
        contract_text: str,
        *,
        said: dict[str, Any] | None = None,
    ) -> None:
        name = self.feed.name
        decoded = [self.decode(contract, piece) for piece in batch]
        number = positions.counter(self.accepted, name, "batch") + 1
        refused = pa.concat_tables([part.quarantined for part in decoded])
        num_erased_refused = sum(part.num_erased_refused for part in decoded)
        num_refused = refused.num_rows + num_erased_refused
        if said is None:
            assert positions.counter(self.quarantine, name, "batch") < number
            append(
                self.quarantine,
                refused,
                positions={positions.counter_app(name, "batch"): number},
                metadata=self._batch_metadata(
                    batch, contract, contract_text, refused.num_rows, num_erased_refused
                ),
            )
        fault_point("after_quarantine")
        valid = pa.concat_tables([part.accepted for part in decoded])
        rows = self.feed.without_duplicates(valid, self.accepted)
        quarantined = said["quarantined"] if said else refused.num_rows
        erased_refused = said.get("erased", 0) if said else num_erased_refused
        # Refused then, and no longer in the source.
        gone = quarantined + erased_refused - num_refused
        counts = {
            "received": sum(part.num_received for part in decoded) + gone,
            "quarantined": quarantined,
            "duplicates": valid.num_rows - rows.num_rows,
            "ignored": sum(part.num_ignored for part in decoded),
            "erased": sum(part.num_erased for part in decoded) + erased_refused,
        }
        after = _positions_after(batch)
        notices = [notice for piece in batch for notice in piece.notices]
        append(
            self.accepted,
            rows,
            positions={**positions.apps(name, after), **self._totals_after(number, counts)},
            metadata={"batch": number, "accepted": rows.num_rows, **counts, "notices": notices},
        )
        self._taken |= after
        fault_point("after_commit")
        self._count(batch, rows.num_rows, counts)

    def decode(self, contract: Contract, piece: Piece) -> Decoded:
        """Validate one piece and give its rows all columns of their tables."""
        part = self._without_forgotten(contract, self.feed.decode(contract, piece))
        if not piece.is_replayed:
            part = self.feed.numbered(part, piece, (self.accepted, self.quarantine))
        rows = part.quarantined
        return replace(
            part,
            accepted=part.accepted.append_column(
                SOURCE_FIELDS[0], _constant(piece.place, part.accepted.num_rows)
            ),
            quarantined=rows.append_column(
                SOURCE_FIELDS[0], _constant(piece.place, rows.num_rows)
            ).append_column(
                pa.field("contract_version", pa.string()),
                _constant(contract.version, rows.num_rows),
            ),
        )

    def _without_forgotten(self, contract: Contract, part: Decoded) -> Decoded:
        """Drop rows of people on the suppression list.

        It is read after the tables were opened: who is put on it later makes this commit conflict.
        """
        forgotten = self.suppressions.newest()
        if forgotten is None or not contract.subject_fields():
            return part
        accepted, quarantined = without_forgotten(
            contract, part.accepted, part.quarantined, forgotten
        )
        return replace(
            part,
            accepted=accepted,
            quarantined=quarantined,
            num_erased=part.accepted.num_rows - accepted.num_rows,
            num_erased_refused=part.quarantined.num_rows - quarantined.num_rows,
        )

    def _totals_after(self, number: int, counts: dict[str, int]) -> dict[str, int]:
        name = self.feed.name
        totals = {
            counter: positions.counter(self.accepted, name, counter) + counts[counter]
            for counter in ("received", "duplicates", "ignored", "erased")
        }
        totals["batch"] = number
        return {positions.counter_app(name, counter): n for counter, n in totals.items()}

    def _batch_metadata(
        self,
        batch: Batch,
        contract: Contract,
        contract_text: str,
        num_quarantined: int,
        num_erased: int,
    ) -> dict[str, Any]:
        return {
            "pieces": [piece.address for piece in batch],
            "quarantined": num_quarantined,
            "erased": num_erased,
            "contract_version": contract.version,
            "contract": contract_text,
        }

    def _count(self, batch: Batch, num_accepted: int, counts: dict[str, int]) -> None:
        report = self.report
        report.num_batches += 1
        report.num_places += sum(piece.is_end for piece in batch)
        report.num_bytes += sum(piece.num_bytes for piece in batch)
        report.notices += [notice for piece in batch for notice in piece.notices]
        report.num_accepted += num_accepted
        report.num_received += counts["received"]
        report.num_quarantined += counts["quarantined"]
        report.num_duplicates += counts["duplicates"]
        report.num_ignored += counts["ignored"]
        report.num_erased += counts["erased"]
        if self.progress:
            self.progress(report)


def ingest(lake: Lake, feed: Feed, *, progress: Progress | None = None) -> IngestReport:
    """Take what the feed has that its tables lack; running it again changes nothing."""
    return Ingestion(lake, feed, progress=progress).run()


def account(lake: Lake, feed: Feed) -> Account:
    """Totals since the first batch: rows counted in the tables, lines counted while reading.

    Of a moment when no other run is between a batch's two commits, or a move's, if there is one
    within ``HALF_DONE_SECONDS``.
    """
    deadline = time.monotonic() + HALF_DONE_SECONDS
    while True:
        accepted, quarantine = lake.open(feed.table), lake.open(feed.quarantine_table)
        if _is_settled(feed.name, accepted, quarantine) or time.monotonic() > deadline:
            break
        time.sleep(0.05)
    return Account(
        received=positions.counter(accepted, feed.name, "received"),
        duplicates=positions.counter(accepted, feed.name, "duplicates"),
        ignored=positions.counter(accepted, feed.name, "ignored"),
        accepted=num_rows(accepted),
        quarantined=num_rows(quarantine),
        erased=positions.counter(accepted, feed.name, "erased")
        + positions.counter(quarantine, feed.name, "erased"),
    )


def _is_settled(stream: str, accepted: DeltaTable, quarantine: DeltaTable) -> bool:
    return all(
        positions.counter(accepted, stream, name) == positions.counter(quarantine, stream, name)
        for name in ("batch", MOVE)
    )


def _positions_after(batch: Batch) -> dict[str, int]:
    return {name: at for piece in batch for name, at in piece.positions_after.items()}


def _constant(value: str, num_rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), num_rows)
