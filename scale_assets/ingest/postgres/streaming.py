"""The stream of a slot into its tables, window by window, each acknowledged once it is durable."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.ingest.postgres.blocks import Block
from scale_assets.ingest.postgres.chunks import Frames
from scale_assets.ingest.postgres.decoder import Decoded, Decoder
from scale_assets.ingest.postgres.errors import NotPrepared, SlotBusy
from scale_assets.ingest.postgres.replication import Stream
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.ingest.postgres.standing import LSN_MASK, Standing
from scale_assets.ingest.postgres.table_capture import STREAM, TableCapture, behind, stream_place
from scale_assets.lake import fault_point

BUSY_S = 20.0  # a killed reader's connection lives on for a moment
RETRY_S = 0.2
WAIT_S = 0.05
CHANGED = ["u", "d"]
FLUSH_EVERY_S = 2.0  # a commit at most as often while the stream is followed
ADVANCE_BYTES = 16 << 20  # the server frees its log by segments of this size


@dataclass(frozen=True)
class Until:
    """When to stop: at a log position, or when told; exactly one of them is given."""

    lsn: int | None = None
    stop: threading.Event | None = None

    def is_reached(self, wal_end: int) -> bool:
        if self.stop is not None:
            return self.stop.is_set()
        assert self.lsn is not None
        return wal_end >= self.lsn


class Streaming:
    """Reads one slot into the tables that it feeds."""

    def __init__(self, spec: CaptureSpec, tables: Sequence[TableCapture]) -> None:
        self._spec = spec
        self._tables = {table.relation: table for table in tables}
        self._last_commit = 0

    def run(self, until: Until) -> bool:
        """Take what commits until then, and acknowledge it.

        Returns False where a contract was mended first: what is not taken yet is for a reading that
        has opened the tables again.
        """
        after = behind(self._tables.values())
        with self._stream(after) as stream:

            def advance() -> None:
                self._advance(stream)

            stream.confirm(after + 1)
            for decoded in self._windows(stream, until, idle=advance):
                if self._is_between_batches() and self._has_mended_contract():
                    return False
                for block in decoded.blocks:
                    self._add(self._tables[block.relation.name], block)
                self._last_commit = decoded.last_commit or self._last_commit
                if decoded.is_whole:
                    self._commit(stream)
            advance()
        return True

    def _is_between_batches(self) -> bool:
        return not any(table.has_staged for table in self._tables.values())

    def _has_mended_contract(self) -> bool:
        return any(t.feed.has_new_contract(t.contract_text) for t in self._tables.values())

    def finish(self, table: TableCapture, last: int) -> None:
        """Read an unfinished batch of a table again: all that commits up to ``last``."""
        standing = table.standing
        assert standing is not None
        table.begin_again(stream_place(self._spec.slot, table.relation))
        with self._stream(standing.lsn) as stream:
            until = Until(lsn=(last & LSN_MASK) + 1)
            for decoded in self._windows(stream, until, idle=lambda: None):
                for block in decoded.blocks:
                    if block.relation.name == table.relation:
                        self._add(table, block, last=last)
        self._commit_table(table, last)

    @contextmanager
    def _stream(self, after: int) -> Iterator[Stream]:
        spec = self._spec
        with spec.database.replicate() as connection:
            stream = Stream(connection, f"slot {spec.slot} of database {spec.database.name}")
            give_up = time.monotonic() + BUSY_S
            while True:
                try:
                    stream.start(spec.slot, after=after, publication=spec.publication)
                    break
                except SlotBusy:
                    if time.monotonic() > give_up:
                        raise
                    time.sleep(RETRY_S)
            yield stream
            stream.close()

    def _windows(
        self, stream: Stream, until: Until, *, idle: Callable[[], None]
    ) -> Iterator[Decoded]:
        """Whole transactions, as many as fit; one that does not fit comes in parts."""
        keys = {name: table.contract.primary_key for name, table in self._tables.items()}
        decoder = Decoder(keys, simulated_clock=self._spec.simulated_clock)
        frames = Frames(self._spec.max_batch_bytes)
        flush_at = time.monotonic() + FLUSH_EVERY_S
        while True:
            came = stream.read(max_bytes=frames.room, wait_s=WAIT_S)
            frames.add(came)
            is_reached = until.is_reached(stream.wal_end)
            is_due = until.stop is not None and time.monotonic() >= flush_at
            if is_reached or is_due or not frames.room:
                flush_at = time.monotonic() + FLUSH_EVERY_S
                taken = frames.take()
                if taken:
                    yield decoder.decode(taken)
            if not decoder.is_open and (is_reached or not (came or len(frames))):
                if is_reached:
                    return
                idle()
            stream.ask()

    def _add(self, table: TableCapture, block: Block, *, last: int | None = None) -> None:
        """Stage what the table lacks of a block."""
        standing = table.standing
        assert standing is not None
        lsns = pc.add(block.about["lsn"], standing.incarnation.lifted(0))
        lacking = pc.greater(lsns, standing.at)
        if last is not None:
            lacking = pc.and_(lacking, pc.less_equal(lsns, last))
        new = block.at(lsns).where(lacking)
        if len(new):
            _require_identity(new, table)
            table.add(new, place=stream_place(self._spec.slot, table.relation))

    def _commit(self, stream: Stream) -> None:
        """Every table that got rows first, then the acknowledgement."""
        for table in self._tables.values():
            if table.has_staged:
                assert table.standing is not None
                self._commit_table(table, table.standing.incarnation.lifted(self._last_commit))
        fault_point("before_acknowledge")
        stream.confirm(behind(self._tables.values()) + 1)

    def _commit_table(self, table: TableCapture, at: int) -> None:
        assert table.standing is not None
        place = stream_place(self._spec.slot, table.relation)
        table.commit_batch(Standing(table.standing.incarnation, at), [STREAM, place, at])

    def _advance(self, stream: Stream) -> None:
        """Nothing of ours is left before ``wal_end``: let the server free its log up to there."""
        done = stream.wal_end - 1
        if done - behind(self._tables.values()) < ADVANCE_BYTES:
            return
        for table in self._tables.values():
            assert table.standing is not None
            if table.standing.lsn < done:
                self._commit_table(table, table.standing.incarnation.lifted(done))
        stream.confirm(stream.wal_end)


def _require_identity(block: Block, table: TableCapture) -> None:
    """Updates and deletes that do not carry the contract's key name no row.

    Raises:
        NotPrepared: The table's replica identity, or its key, changed while it was captured.
    """
    key, carried = table.contract.primary_key, block.relation.identity_columns
    if set(key) <= carried or not pc.any(pc.is_in(block.about["op"], pa.array(CHANGED))).as_py():
        return
    raise NotPrepared(
        f"table {table.relation}: updates and deletes carry {sorted(carried)}, not the contract's "
        f"key {list(key)}; run ALTER TABLE {table.relation} REPLICA IDENTITY FULL (or USING INDEX "
        f"<a unique one on the key>), then `scale capture --resync` for what was changed before"
    )
