"""The order of the changes that share one position in their source's log."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.ingest.columns import TX_ORDINAL
from scale_assets.lake.snapshots import snapshot_dataset

if TYPE_CHECKING:
    import pyarrow.dataset as ds


def numbered(rows: pa.Table, *, already: int = 0) -> pa.Table:
    """Rows with their tx_ordinal: the source's own, else counted from 0 in each run of one lsn.

    A run ends where the lsn changes, so that a source that repeats itself repeats its numbers.
    ``already`` counts the changes of the first run that the table holds. Without an lsn, the order
    of reading is all there is, and the ordinal null.
    """
    starts = run_starts(rows)
    first = np.maximum.accumulate(np.where(starts, np.arange(rows.num_rows), 0))
    counted = np.arange(rows.num_rows) - first
    counted[first == 0] += already
    ordinals = pc.if_else(pc.is_valid(rows["lsn"]), pa.array(counted, pa.int64()), None)
    at = rows.schema.get_field_index(TX_ORDINAL.name)
    return rows.set_column(at, TX_ORDINAL, pc.coalesce(rows[TX_ORDINAL.name], ordinals))


def run_starts(rows: pa.Table) -> np.ndarray:
    """Where the lsn is not that of the row before."""
    lsns = pc.fill_null(rows["lsn"], -1).to_numpy()
    starts = np.ones(len(lsns), dtype=bool)
    starts[1:] = lsns[1:] != lsns[:-1]
    return starts


def changes_before(rows: pa.Table, tables: Sequence[DeltaTable], *, place: str) -> int:
    """Changes of the first row's lsn with which the tables end what they have of this place."""
    if not rows.num_rows or not (first := rows["_position"][0].as_py()):
        return 0
    lsn = rows["lsn"][0]
    if not lsn.is_valid:
        return 0
    stored = [snapshot_dataset(table) for table in tables]
    here = (pc.field("_source_file") == place) & (pc.field("_position") < first)
    positions = _positions(stored, here & (pc.field("lsn") == lsn))
    if not len(positions):
        return 0
    later = here & (pc.field("_position") > pc.min(positions)) & (pc.field("lsn") != lsn)
    others = _positions(stored, later)
    if not len(others):
        return len(positions)
    return int(pc.sum(pc.greater(positions, pc.max(others))).as_py())


def _positions(stored: "Sequence[ds.Dataset]", where: pc.Expression) -> pa.ChunkedArray:
    found = [each.to_table(columns=["_position"], filter=where) for each in stored]
    return pa.concat_tables(found)["_position"]
