"""A source into two tables, exactly once: the rows accepted, and those set aside.

Per batch, the quarantine is committed first and names the batch and its contract; the accepted
rows follow with the positions. A run that dies between the two is finished by the next one: the
same records, the same contract, before anything else is read.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable

from scale_assets.contracts import QUARANTINE_SCHEMA, Contract, Mode, parse_contract
from scale_assets.ingest import positions
from scale_assets.ingest.contract_history import ContractHistory
from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.moves import finish_move
from scale_assets.ingest.source import Piece, Reading, Source
from scale_assets.lake import ConcurrentCommit, Lake, fault_point
from scale_assets.lake.commits import append
from scale_assets.lake.history import last_metadata

MAX_BATCH_BYTES = 64 << 20
SOURCE_FIELDS = (pa.field("_source_file", pa.string()), pa.field("_position", pa.int64()))
EVENT_DATE = pa.field("event_date", pa.date32())

Batch = list[Piece]
Progress = Callable[["IngestReport"], None]


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """One piece's rows: accepted (with EVENT_DATE if any), quarantined, and neither (ignored)."""

    accepted: pa.Table
    quarantined: pa.Table
    num_received: int
    num_ignored: int = 0


@dataclass(kw_only=True)
class IngestReport:
    """What one run did. received = accepted + quarantined + duplicates + ignored."""

    stream: str
    num_received: int = 0
    num_accepted: int = 0
    num_quarantined: int = 0
    num_duplicates: int = 0
    num_ignored: int = 0
    num_batches: int = 0
    num_places: int = 0  # read to their end: files, partitions
    num_bytes: int = 0
    seconds: float = 0.0
    broken: dict[str, str] = field(default_factory=dict)

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

    @property
    def is_exact(self) -> bool:
        return self.received == (self.accepted + self.quarantined + self.duplicates + self.ignored)


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
    def decode(self, contract: Contract, piece: Piece, _table: DeltaTable, /) -> Decoded:
        """Validate one piece."""

    @abstractmethod
    def without_duplicates(self, rows: pa.Table, table: DeltaTable) -> pa.Table:
        """The rows, in order, that are neither in the table nor twice in themselves."""

    def numbered(
        self, part: Decoded, _piece: Piece, _accepted: DeltaTable, _quarantine: DeltaTable, /
    ) -> Decoded:
        """Give rows the numbers that depend on what came before them, where a feed has any."""
        return part

    @property
    def kept_in_quarantine(self) -> pa.Schema:
        """What a refused row carries besides its bytes and its position, for the day it passes."""
        return self.source.columns

    @property
    def quarantine_schema(self) -> pa.Schema:
        columns = [f for f in QUARANTINE_SCHEMA if f.name != "_position"]
        version = pa.field("contract_version", pa.string())
        return pa.schema([*columns, *self.source.columns, *SOURCE_FIELDS, version, EVENT_DATE])

    def load_contract(self) -> tuple[Contract, str]:
        text = self.contract_path.read_text(encoding="utf-8")
        return parse_contract(text, source=str(self.contract_path)), text


class Ingestion:
    """One run of one feed."""

    def __init__(self, lake: Lake, feed: Feed, *, progress: Progress | None = None) -> None:
        self.lake = lake
        self.feed = feed
        self.progress = progress
        self.report = IngestReport(stream=feed.name)
        self.contract, self.contract_text = feed.load_contract()

    def run(self) -> IngestReport:
        """Read on from where the table stands until nothing is left.

        Places that are broken, or changed since they were taken, are in ``report.broken``; no row
        of theirs is. Two runs at once are safe: one gets through, the other starts again behind.
        """
        started = time.monotonic()
        with self.feed.source.reading() as reading:
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
            for batch in self._batches(reading):
                self.commit(batch)
                reading.acknowledge(self.taken)
        except ConcurrentCommit:
            return False  # the other run got through, so every round brings the table forward
        return True

    def settle(self, reading: Reading) -> None:
        """Open the tables, and finish whatever a run that died had begun."""
        self.open()
        finish_move(self.feed.name, self.accepted, self.quarantine)
        self.finish_batch(reading)

    @property
    def taken(self) -> dict[str, int]:
        """The source's positions that the accepted table holds."""
        return self._taken

    def open(self) -> None:
        """Create or open both tables, brought to the contract, if it may follow the earlier ones."""
        feed, contract = self.feed, self.contract
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
        if positions.counter(self.quarantine, name, "batch") == committed:
            return
        said = last_metadata(self.quarantine)
        try:
            batch = [reading.reread(address) for address in said["pieces"]]
        except IngestError as error:
            raise IngestError(
                f"{name}: batch {committed + 1} is half committed: {error}"
            ) from error
        text = said["contract"]
        contract = parse_contract(text, source=f"contract of batch {committed + 1}")
        self._commit(batch, contract, text)

    def commit(self, batch: Batch) -> None:
        """Commit these pieces, quarantine first, and stand behind them."""
        self._commit(batch, self.contract, self.contract_text)

    def _commit(self, batch: Batch, contract: Contract, contract_text: str) -> None:
        name = self.feed.name
        decoded = [self.decode(contract, piece) for piece in batch]
        number = positions.counter(self.accepted, name, "batch") + 1
        if positions.counter(self.quarantine, name, "batch") < number:
            append(
                self.quarantine,
                pa.concat_tables([part.quarantined for part in decoded]),
                positions={positions.counter_app(name, "batch"): number},
                metadata=self._batch_metadata(batch, contract, contract_text),
            )
        fault_point("after_quarantine")
        valid = pa.concat_tables([part.accepted for part in decoded])
        rows = self.feed.without_duplicates(valid, self.accepted)
        counts = {
            "received": sum(part.num_received for part in decoded),
            "quarantined": sum(part.quarantined.num_rows for part in decoded),
            "duplicates": valid.num_rows - rows.num_rows,
            "ignored": sum(part.num_ignored for part in decoded),
        }
        after = {name: at for piece in batch for name, at in piece.positions_after.items()}
        append(
            self.accepted,
            rows,
            positions={**positions.apps(name, after), **self._totals_after(number, counts)},
            metadata={"batch": number, "accepted": rows.num_rows, **counts},
        )
        self._taken |= after
        fault_point("after_commit")
        self._count(batch, rows.num_rows, counts)

    def decode(self, contract: Contract, piece: Piece) -> Decoded:
        """Validate one piece and give its rows all columns of their tables."""
        part = self.feed.decode(contract, piece, self.accepted)
        part = self.feed.numbered(part, piece, self.accepted, self.quarantine)
        rows = part.quarantined
        return Decoded(
            accepted=part.accepted.append_column(
                SOURCE_FIELDS[0], _constant(piece.place, part.accepted.num_rows)
            ),
            quarantined=rows.append_column(
                SOURCE_FIELDS[0], _constant(piece.place, rows.num_rows)
            ).append_column(
                pa.field("contract_version", pa.string()),
                _constant(contract.version, rows.num_rows),
            ),
            num_received=part.num_received,
            num_ignored=part.num_ignored,
        )

    def _totals_after(self, number: int, counts: dict[str, int]) -> dict[str, int]:
        name = self.feed.name
        totals = {
            counter: positions.counter(self.accepted, name, counter) + counts[counter]
            for counter in ("received", "duplicates", "ignored")
        }
        totals["batch"] = number
        return {positions.counter_app(name, counter): n for counter, n in totals.items()}

    def _batch_metadata(
        self, batch: Batch, contract: Contract, contract_text: str
    ) -> dict[str, Any]:
        return {
            "pieces": [piece.address for piece in batch],
            "contract_version": contract.version,
            "contract": contract_text,
        }

    def _count(self, batch: Batch, num_accepted: int, counts: dict[str, int]) -> None:
        report = self.report
        report.num_batches += 1
        report.num_places += sum(piece.is_end for piece in batch)
        report.num_bytes += sum(piece.num_bytes for piece in batch)
        report.num_accepted += num_accepted
        report.num_received += counts["received"]
        report.num_quarantined += counts["quarantined"]
        report.num_duplicates += counts["duplicates"]
        report.num_ignored += counts["ignored"]
        if self.progress:
            self.progress(report)


def ingest(lake: Lake, feed: Feed, *, progress: Progress | None = None) -> IngestReport:
    """Take what the feed has that its tables lack; running it again changes nothing."""
    return Ingestion(lake, feed, progress=progress).run()


def account(lake: Lake, feed: Feed) -> Account:
    """Totals since the first batch: rows counted in the tables, lines counted while reading."""
    table = lake.open(feed.table)
    return Account(
        received=positions.counter(table, feed.name, "received"),
        duplicates=positions.counter(table, feed.name, "duplicates"),
        ignored=positions.counter(table, feed.name, "ignored"),
        accepted=lake.num_rows(feed.table),
        quarantined=lake.num_rows(feed.quarantine_table),
    )


def _constant(value: str, num_rows: int) -> pa.Array:
    return pa.repeat(pa.scalar(value, pa.string()), num_rows)
