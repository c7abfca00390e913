"""The quarantine read again: what the contract accepts by now moves to where it belongs."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.ingest import positions
from scale_assets.ingest.feed import Feed
from scale_assets.ingest.ingestion import Ingestion
from scale_assets.ingest.moves import IDENTITY, MOVE, begin_move
from scale_assets.ingest.source import UNREADABLE, Piece
from scale_assets.lake import ConcurrentCommit, Lake
from scale_assets.lake.snapshots import snapshot_dataset

LINES_PER_MOVE = 10_000  # their digests are part of the commit's metadata


@dataclass(kw_only=True)
class RevalidationReport:
    """What became of the quarantined lines: a line that moved is a row, or two if it moves a key."""

    stream: str
    num_examined: int = 0
    num_moved: int = 0
    num_accepted: int = 0
    num_duplicates: int = 0
    num_ignored: int = 0
    num_erased: int = 0  # of people on the suppression list
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Passing:
    """Lines that pass now, and the rows that they are."""

    lines: pa.Table  # the columns of IDENTITY
    rows: pa.Table
    num_ignored: int
    num_erased: int

    @property
    def num_settled(self) -> int:
        """What the lines came to, as records received: a moved key is two."""
        num_rows: int = self.rows.num_rows
        return num_rows + self.num_ignored + self.num_erased


class Revalidation:
    """One pass over the quarantine of one feed.

    ``settle`` brings the tables of the ingestion forward, and finishes whatever a run that died
    had begun; it raises ConcurrentCommit where another run came between.
    """

    def __init__(self, ingestion: Ingestion, settle: Callable[[], None]) -> None:
        self.ingestion = ingestion
        self.feed = ingestion.feed
        self.settle = settle
        self.num_moves = 0  # that the stream ever saw, this pass's included
        self.report = RevalidationReport(stream=ingestion.feed.name)

    def run(self) -> RevalidationReport:
        """Move every line that passes now; those that do not stay as they are.

        Safe to kill, to repeat, and to run beside ingestions and followers: one gets through, the
        other starts again behind.
        """
        started = time.monotonic()
        self._settled()
        while not self._through():
            pass
        self.report.seconds = time.monotonic() - started
        return self.report

    def _through(self) -> bool:
        """Every line once; False when another replay came between."""
        self.report.num_examined = 0
        self.num_moves = self._num_moves()
        for lines in self._lines():
            self.report.num_examined += lines.num_rows
            passing = self._passing(lines)
            if passing.lines.num_rows and not self._move(passing):
                return False
        self._settled()  # which takes the last lines out
        return True

    def _move(self, passing: Passing) -> bool:
        """Begin a move, which the next settling ends; False when another replay came between."""
        while True:
            self._settled()
            if self._num_moves() != self.num_moves:
                return False
            try:
                self._begin(passing)
            except ConcurrentCommit:
                continue  # what was read in between may be a duplicate now
            self.num_moves += 1
            return True

    def _settled(self) -> None:
        while True:
            try:
                return self.settle()
            except ConcurrentCommit:
                continue  # the other run got through

    def _num_moves(self) -> int:
        return positions.counter(self.ingestion.accepted, self.feed.name, MOVE)

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

    def _passing(self, lines: pa.Table) -> Passing:
        decoded, leaving = [], []
        for piece, of_place in _pieces(self.feed, lines):
            part = self.ingestion.decode(self.ingestion.contract, piece)
            decoded.append(part)
            leaving.append(_without(of_place, part.quarantined).select(IDENTITY))
        return Passing(
            lines=pa.concat_tables(leaving),
            rows=pa.concat_tables([part.accepted for part in decoded]),
            num_ignored=sum(part.num_ignored for part in decoded),
            num_erased=sum(part.num_erased + part.num_erased_refused for part in decoded),
        )

    def _begin(self, passing: Passing) -> None:
        accepted = self.ingestion.accepted
        rows = self.ingestion.without_duplicates(passing.rows, accepted)
        counts = {
            "received": passing.num_settled - passing.lines.num_rows,
            "duplicates": passing.rows.num_rows - rows.num_rows,
            "ignored": passing.num_ignored,
            "erased": passing.num_erased,
        }
        begin_move(
            self.feed.name,
            accepted,
            rows=rows,
            leaving=passing.lines,
            totals=self._totals_after(counts),
            metadata={"accepted": rows.num_rows, **counts},
        )
        self.report.num_moved += passing.lines.num_rows
        self.report.num_accepted += rows.num_rows
        self.report.num_duplicates += counts["duplicates"]
        self.report.num_ignored += counts["ignored"]
        self.report.num_erased += counts["erased"]

    def _totals_after(self, counts: dict[str, int]) -> dict[str, int]:
        accepted, name = self.ingestion.accepted, self.feed.name
        return {each: positions.counter(accepted, name, each) + n for each, n in counts.items()}


def revalidate(lake: Lake, feed: Feed) -> RevalidationReport:
    """Move the quarantined lines that the feed's contract accepts now."""
    ingestion = Ingestion(lake, feed)
    with ingestion.source.reading() as reading:
        return Revalidation(ingestion, lambda: ingestion.settle(reading)).run()


def _pieces(feed: Feed, lines: pa.Table) -> Iterator[tuple[Piece, pa.Table]]:
    """The lines of each place as the piece that they would be, had they just come."""
    for place in pc.unique(lines["_source_file"]).to_pylist():
        of_place = lines.filter(pc.equal(lines["_source_file"], place)).sort_by("_position")
        records, refused = _readable(feed, of_place)
        yield (
            Piece(
                place=place,
                records=records,
                refused=refused,
                first_position=0,
                positions_after={},
                address=[],
                num_bytes=sum(map(len, records)),
                record_positions=of_place["_position"].combine_chunks(),
                attributes=of_place.select(feed.kept_in_quarantine.names),
                is_replayed=True,
            ),
            of_place,
        )


def _readable(feed: Feed, lines: pa.Table) -> tuple[list[bytes], dict[int, str]]:
    """The lines, those that the transport could not read tried once more; why some still cannot."""
    records = lines["raw"].to_pylist()
    unread = [at for at, rule in enumerate(lines["rule"].to_pylist()) if rule == UNREADABLE]
    found, refused = feed.source.lines([records[at] for at in unread])
    for at, line in zip(unread, found, strict=True):
        records[at] = line
    return records, {unread[at]: reason for at, reason in refused.items()}


def _without(lines: pa.Table, refused: pa.Table) -> pa.Table:
    still = pc.is_in(lines["_position"], value_set=refused["_position"].combine_chunks())
    return lines.filter(pc.invert(still))
