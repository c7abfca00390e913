"""A change feed: Debezium-format changes in, one append-only table of changes, exactly once."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable

from scale_assets.contracts import Contract, change_schema, validate_change_lines
from scale_assets.ingest.feed import EVENT_DATE, SOURCE_FIELDS, Decoded, Feed
from scale_assets.ingest.ordinals import TX_ORDINAL, changes_before, numbered
from scale_assets.ingest.redelivery import redelivered
from scale_assets.ingest.source import Piece
from scale_assets.lake.snapshots import snapshot_dataset


@dataclass(frozen=True, kw_only=True)
class ChangeFeed(Feed):
    """A feed of changes to one source table. (lsn, tx_ordinal) orders those of one key."""

    def schema(self, contract: Contract) -> pa.Schema:
        given = (TX_ORDINAL.name, "_position")
        columns = [f for f in change_schema(contract) if f.name not in given]
        return pa.schema([*columns, *self.source.columns, TX_ORDINAL, *SOURCE_FIELDS])

    @property
    def partition_by(self) -> list[str]:
        return []

    def decode(self, contract: Contract, piece: Piece, table: DeltaTable, /) -> Decoded:
        assert not isinstance(piece.records, pa.Table)
        found = validate_change_lines(contract, piece.records, first_position=piece.first_position)
        rows = piece.located(found.accepted)
        quarantined = piece.located(piece.explained(found.quarantined))
        already = changes_before(rows, table, place=piece.place)
        return Decoded(
            accepted=numbered(rows, already=already),
            quarantined=quarantined.append_column(
                EVENT_DATE, pa.nulls(quarantined.num_rows, pa.date32())
            ),
            num_received=found.num_received,
            num_ignored=found.num_ignored,
        )

    def without_duplicates(self, rows: pa.Table, table: DeltaTable) -> pa.Table:
        """Drop changes delivered again."""
        contract, _ = self.load_contract()
        keep = np.ones(rows.num_rows, dtype=bool)
        keep[redelivered(rows, snapshot_dataset(table), key=contract.primary_key)] = False
        return rows.filter(pa.array(keep))
