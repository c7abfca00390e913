"""Which transaction each message belongs to, and which place it has in it."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

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
from scale_assets.ingest.postgres.tuples import Ints

BEGIN_BYTES, COMMIT_BYTES = 21, 26
SHOWN = 5  # where a change says which tuple it shows: after its letter and its relation
EPOCH_US = 946_684_800_000_000  # PostgreSQL counts from 2000-01-01, everybody else from 1970


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
    open: Open | None
    last_commit: int | None


def transactions_of(chunk: Chunk, earlier: Open | None) -> Transactions:
    """Number transactions and changes; ``earlier`` is what the chunk before left open.

    An update that shows its old row takes two ordinals, because it may be a delete and an insert.

    Raises:
        ProtocolError: A change outside of a transaction, or a transaction inside of another.
    """
    begins, commits = chunk.all(BEGIN), chunk.all(COMMIT)
    chunk.require_sizes(begins, BEGIN_BYTES)
    chunk.require_sizes(commits, COMMIT_BYTES)
    is_begin, is_commit = chunk.tags == BEGIN, chunk.tags == COMMIT
    already = int(earlier is not None)
    begun = np.cumsum(is_begin) + already
    depth = begun - np.cumsum(is_commit)
    of = begun - 1
    _check_nesting(chunk, depth)
    at = chunk.starts[begins]
    known = [] if earlier is None else [earlier]
    lsns = _with([each.lsn for each in known], chunk.wire.read(8, at + 1))
    taken = _ordinals_taken(chunk)
    before = np.cumsum(taken) - taken
    bases = _with([-each.num_ordinals for each in known], before[begins])
    committed = chunk.wire.read(8, chunk.starts[commits] + 2)
    if (committed != lsns[of[commits]]).any():
        raise ProtocolError("a commit at another log position than its transaction began with")
    found = Transactions(
        lsns=lsns,
        xids=_with([each.xid for each in known], chunk.wire.read(4, at + 17)),
        committed_at=_with(
            [each.committed_at for each in known], chunk.wire.read(8, at + 9) + EPOCH_US
        ),
        sent_at=_with([each.sent_at for each in known], chunk.sent_at(begins) + EPOCH_US),
        of=of,
        ordinals=before - bases[of] if len(bases) else before,
        open=earlier,
        last_commit=int(committed[-1]) if len(committed) else None,
    )
    if not len(chunk):
        return found
    return replace(
        found, open=_left_open(found, int(taken.sum() - bases[-1])) if depth[-1] else None
    )


def _check_nesting(chunk: Chunk, depth: Ints) -> None:
    changes = chunk.all(INSERT, UPDATE, DELETE, TRUNCATE)
    if ((depth < 0) | (depth > 1)).any() or (depth[changes] != 1).any():
        raise ProtocolError("begin and commit do not enclose the changes between them")


def _ordinals_taken(chunk: Chunk) -> Ints:
    taken = np.zeros(len(chunk), np.int64)
    taken[chunk.all(INSERT, UPDATE, DELETE, TRUNCATE)] = 1
    updates = chunk.all(UPDATE)
    at = chunk.starts[updates] + SHOWN
    if (at >= chunk.ends[updates]).any():
        raise ProtocolError("an update without a row")
    taken[updates] += chunk.wire.bytes_at(at) != NEW
    return taken


def _left_open(found: Transactions, num_ordinals: int) -> Open:
    return Open(
        lsn=int(found.lsns[-1]),
        xid=int(found.xids[-1]),
        committed_at=int(found.committed_at[-1]),
        sent_at=int(found.sent_at[-1]),
        num_ordinals=num_ordinals,
    )


def _with(first: list[int], others: Ints) -> Ints:
    return np.concatenate([np.array(first, np.int64), others])


def times(microseconds: Ints) -> pa.Array:
    """Microseconds since 1970 as UTC times."""
    return pa.array(microseconds, pa.int64()).cast(pa.timestamp("us", tz="UTC"))
