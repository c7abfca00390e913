"""A source into two tables, exactly once: the rows accepted, and those set aside.

Per batch, the quarantine is committed first and names the batch and its contract; the accepted
rows follow with the positions. A run that dies between the two is finished by the next one: the
same records, the same contract, before anything else is read. So is a move out of the quarantine.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import Any

import pyarrow as pa
from deltalake.exceptions import DeltaError

from scale_assets.contracts import Contract, parse_contract
from scale_assets.ingest import positions
from scale_assets.ingest.account import IngestReport, Progress
from scale_assets.ingest.ahead import one_ahead
from scale_assets.ingest.batch import Batch, Ready, counted, with_source, without_erased
from scale_assets.ingest.contract_history import ContractHistory
from scale_assets.ingest.errors import IngestError, SourceUnavailable
from scale_assets.ingest.feed import Decoded, Feed
from scale_assets.ingest.moves import finish_move
from scale_assets.ingest.source import Piece, Reading
from scale_assets.ingest.suppression import SuppressionList
from scale_assets.lake import ConcurrentCommit, Lake, fault_point
from scale_assets.lake.commits import append, at_newest
from scale_assets.lake.history import is_cut_off, last_metadata


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
        self.without_duplicates = feed.deduplicator()
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
        with closing(self._ready(reading)) as batches:
            for ready in batches:
                self._commit_unless_taken(ready, reading)
                fault_point("before_acknowledge")
                reading.acknowledge(self.taken)
                if reading.stopping.is_set():
                    break

    def _ready(self, reading: Reading) -> Generator[Ready]:
        batches = self._batches(reading)
        ahead = one_ahead if reading.is_complete else map
        yield from ahead(self.prepared, batches)

    def prepared(self, batch: Batch) -> Ready:
        """The batch decoded, which does not depend on where the tables stand."""
        text = self.contract_text  # first, as ``open`` sets it last: never newer than the contract
        return self._decoded(batch, self.contract, text)

    def _decoded(self, batch: Batch, contract: Contract, contract_text: str) -> Ready:
        parts = [self.feed.decode(contract, piece) for piece in batch]
        return Ready(batch, parts, contract, contract_text)

    def _commit_unless_taken(self, ready: Ready, reading: Reading) -> None:
        """Commit, and again after each conflict with a commit that took none of these records."""
        while True:
            before = {name: self._taken.get(name) for name in ready.positions_after}
            try:
                return self.commit(ready)
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
        if not self.is_open or self.feed.has_new_contract(self.contract_text):
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
        self._commit(self._decoded(batch, contract, text), said=said)

    def _is_finished_by_another(self, committed: int) -> bool:
        """Give the run that began the batch, if it lives, the time to finish it."""
        deadline = time.monotonic() + self.patience_seconds
        while time.monotonic() < deadline:
            time.sleep(0.1)
            self._open_or_refresh()
            if positions.counter(self.accepted, self.feed.name, "batch") > committed:
                return True
        return False

    def commit(self, ready: Ready) -> None:
        """Commit this batch, quarantine first, and stand behind it."""
        if ready.contract_text != self.contract_text:  # it changed since
            ready = self.prepared(ready.batch)
        self._commit(ready)

    def _commit(self, ready: Ready, *, said: dict[str, Any] | None = None) -> None:
        """``said``: what the batch's quarantine says of it, where that is committed already."""
        name = self.feed.name
        number = positions.counter(self.accepted, name, "batch") + 1
        parts = [
            self.settled(ready.contract, piece, part)
            for piece, part in zip(ready.batch, ready.parts, strict=True)
        ]
        if said is None:
            assert positions.counter(self.quarantine, name, "batch") < number
            said = ready.metadata(parts)
            append(
                self.quarantine,
                pa.concat_tables([part.quarantined for part in parts]),
                positions={positions.counter_app(name, "batch"): number},
                metadata=said,
            )
        fault_point("after_quarantine")
        valid = pa.concat_tables([part.accepted for part in parts])
        rows = self.without_duplicates(valid, self.accepted)
        counts = counted(parts, said, num_duplicates=valid.num_rows - rows.num_rows)
        after = ready.positions_after
        append(
            self.accepted,
            rows,
            positions={**positions.apps(name, after), **self._totals_after(number, counts)},
            metadata={
                "batch": number,
                "accepted": rows.num_rows,
                **counts,
                "notices": ready.notices,
            },
        )
        self._taken |= after
        fault_point("after_commit")
        self._count(ready.batch, rows.num_rows, counts)

    def decode(self, contract: Contract, piece: Piece) -> Decoded:
        """Validate one piece and give its rows all columns of their tables."""
        return self.settled(contract, piece, self.feed.decode(contract, piece))

    def settled(self, contract: Contract, piece: Piece, part: Decoded) -> Decoded:
        """A decoded piece with all columns of its tables, as they and the suppression list stand.

        The list is read after the tables were opened: who is put on it later makes this commit
        conflict.
        """
        part = without_erased(contract, part, self.suppressions.newest())
        if not piece.is_replayed:
            part = self.feed.numbered(part, piece, (self.accepted, self.quarantine))
        return with_source(part, piece, contract)

    def _totals_after(self, number: int, counts: dict[str, int]) -> dict[str, int]:
        name = self.feed.name
        totals = {
            counter: positions.counter(self.accepted, name, counter) + counts[counter]
            for counter in ("received", "duplicates", "ignored", "erased")
        }
        totals["batch"] = number
        return {positions.counter_app(name, counter): n for counter, n in totals.items()}

    def _count(self, batch: Batch, num_accepted: int, counts: dict[str, int]) -> None:
        self.report.add(batch, num_accepted, counts)
        if self.progress:
            self.progress(self.report)


def ingest(lake: Lake, feed: Feed, *, progress: Progress | None = None) -> IngestReport:
    """Take what the feed has that its tables lack; running it again changes nothing."""
    return Ingestion(lake, feed, progress=progress).run()
