"""A change feed: Debezium-format changes in, one append-only table of changes, exactly once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.contracts import Contract, validate_change_lines
from scale_assets.contracts.refused_changes import refused_positions
from scale_assets.ingest.columns import EVENT_DATE, LSN, TX_ORDINAL, changes_schema
from scale_assets.ingest.feed import Decoded, Deduplicator, Feed
from scale_assets.ingest.ordinals import changes_before, numbered
from scale_assets.ingest.redelivery import redelivered
from scale_assets.ingest.source import Piece
from scale_assets.lake.snapshots import snapshot_dataset


@dataclass(frozen=True, kw_only=True)
class ChangeFeed(Feed):
    """A feed of changes to one source table. (lsn, tx_ordinal) orders those of one key."""

    def schema(self, contract: Contract) -> pa.Schema:
        return changes_schema(contract, self.source.columns)

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

    def decode(self, contract: Contract, piece: Piece) -> Decoded:
        assert not isinstance(piece.records, pa.Table)
        found = validate_change_lines(contract, piece.records, first_position=piece.first_position)
        quarantined = piece.located(_placed(piece.explained(found.quarantined)))
        return Decoded(
            accepted=piece.located(found.accepted),
            quarantined=quarantined.append_column(
                EVENT_DATE, pa.nulls(quarantined.num_rows, pa.date32())
            ),
            num_received=found.num_received,
            num_ignored=found.num_ignored,
        )

    def numbered(self, part: Decoded, piece: Piece, tables: Sequence[DeltaTable], /) -> Decoded:
        """Number the changes of each lsn, those set aside included: they keep their place."""
        refused = part.quarantined
        has_place = pc.is_valid(refused[LSN.name])
        if not pc.any(has_place).as_py():
            already = changes_before(part.accepted, tables, place=piece.place)
            return replace(part, accepted=numbered(part.accepted, already=already))
        columns = ["_position", LSN.name, TX_ORDINAL.name]
        both = pa.concat_tables(
            [part.accepted.select(columns), refused.select(columns).filter(has_place)]
        )
        order = np.argsort(both["_position"].to_numpy(), kind="stable")
        in_order = both.take(pa.array(order))
        already = changes_before(in_order, tables, place=piece.place)
        ordinals = numbered(in_order, already=already)[TX_ORDINAL.name]
        ordinals = ordinals.take(pa.array(np.argsort(order))).combine_chunks()
        num_accepted = part.accepted.num_rows
        set_aside = pc.replace_with_mask(
            refused[TX_ORDINAL.name].combine_chunks(),
            has_place.combine_chunks(),
            ordinals[num_accepted:],
        )
        return replace(
            part,
            accepted=_with_ordinals(part.accepted, ordinals[:num_accepted]),
            quarantined=_with_ordinals(refused, set_aside),
        )

    def deduplicator(self) -> Deduplicator:
        return self._without_redelivered

    def _without_redelivered(self, rows: pa.Table, table: DeltaTable) -> pa.Table:
        contract, _ = self.load_contract()
        keep = np.ones(rows.num_rows, dtype=bool)
        keep[redelivered(rows, snapshot_dataset(table), key=contract.primary_key)] = False
        return rows.filter(pa.array(keep))


def _placed(quarantined: pa.Table) -> pa.Table:
    """Refused changes with where in their source's log they stand."""
    lsns, ordinals = refused_positions(quarantined["raw"].to_pylist())
    return quarantined.append_column(LSN, lsns).append_column(TX_ORDINAL, ordinals)


def _with_ordinals(rows: pa.Table, ordinals: pa.Array) -> pa.Table:
    return rows.set_column(rows.schema.get_field_index(TX_ORDINAL.name), TX_ORDINAL, ordinals)
