"""A change feed: Debezium-format files in, one append-only table of changes, exactly once."""

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.contracts import Contract, change_schema, validate_change_lines
from scale_assets.ingest.dedup import repeats
from scale_assets.ingest.feed import EVENT_DATE, SOURCE_FIELDS, Decoded, Feed
from scale_assets.ingest.source import Piece
from scale_assets.lake.snapshots import snapshot_dataset

LSN = pa.field("lsn", pa.int64())
TX_ORDINAL = pa.field("tx_ordinal", pa.int64())


@dataclass(frozen=True, kw_only=True)
class ChangeFeed(Feed):
    """A feed of changes to one source table. (lsn, tx_ordinal) orders and identifies a change."""

    def schema(self, contract: Contract) -> pa.Schema:
        columns = [f for f in change_schema(contract) if f.name != "_position"]
        return pa.schema([*columns, *self.source.columns, TX_ORDINAL, *SOURCE_FIELDS])

    @property
    def quarantine_schema(self) -> pa.Schema:
        """A refused change keeps its place in the log, so that it can still take it."""
        return pa.schema([LSN, TX_ORDINAL, *super().quarantine_schema])

    @property
    def partition_by(self) -> list[str]:
        return []

    @property
    def kept_in_quarantine(self) -> pa.Schema:
        return pa.schema([*self.source.columns, TX_ORDINAL])

    def decode(self, contract: Contract, piece: Piece, _table: DeltaTable, /) -> Decoded:
        assert not isinstance(piece.records, pa.Table)
        found = validate_change_lines(contract, piece.records, first_position=piece.first_position)
        quarantined = piece.located(found.quarantined)
        return Decoded(
            accepted=piece.located(found.accepted),
            quarantined=quarantined.append_column(
                EVENT_DATE, pa.nulls(quarantined.num_rows, pa.date32())
            ),
            num_received=found.num_received,
            num_ignored=found.num_tombstones,
        )

    def numbered(
        self, part: Decoded, piece: Piece, accepted: DeltaTable, quarantine: DeltaTable
    ) -> Decoded:
        """Number the changes within each lsn, those set aside included."""
        refused = part.quarantined.append_column(LSN, _lsns(part.quarantined["raw"]))
        if TX_ORDINAL.name in part.accepted.column_names:  # replayed: a change keeps its number
            return replace(part, quarantined=refused)
        in_order = _in_order(part.accepted, refused)
        already = max(_ordinals_before(in_order, piece, each) for each in (accepted, quarantine))
        ordinals = tx_ordinals(in_order, already=already)
        is_accepted = in_order["is_accepted"].combine_chunks()
        return replace(
            part,
            accepted=part.accepted.append_column(TX_ORDINAL, ordinals.filter(is_accepted)),
            quarantined=refused.append_column(TX_ORDINAL, ordinals.filter(pc.invert(is_accepted))),
        )

    def without_duplicates(self, rows: pa.Table, table: DeltaTable) -> pa.Table:
        """Drop changes delivered again: same lsn, same place within it."""
        numbered = pc.min_max(rows["lsn"]).as_py()
        if numbered["min"] is None:
            return rows  # a source without log positions cannot say that it repeats itself
        reach = (pc.field("lsn") >= numbered["min"]) & (pc.field("lsn") <= numbered["max"])
        identity = ["lsn", TX_ORDINAL.name]
        taken = snapshot_dataset(table).to_table(columns=identity, filter=reach)
        keep = np.ones(rows.num_rows, dtype=bool)
        keep[repeats(rows, taken, key=identity)] = False
        return rows.filter(pa.array(keep))


def _in_order(accepted: pa.Table, refused: pa.Table) -> pa.Table:
    """Position and lsn of every change, as they were received."""
    columns = ["_position", LSN.name]
    parts = [
        rows.select(columns).append_column("is_accepted", pa.repeat(flag, rows.num_rows))
        for rows, flag in ((accepted, True), (refused, False))
    ]
    return pa.concat_tables(parts).sort_by("_position").combine_chunks()


def _lsns(raws: pa.ChunkedArray) -> pa.Array:
    """The lsn of each refused line; null where none can be read from it."""
    return pa.array([_lsn(raw) for raw in raws.to_pylist()], LSN.type)


def _lsn(raw: bytes) -> int | None:
    try:
        envelope: Any = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    for member in ("payload", "source"):
        if not isinstance(envelope, dict):
            return None
        envelope = envelope.get(member, envelope if member == "payload" else None)
    lsn = envelope.get("lsn") if isinstance(envelope, dict) else None
    if not isinstance(lsn, int) or isinstance(lsn, bool):
        return None
    return lsn if 0 <= lsn < 2**63 else None


def tx_ordinals(rows: pa.Table, *, already: int = 0) -> pa.Array:
    """Number the changes within each lsn from 0, in file order; the line number without an lsn.

    ``already`` is the next number of the first lsn, where an earlier piece of the place began it.
    """
    lsns = rows[LSN.name].to_pylist()
    seen = {next((lsn for lsn in lsns if lsn is not None), -1): already}
    ordinals = []
    for lsn, position in zip(lsns, rows["_position"].to_pylist(), strict=True):
        if lsn is None:
            ordinals.append(position)
            continue
        ordinals.append(seen.get(lsn, 0))
        seen[lsn] = ordinals[-1] + 1
    return pa.array(ordinals, pa.int64())


def _ordinals_before(rows: pa.Table, piece: Piece, table: DeltaTable) -> int:
    """The number after the last that this piece's first lsn has from the pieces before it."""
    numbered = rows[LSN.name].drop_null()
    if piece.first_position == 0 or not len(numbered):
        return 0
    same = (pc.field(LSN.name) == numbered[0]) & (pc.field("_source_file") == piece.place)
    taken = snapshot_dataset(table).to_table(columns=[TX_ORDINAL.name], filter=same)
    last = pc.max(taken[TX_ORDINAL.name]).as_py()
    return 0 if last is None else int(last) + 1
