"""The quarantine read again: what the contract accepts by now moves to where it belongs."""

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.ingest import positions
from scale_assets.ingest.feed import Feed, Ingestion
from scale_assets.ingest.moves import IDENTITY, move
from scale_assets.ingest.source import Piece, Reading
from scale_assets.lake import ConcurrentCommit, Lake
from scale_assets.lake.snapshots import snapshot_dataset

LINES_PER_MOVE = 10_000  # their digests are part of the commit's metadata


@dataclass(kw_only=True)
class RevalidationReport:
    """What became of the quarantined lines: moved = accepted + duplicates + ignored."""

    stream: str
    num_examined: int = 0
    num_moved: int = 0
    num_accepted: int = 0
    num_duplicates: int = 0
    num_ignored: int = 0
    seconds: float = 0.0


class Revalidation:
    """One pass over the quarantine of one feed."""

    def __init__(self, lake: Lake, feed: Feed) -> None:
        self.ingestion = Ingestion(lake, feed)
        self.feed = feed
        self.report = RevalidationReport(stream=feed.name)

    def run(self) -> RevalidationReport:
        """Move every line that passes now; those that do not stay as they are.

        Safe to kill, to repeat, and to run beside an ingestion: one gets through, the other starts
        again behind.
        """
        started = time.monotonic()
        with self.feed.source.reading() as reading:
            while not self._through(reading):
                pass
        self.report.seconds = time.monotonic() - started
        return self.report

    def _through(self, reading: Reading) -> bool:
        try:
            self.ingestion.settle(reading)
            self.report.num_examined = 0
            for lines in self._lines():
                self.report.num_examined += lines.num_rows
                self._move(lines)
        except ConcurrentCommit:
            return False
        return True

    def _lines(self) -> Iterator[pa.Table]:
        """The quarantine as it was when the pass began, as many lines as one move may hold."""
        lines = snapshot_dataset(self.ingestion.quarantine)
        pending: list[pa.RecordBatch] = []
        for batch in lines.to_batches(batch_size=LINES_PER_MOVE):
            pending.append(batch)
            held = pa.Table.from_batches(pending)
            if held.num_rows >= LINES_PER_MOVE or held.nbytes >= self.feed.max_batch_bytes:
                yield held
                pending = []
        if any(batch.num_rows for batch in pending):
            yield pa.Table.from_batches(pending)

    def _move(self, lines: pa.Table) -> None:
        contract, feed = self.ingestion.contract, self.feed
        decoded, leaving = [], []
        for piece, of_place in _pieces(feed, lines):
            part = self.ingestion.decode(contract, piece)
            decoded.append(part)
            leaving.append(_without(of_place, part.quarantined).select(IDENTITY))
        moved = pa.concat_tables(leaving)
        if not moved.num_rows:
            return
        valid = pa.concat_tables([part.accepted for part in decoded])
        rows = feed.without_duplicates(valid, self.ingestion.accepted)
        counts = {
            "duplicates": valid.num_rows - rows.num_rows,
            "ignored": sum(part.num_ignored for part in decoded),
        }
        move(
            feed.name,
            self.ingestion.accepted,
            self.ingestion.quarantine,
            rows=rows,
            leaving=moved,
            totals=self._totals_after(counts),
            metadata={"accepted": rows.num_rows, **counts},
        )
        self._count(moved.num_rows, rows.num_rows, counts)

    def _totals_after(self, counts: dict[str, int]) -> dict[str, int]:
        accepted, name = self.ingestion.accepted, self.feed.name
        return {each: positions.counter(accepted, name, each) + n for each, n in counts.items()}

    def _count(self, num_moved: int, num_accepted: int, counts: dict[str, int]) -> None:
        self.report.num_moved += num_moved
        self.report.num_accepted += num_accepted
        self.report.num_duplicates += counts["duplicates"]
        self.report.num_ignored += counts["ignored"]


def revalidate(lake: Lake, feed: Feed) -> RevalidationReport:
    """Move the quarantined lines that the feed's contract accepts now."""
    return Revalidation(lake, feed).run()


def _pieces(feed: Feed, lines: pa.Table) -> Iterator[tuple[Piece, pa.Table]]:
    """The lines of each place as the piece that they would be, had they just come."""
    for place in pc.unique(lines["_source_file"]).to_pylist():
        of_place = lines.filter(pc.equal(lines["_source_file"], place)).sort_by("_position")
        records = of_place["raw"].to_pylist()
        yield (
            Piece(
                place=place,
                records=records,
                first_position=0,
                positions_after={},
                address=[],
                num_bytes=sum(map(len, records)),
                record_positions=of_place["_position"].combine_chunks(),
                attributes=of_place.select(feed.kept_in_quarantine.names),
            ),
            of_place,
        )


def _without(lines: pa.Table, refused: pa.Table) -> pa.Table:
    still = pc.is_in(lines["_position"], value_set=refused["_position"].combine_chunks())
    return lines.filter(pc.invert(still))
