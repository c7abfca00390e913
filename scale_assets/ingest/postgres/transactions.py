"""Which transaction each message belongs to, and which place it has in it."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from scale_assets.contracts.wire import COUNTS_PER_DAY, LAST_DAY
from scale_assets.ingest.postgres.errors import ProtocolError
from scale_assets.ingest.postgres.frames import Chunk
from scale_assets.ingest.postgres.messages import (
    BEGIN,
    COMMIT,
    DELETE,
    INSERT,
    NEW,
    TRUNCATE,
    UPDATE,
)
from scale_assets.ingest.postgres.standing import LSN_MASK
from scale_assets.ingest.postgres.tuples import Ints

BEGIN_BYTES, COMMIT_BYTES = 21, 26
SHOWN = 5  # where a change says which tuple it shows: after its letter and its relation
EPOCH_US = 946_684_800_000_000  # PostgreSQL counts from 2000-01-01, everybody else from 1970
LAST_US = (LAST_DAY + 1) * COUNTS_PER_DAY["us"] - 1


@dataclass(frozen=True, kw_only=True)
class Open:
    """A transaction that has begun and not ended yet."""

    lsn: int
    xid: int
    committed_at: int  # microseconds since 1970
    sent_at: int
    num_ordinals: int = 0  # taken by its changes so far


@dataclass(frozen=True, kw_only=True)
class Transactions:
    """The transactions of a chunk, and by message: its transaction and its ordinal there."""

    lsns: Ints  # of their commits
    xids: Ints
    committed_at: Ints
    sent_at: Ints
    of: Ints
    ordinals: Ints
    last_commit: int | None
    num_open_ordinals: int | None  # of the last one, when it has not ended here

    @property
    def open(self) -> Open | None:
        """What the next chunk goes on with."""
        if self.num_open_ordinals is None:
            return None
        return Open(
            lsn=int(self.lsns[-1]),
            xid=int(self.xids[-1]),
            committed_at=int(self.committed_at[-1]),
            sent_at=int(self.sent_at[-1]),
            num_ordinals=self.num_open_ordinals,
        )


def transactions_of(chunk: Chunk, earlier: Open | None) -> Transactions:
    """Number transactions and changes; ``earlier`` is what the chunk before left open.

    An update that shows its old row takes two ordinals, because it may be a delete and an insert.

    Raises:
        ProtocolError: A change outside of a transaction, or a transaction inside of another.
    """
    begins, commits = chunk.all(BEGIN), chunk.all(COMMIT)
    chunk.require_sizes(begins, BEGIN_BYTES)
    chunk.require_sizes(commits, COMMIT_BYTES)
    begun = np.cumsum(chunk.tags == BEGIN) + int(earlier is not None)
    is_open = _check_nesting(chunk, begun - np.cumsum(chunk.tags == COMMIT), earlier)
    of = begun - 1
    first, at = [] if earlier is None else [earlier], chunk.starts[begins]
    taken = _ordinals_taken(chunk)
    before = np.cumsum(taken) - taken
    bases = _with([-each.num_ordinals for each in first], before[begins])
    lsns = _with([each.lsn for each in first], chunk.wire.read(8, at + 1))
    committed = chunk.wire.read(8, chunk.starts[commits] + 2)
    if (committed != lsns[of[commits]]).any():
        raise ProtocolError("a commit at another log position than its transaction began with")
    times_us = chunk.wire.read(8, at + 9) + EPOCH_US
    sent_us = chunk.sent_at(begins) + EPOCH_US
    _check_range("log position", lsns, LSN_MASK)
    _check_range("time of commit", times_us, LAST_US)
    _check_range("time of sending", sent_us, LAST_US)
    return Transactions(
        lsns=lsns,
        xids=_with([each.xid for each in first], chunk.wire.read(4, at + 17)),
        committed_at=_with([each.committed_at for each in first], times_us),
        sent_at=_with([each.sent_at for each in first], sent_us),
        of=of,
        ordinals=before - bases[of] if len(bases) else before,
        last_commit=int(committed[-1]) if len(committed) else None,
        num_open_ordinals=int(taken.sum() - bases[-1]) if is_open else None,
    )


def _check_nesting(chunk: Chunk, depth: Ints, earlier: Open | None) -> bool:
    """Whether a transaction is open at the end."""
    changes = chunk.all(INSERT, UPDATE, DELETE, TRUNCATE)
    if ((depth < 0) | (depth > 1)).any() or (depth[changes] != 1).any():
        raise ProtocolError("begin and commit do not enclose the changes between them")
    return bool(depth[-1]) if len(depth) else earlier is not None


def _check_range(what: str, numbers: Ints, largest: int) -> None:
    """No server's clock says a time before 1970, or one that calendars cannot show."""
    outside = numbers[(numbers < 0) | (numbers > largest)]
    if len(outside):
        raise ProtocolError(
            f"a transaction's {what} is {outside[0]}; at most {largest} is believed"
        )


def _ordinals_taken(chunk: Chunk) -> Ints:
    taken = np.zeros(len(chunk), np.int64)
    taken[chunk.all(INSERT, UPDATE, DELETE, TRUNCATE)] = 1
    updates = chunk.all(UPDATE)
    at = chunk.starts[updates] + SHOWN
    if (at >= chunk.ends[updates]).any():
        raise ProtocolError("an update without a row")
    taken[updates] += chunk.wire.bytes_at(at) != NEW
    return taken


def _with(first: list[int], others: Ints) -> Ints:
    return np.concatenate([np.array(first, np.int64), others])


def times(microseconds: Ints) -> pa.Array:
    """Microseconds since 1970 as UTC times."""
    return pa.array(microseconds, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
