"""A stream of pgoutput messages to Arrow: whole transactions, or parts of large ones, at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scale_assets.ingest.postgres.blocks import Block, block_of, truncation_of
from scale_assets.ingest.postgres.clock import set_times
from scale_assets.ingest.postgres.errors import ProtocolError
from scale_assets.ingest.postgres.frames import Chunk, Frame
from scale_assets.ingest.postgres.messages import (
    DELETE,
    INSERT,
    MESSAGE,
    RELATION,
    TRUNCATE,
    TYPE,
    UPDATE,
    LogicalMessage,
    Relation,
    read_message,
    read_relation,
    read_truncate,
    read_type,
)
from scale_assets.ingest.postgres.transactions import Open, Transactions, transactions_of
from scale_assets.ingest.postgres.tuples import Ints
from scale_assets.ingest.postgres.types import BUILT_IN, type_name

Keys = Mapping[str, tuple[str, ...]]  # relation's name to the columns that name its rows


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What a run of frames says of the relations that were asked for."""

    blocks: list[Block]
    messages: list[LogicalMessage]
    num_changes: int  # of all relations
    last_commit: int | None  # log position of the last transaction that ended here
    is_whole: bool  # no transaction is open


@dataclass(frozen=True)
class _Described:
    """A relation from one message on, with its columns' types by name."""

    since: int
    relation: Relation
    types: tuple[str, ...]


class Decoder:
    """One replication stream from its start; it remembers what relations look like."""

    def __init__(self, keys: Keys, *, simulated_clock: bool = False) -> None:
        """``simulated_clock``: transactions may say when they happened."""
        self._keys = keys
        self._simulated_clock = simulated_clock
        self._described: dict[int, _Described] = {}
        self._types = dict(BUILT_IN)
        self._open: Open | None = None

    @property
    def is_open(self) -> bool:
        """Whether a transaction has begun and not ended yet."""
        return self._open is not None

    def decode(self, frames: Sequence[Frame]) -> Decoded:
        """Decode the frames that follow those decoded before.

        Raises:
            ProtocolError: They are not what PostgreSQL writes.
        """
        chunk = Chunk.of(frames)
        messages = [(int(at), read_message(chunk.message(at))) for at in chunk.all(MESSAGE)]
        transactions = transactions_of(chunk, self._open)
        if self._simulated_clock:
            set_times(transactions, messages)
        known = self._known(chunk)
        blocks = [*self._changed(chunk, transactions, known)]
        blocks += self._truncated(chunk, transactions, known)
        self._described = {oid: replace(each[-1], since=-1) for oid, each in known.items()}
        self._open = transactions.open
        return Decoded(
            blocks=blocks,
            messages=[message for _, message in messages],
            num_changes=len(chunk.all(INSERT, UPDATE, DELETE, TRUNCATE)),
            last_commit=transactions.last_commit,
            is_whole=self._open is None,
        )

    def _known(self, chunk: Chunk) -> dict[int, list[_Described]]:
        """Each relation's definitions in turn; one told again without a change counts once."""
        known = {oid: [described] for oid, described in self._described.items()}
        for at in chunk.all(RELATION, TYPE):
            message = chunk.message(at)
            if message[0] == TYPE:
                oid, name = read_type(message)
                self._types[oid] = name
                continue
            relation = read_relation(message)
            types = tuple(type_name(self._types, column.type_oid) for column in relation.columns)
            earlier = known.setdefault(relation.oid, [])
            if not earlier or (earlier[-1].relation, earlier[-1].types) != (relation, types):
                earlier.append(_Described(int(at), relation, types))
        return known

    def _changed(
        self, chunk: Chunk, transactions: Transactions, known: dict[int, list[_Described]]
    ) -> Iterator[Block]:
        changes = chunk.all(INSERT, UPDATE, DELETE)
        if (chunk.starts[changes] + 5 > chunk.ends[changes]).any():
            raise ProtocolError("a change that names no relation")
        oids = chunk.wire.read(4, chunk.starts[changes] + 1)
        for oid in np.unique(oids):
            for described, messages in _by_definition(known, int(oid), changes[oids == oid]):
                key = self._keys.get(described.relation.name)
                if key is not None:
                    yield block_of(
                        chunk,
                        transactions,
                        messages,
                        relation=described.relation,
                        types=described.types,
                        key=key,
                    )

    def _truncated(
        self, chunk: Chunk, transactions: Transactions, known: dict[int, list[_Described]]
    ) -> Iterator[Block]:
        emptied: dict[int, list[int]] = {}
        for at in chunk.all(TRUNCATE):
            for oid in read_truncate(chunk.message(at)):
                emptied.setdefault(oid, []).append(int(at))
        for oid, numbers in emptied.items():
            for described, messages in _by_definition(known, oid, np.array(numbers)):
                if described.relation.name in self._keys:
                    yield truncation_of(
                        transactions,
                        messages,
                        relation=described.relation,
                        types=described.types,
                    )


def _by_definition(
    known: dict[int, list[_Described]], oid: int, messages: Ints
) -> Iterator[tuple[_Described, Ints]]:
    """A relation's changes, by the definition that each was made under."""
    described = known.get(oid, [])
    which = np.searchsorted([each.since for each in described], messages, side="right") - 1
    if (which < 0).any():
        raise ProtocolError(f"relation {oid} changes before it is described")
    for number in np.unique(which):
        yield described[number], messages[which == number]
