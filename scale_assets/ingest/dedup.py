"""Duplicates by key within a horizon of days, the same however the rows are cut into batches."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from typing import cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.ingest.key_hashes import KeyHashes


class KeyDeduplicator:
    """Takes out, batch by batch, rows whose key was taken within a horizon of days."""

    def __init__(self, key: Sequence[str], date_column: str, horizon_days: int) -> None:
        self.key = list(key)
        self.date_column = date_column
        self.horizon = timedelta(days=horizon_days)
        self.known = KeyHashes(key)

    def __call__(self, rows: pa.Table, table: DeltaTable) -> pa.Table:
        """The rows, in order, that are neither in the table nor twice in themselves."""
        if not rows.num_rows:
            return rows
        days = pc.min_max(rows[self.date_column]).as_py()
        reach = (days["min"] - self.horizon, days["max"] + self.horizon)
        suspects = self.known.suspects(rows, table, reach)
        if not suspects.size:
            return rows
        suspected = rows.select([*self.key, self.date_column]).take(pa.array(suspects))
        taken = self.known.rows_like(suspected, table, reach)
        keep = np.ones(rows.num_rows, dtype=bool)
        keep[suspects[later_ones(suspected, taken, self.key, self.date_column, self.horizon)]] = (
            False
        )
        return rows.filter(pa.array(keep))


def later_ones(
    rows: pa.Table, taken: pa.Table, key: Sequence[str], date_column: str, horizon: timedelta
) -> list[int]:
    """Indices of rows whose key was taken at most ``horizon`` before or after.

    A row counts as taken if it is in ``taken`` or was kept earlier here: dates 0, 5 and 10 of one
    key at a horizon of 7 keep 0 and 10, in one batch or in three.
    """
    suspects = _suspects(rows, taken, key)
    columns = [*key, date_column]
    kept: dict[tuple[object, ...], list[date]] = defaultdict(list)
    for *values, day in _matching(taken, rows.take(suspects), columns, key):
        kept[tuple(values)].append(cast("date", day))
    drop = []
    candidates = rows.select(columns).take(suspects)
    for index, *values, day in zip(
        suspects.to_pylist(), *(column.to_pylist() for column in candidates.columns), strict=True
    ):
        days = kept[tuple(values)]
        if any(abs(day - other) <= horizon for other in days):
            drop.append(index)
        else:
            days.append(day)
    return drop


def _suspects(rows: pa.Table, taken: pa.Table, key: Sequence[str]) -> pa.Array:
    """Indices, in order, of rows whose key is taken or occurs twice."""
    import duckdb

    batch = rows.select(list(key)).append_column("_row", pa.array(np.arange(rows.num_rows)))
    columns = ", ".join(f'"{name}"' for name in key)
    with duckdb.connect() as connection:
        connection.register("batch", batch)
        connection.register("taken", taken)
        found = connection.sql(
            f"""
            with repeated as (
                select {columns} from batch group by all having count(*) > 1
            )
            select _row from batch
            where ({columns}) in (select ({columns}) from repeated)
               or ({columns}) in (select ({columns}) from taken)
            order by _row
            """
        ).to_arrow_table()
    return found["_row"].combine_chunks()


def _matching(
    taken: pa.Table, suspects: pa.Table, columns: Sequence[str], key: Sequence[str]
) -> list[tuple[object, ...]]:
    """Rows of ``taken`` whose key is among the suspects'."""
    if not taken.num_rows:
        return []
    joined = taken.select(list(columns)).join(
        suspects.select(list(key)).group_by(list(key)).aggregate([]),
        keys=list(key),
        join_type="left semi",
    )
    return list(zip(*(joined[name].to_pylist() for name in columns), strict=True))
