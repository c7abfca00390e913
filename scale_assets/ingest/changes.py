"""A change feed: Debezium-format files in, one append-only table of changes, exactly once."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.contracts import Contract, change_schema, validate_change_lines
from scale_assets.ingest.dedup import repeats
from scale_assets.ingest.feed import EVENT_DATE, SOURCE_FIELDS, Decoded, Feed
from scale_assets.ingest.source import Piece
from scale_assets.lake.snapshots import snapshot_dataset

TX_ORDINAL = pa.field("tx_ordinal", pa.int64())


@dataclass(frozen=True, kw_only=True)
class ChangeFeed(Feed):
    """A feed of changes to one source table. (lsn, tx_ordinal) orders and identifies a change."""

    def schema(self, contract: Contract) -> pa.Schema:
        columns = [f for f in change_schema(contract) if f.name != "_position"]
        return pa.schema([*columns, *self.source.columns, TX_ORDINAL, *SOURCE_FIELDS])

    @property
    def partition_by(self) -> list[str]:
        return []

    def decode(self, contract: Contract, piece: Piece, table: DeltaTable, /) -> Decoded:
        assert not isinstance(piece.records, pa.Table)
        found = validate_change_lines(contract, piece.records, first_position=piece.first_position)
        rows = piece.located(found.accepted)
        quarantined = piece.located(piece.explained(found.quarantined))
        already = _ordinals_before(rows, piece, table)
        return Decoded(
            accepted=rows.append_column(TX_ORDINAL, tx_ordinals(rows, already=already)),
            quarantined=quarantined.append_column(
                EVENT_DATE, pa.nulls(quarantined.num_rows, pa.date32())
            ),
            num_received=found.num_received,
            num_ignored=found.num_tombstones,
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


def tx_ordinals(rows: pa.Table, *, already: int = 0) -> pa.Array:
    """Number the changes within each lsn from 0, in file order; the line number without an lsn.

    ``already`` counts the changes of the first lsn that an earlier piece of the same place holds.
    """
    seen: dict[int, int] = {}
    lsns = rows["lsn"].to_pylist()
    if already and lsns:
        seen[lsns[0]] = already
    ordinals = []
    for lsn, position in zip(lsns, rows["_position"].to_pylist(), strict=True):
        if lsn is None:
            ordinals.append(position)
            continue
        ordinals.append(seen.get(lsn, 0))
        seen[lsn] = ordinals[-1] + 1
    return pa.array(ordinals, pa.int64())


def _ordinals_before(rows: pa.Table, piece: Piece, table: DeltaTable) -> int:
    """Changes of this piece's first lsn that the piece before it already brought."""
    if piece.first_position == 0 or not rows.num_rows or rows["lsn"][0].as_py() is None:
        return 0
    same = (pc.field("lsn") == rows["lsn"][0]) & (pc.field("_source_file") == piece.place)
    return int(snapshot_dataset(table).count_rows(filter=same))
