"""A change feed whose records are PostgreSQL's own, in blocks of one definition each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.contracts import Contract
from scale_assets.ingest.changes import ChangeFeed
from scale_assets.ingest.columns import (
    EVENT_DATE,
    LSN,
    SOURCE_FIELDS,
    TX_ORDINAL,
    captured_schema,
)
from scale_assets.ingest.feed import Decoded, Deduplicator
from scale_assets.ingest.postgres.blocks import Block
from scale_assets.ingest.postgres.raw import blocks_of_raws, is_raw
from scale_assets.ingest.postgres.rows import judge
from scale_assets.ingest.source import Piece


@dataclass(frozen=True, kw_only=True)
class BlockPiece(Piece):
    """Changes of one definition of a table, as they were decoded."""

    block: Block


@dataclass(frozen=True, kw_only=True)
class PostgresChanges(ChangeFeed):
    """Changes of one table of a captured database."""

    relation: str  # schema and name of the table in the database

    def schema(self, contract: Contract) -> pa.Schema:
        return captured_schema(contract)

    def decode(self, contract: Contract, piece: Piece) -> Decoded:
        """Judge a block, or lines of the quarantine that are tried again.

        Those that came before the table was captured are what their own transport made of them.
        """
        if isinstance(piece, BlockPiece):
            return self._judged(contract, piece, [piece.block])
        assert isinstance(piece.records, list)
        if is_raw(piece.records[0]):
            return self._judged(contract, piece, blocks_of_raws(piece.records))
        found = super().decode(contract, piece)
        return replace(found, accepted=self._as_stored(contract, found.accepted))

    def _judged(self, contract: Contract, piece: Piece, blocks: Iterable[Block]) -> Decoded:
        position = piece.first_position
        accepted, quarantined = [], []
        for block in blocks:
            judged = judge(contract, block, first_position=position)
            accepted.append(judged.accepted)
            quarantined.append(_placed(judged.quarantined, block, position))
            position += len(block)
        refused = piece.located(pa.concat_tables(quarantined))
        return Decoded(
            accepted=self._as_stored(contract, piece.located(pa.concat_tables(accepted))),
            quarantined=refused.append_column(
                EVENT_DATE, pa.nulls(refused.num_rows, EVENT_DATE.type)
            ),
            num_received=position - piece.first_position,
        )

    def numbered(self, part: Decoded, _piece: Piece, _tables: Sequence[DeltaTable], /) -> Decoded:
        """As the slot's transactions number them."""
        return part

    def deduplicator(self) -> Deduplicator:
        """Every change comes once: the position says which transactions the table holds."""
        return lambda rows, _table: rows

    def _as_stored(self, contract: Contract, rows: pa.Table) -> pa.Table:
        """All columns of the table of changes, but the place that every feed adds itself."""
        fields = [f for f in self.schema(contract) if f.name != SOURCE_FIELDS[0].name]
        columns = [
            rows[field.name] if field.name in rows.column_names else pa.nulls(rows.num_rows)
            for field in fields
        ]
        return pa.table(columns, names=[field.name for field in fields]).cast(pa.schema(fields))


def _placed(quarantined: pa.Table, block: Block, first_position: int) -> pa.Table:
    """Refused changes of the block with where in the log they stand."""
    at = pc.subtract(quarantined["_position"], first_position)
    for field in (LSN, TX_ORDINAL):
        quarantined = quarantined.append_column(field, block.about[field.name].take(at))
    return quarantined
