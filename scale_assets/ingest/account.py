"""What one run did, and what a stream has done since its first batch: every record accounted for."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from deltalake import DeltaTable

from scale_assets.ingest import positions
from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.feed import Feed
from scale_assets.ingest.moves import MOVE
from scale_assets.ingest.source import Piece
from scale_assets.lake import Lake
from scale_assets.lake.history import num_rows

HALF_DONE_SECONDS = 5.0  # how long a run that lives may take between two commits that are one

Progress = Callable[["IngestReport"], None]


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

    def add(self, batch: Sequence[Piece], num_accepted: int, counts: Mapping[str, int]) -> None:
        """Count one batch that was committed."""
        self.num_batches += 1
        self.num_places += sum(piece.is_end for piece in batch)
        self.num_bytes += sum(piece.num_bytes for piece in batch)
        self.notices += [notice for piece in batch for notice in piece.notices]
        self.num_accepted += num_accepted
        self.num_received += counts["received"]
        self.num_quarantined += counts["quarantined"]
        self.num_duplicates += counts["duplicates"]
        self.num_ignored += counts["ignored"]
        self.num_erased += counts["erased"]

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
