"""Changes of one relation, defined as it was when they were made: rows as text, and what happened."""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.ingest.postgres.errors import ProtocolError
from scale_assets.ingest.postgres.frames import Chunk
from scale_assets.ingest.postgres.messages import (
    DELETE,
    INSERT,
    KEY,
    NEW,
    OLD,
    TEXT,
    UNCHANGED,
    UPDATE,
    Relation,
)
from scale_assets.ingest.postgres.transactions import SHOWN, Transactions, times
from scale_assets.ingest.postgres.tuples import Ints, Tuples, texts, walk

TIMESTAMP = pa.timestamp("us", tz="UTC")
NAMES = pa.list_(pa.field("element", pa.string()))
ABOUT = pa.schema(
    [
        ("op", pa.string()),
        ("event_time", TIMESTAMP),
        ("received_at", TIMESTAMP),
        ("lsn", pa.int64()),
        ("tx_id", pa.int64()),
        ("tx_ordinal", pa.int64()),
        ("unchanged", NAMES),  # columns whose value was not sent: it is what it was
    ]
)
OPS = ["c", "u", "d", "t"]
CREATED, UPDATED, DELETED, TRUNCATED = range(4)


@dataclass(frozen=True, kw_only=True)
class Block:
    """Rows of one definition in order; ``about`` has a row for each."""

    relation: Relation
    types: tuple[str, ...]  # of the relation's columns
    rows: pa.Table  # the columns as bytes of UTF-8 text
    about: pa.Table  # ABOUT
    moved_from: pa.Table | None = None  # the key that a row had until now; null for the others

    def __len__(self) -> int:
        return int(self.about.num_rows)

    def at(self, lsns: pa.ChunkedArray) -> "Block":
        """The same changes at other log positions."""
        index = self.about.schema.get_field_index("lsn")
        return replace(self, about=self.about.set_column(index, ABOUT.field(index), lsns))

    def where(self, mask: pa.ChunkedArray) -> "Block":
        """The changes where the mask is true."""
        if pc.all(mask).as_py():
            return self
        moved_from = None if self.moved_from is None else self.moved_from.filter(mask)
        return replace(
            self, rows=self.rows.filter(mask), about=self.about.filter(mask), moved_from=moved_from
        )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Rows of one kind: of which messages, the values, what happened, which of two ordinals."""

    messages: Ints
    tuples: Tuples
    ops: Ints
    second: Ints  # 1 where the message's first ordinal belongs to what the row was before
    is_moved: Ints  # the row before is the delete of the key that this one had

    @property
    def order(self) -> tuple[Ints, Ints, Ints]:
        return self.messages, self.second, self.is_moved


def block_of(
    chunk: Chunk,
    transactions: Transactions,
    messages: Ints,
    *,
    relation: Relation,
    types: tuple[str, ...],
    key: tuple[str, ...],
) -> Block:
    """Inserts, updates and deletes; an update of the key becomes a delete and an insert.

    Raises:
        ProtocolError: A message's rows do not end where it does.
    """
    parts = _Reader(chunk, messages, relation, key).parts()
    rows = pa.concat_tables([_rows(chunk, relation, part) for part in parts])
    about = pa.concat_tables([_about(transactions, relation, part) for part in parts])
    if len(parts) == 1:
        return Block(relation=relation, types=types, rows=rows, about=about)
    joined = [np.concatenate(each) for each in zip(*(part.order for part in parts), strict=True)]
    order = np.lexsort((joined[1], joined[0]))
    rows, about = rows.take(pa.array(order)), about.take(pa.array(order))
    is_moved = joined[2][order]
    before = pa.array(np.arange(len(order)) - 1, mask=~is_moved)
    moved_from = rows.select(list(key)).take(before) if is_moved.any() else None
    return Block(relation=relation, types=types, rows=rows, about=about, moved_from=moved_from)


def truncation_of(
    transactions: Transactions, messages: Ints, *, relation: Relation, types: tuple[str, ...]
) -> Block:
    """A row per truncate, without values."""
    num_rows = len(messages)
    nothing = Tuples([], [], [])
    zeros = np.zeros(num_rows, np.int64)
    part = _Part(
        messages=messages,
        tuples=nothing,
        ops=zeros + TRUNCATED,
        second=zeros,
        is_moved=zeros.astype(bool),
    )
    nulls = [pa.nulls(num_rows, pa.binary()) for _ in relation.columns]
    return Block(
        relation=relation,
        types=types,
        rows=pa.table(nulls, names=relation.column_names),
        about=_about(transactions, relation, part),
    )


class _Reader:
    """Reads the tuples of the messages that change one relation."""

    def __init__(
        self, chunk: Chunk, messages: Ints, relation: Relation, key: tuple[str, ...]
    ) -> None:
        self.wire = chunk.wire
        self.messages = messages
        self.limits = chunk.ends[messages]
        self.tags = chunk.tags[messages]
        self.at = chunk.starts[messages] + SHOWN
        self.num_columns = len(relation.columns)
        names = relation.column_names
        self.key = frozenset(names.index(name) for name in key if name in names)

    def parts(self) -> list[_Part]:
        """New rows, deleted ones, and what rows were before their key changed."""
        if (self.at >= self.limits).any():
            raise ProtocolError("a change without a row")
        shown = self.wire.bytes_at(self.at)
        self.has_old = (shown == KEY) | (shown == OLD)
        if (self.has_old & (self.tags == INSERT)).any():
            raise ProtocolError("an insert that shows an old row")
        olds = np.flatnonzero(self.has_old)
        old, stops = self._tuples(self.at[olds] + 1, self.limits[olds])
        is_delete = self.tags[olds] == DELETE
        self._ended(stops[is_delete], self.limits[olds[is_delete]])
        at = self.at.copy()
        at[olds] = stops
        news = np.flatnonzero(self.tags != DELETE)
        new = self._new(at[news], news)
        updates = np.flatnonzero(~is_delete)  # of the old rows
        in_new = np.searchsorted(news, olds[updates])
        before = old.take(updates)
        new = _filled(new, in_new, before)
        moved = self._moved(new.take(in_new), before)
        found = [self._new_part(news, new, in_new[moved])]
        if is_delete.any():
            gone = np.flatnonzero(is_delete)
            found.append(self._delete_part(olds[gone], old.take(gone)))
        if len(moved):
            found.append(self._delete_part(olds[updates[moved]], before.take(moved)))
        return [part for part in found if len(part.messages)] or found[:1]

    def _new(self, at: Ints, rows: Ints) -> Tuples:
        limits = self.limits[rows]
        if (at >= limits).any() or (self.wire.bytes_at(at) != NEW).any():
            raise ProtocolError("a change that does not show its new row")
        new, stops = self._tuples(at + 1, limits)
        self._ended(stops, limits)
        return new

    def _tuples(self, at: Ints, limits: Ints) -> tuple[Tuples, Ints]:
        return walk(self.wire, at, limits, num_columns=self.num_columns)

    @staticmethod
    def _ended(stops: Ints, limits: Ints) -> None:
        if (stops != limits).any():
            raise ProtocolError("a message goes on after its last row")

    def _moved(self, new: Tuples, old: Tuples) -> Ints:
        """Which of the updates that show an old row changed the key."""
        differs = np.zeros(len(old), dtype=bool)
        for column in self.key if len(old) else ():
            was, is_ = (self._column(part, column) for part in (old, new))
            different = pc.fill_null(pc.not_equal(was, is_), False)
            differs |= different.to_numpy(zero_copy_only=False)
        return np.flatnonzero(differs)

    def _column(self, tuples: Tuples, column: int) -> pa.Array:
        return texts(self.wire, tuples.kinds[column], tuples.begins[column], tuples.ends[column])

    def _new_part(self, rows: Ints, new: Tuples, moved: Ints) -> _Part:
        tags = self.tags[rows]
        is_moved = np.zeros(len(rows), dtype=bool)
        is_moved[moved] = True
        return _Part(
            messages=self.messages[rows],
            tuples=new,
            ops=np.where((tags == UPDATE) & ~is_moved, UPDATED, CREATED),
            second=self.has_old[rows].astype(np.int64),
            is_moved=is_moved,
        )

    def _delete_part(self, rows: Ints, old: Tuples) -> _Part:
        zeros = np.zeros(len(rows), np.int64)
        return _Part(
            messages=self.messages[rows],
            tuples=old.only(self.key),
            ops=zeros + DELETED,
            second=zeros,
            is_moved=zeros.astype(bool),
        )


def _filled(new: Tuples, rows: Ints, old: Tuples) -> Tuples:
    """New rows, with the old row's value where it did not change and was not sent again."""
    found = Tuples([], [], [])
    for column, kind in enumerate(new.kinds):
        parts = [kind, new.begins[column], new.ends[column]]
        fill = np.flatnonzero((kind[rows] == UNCHANGED) & (old.kinds[column] == TEXT))
        if len(fill):
            parts = [part.copy() for part in parts]
            sources = (old.kinds[column], old.begins[column], old.ends[column])
            for part, source in zip(parts, sources, strict=True):
                part[rows[fill]] = source[fill]
        for columns, part in zip((found.kinds, found.begins, found.ends), parts, strict=True):
            columns.append(part)
    return found


def _rows(chunk: Chunk, relation: Relation, part: _Part) -> pa.Table:
    tuples = part.tuples
    columns = [
        texts(chunk.wire, *column)
        for column in zip(tuples.kinds, tuples.begins, tuples.ends, strict=True)
    ]
    return pa.table(columns, names=relation.column_names)


def _about(transactions: Transactions, relation: Relation, part: _Part) -> pa.Table:
    of = transactions.of[part.messages]
    return pa.table(
        [
            pa.array(OPS).take(pa.array(part.ops)),
            times(transactions.committed_at[of]),
            times(transactions.sent_at[of]),
            pa.array(transactions.lsns[of]),
            pa.array(transactions.xids[of]),
            pa.array(transactions.ordinals[part.messages] + part.second),
            _unchanged(relation, part),
        ],
        schema=ABOUT,
    )


def _unchanged(relation: Relation, part: _Part) -> pa.Array:
    """Per row the names of the columns that were not sent; null where there is none."""
    names: dict[int, list[str]] = {}
    for column, kinds in zip(relation.columns, part.tuples.kinds, strict=False):
        for row in np.flatnonzero(kinds == UNCHANGED):
            names.setdefault(int(row), []).append(column.name)
    if not names:
        return pa.nulls(len(part.messages), NAMES)
    return pa.array([names.get(row) for row in range(len(part.messages))], NAMES)
