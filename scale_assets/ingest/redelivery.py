"""Changes that a source delivers again: known by key, position in its log, and what they say."""

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.ingest.columns import TX_ORDINAL
from scale_assets.ingest.ordinals import run_starts
from scale_assets.lake.duckdb_types import quoted

if TYPE_CHECKING:
    import pyarrow.dataset as ds

WHERE = ["lsn", TX_ORDINAL.name, "_source_file", "_position"]


def redelivered(rows: pa.Table, stored: "ds.Dataset", *, key: Sequence[str]) -> list[int]:
    """Indices of rows that say again what is stored, or stands earlier among the rows.

    The n-th change of a key at one lsn is the same as the n-th of another delivery if both say the
    same, and one that only repeats the change before it says nothing. Any doubt keeps the row: a
    change kept twice changes no state, one dropped would. Changes without an lsn cannot be told
    apart and are all kept.
    """
    reach = pc.min_max(rows["lsn"]).as_py()
    if reach["min"] is None:
        return []
    within = (pc.field("lsn") >= reach["min"]) & (pc.field("lsn") <= reach["max"])
    identity = [*key, "lsn"]
    taken = stored.to_table(columns=identity, filter=within)
    if not taken.num_rows and pc.count_distinct(rows["lsn"]).as_py() == rows.num_rows:
        return []
    suspects = _suspects(rows, taken, identity)
    if not suspects:
        return []
    # What a change says: the row's columns, up to its op and event_time.
    said = rows.column_names[: rows.column_names.index("event_time") + 1]
    lsns = pc.unique(rows["lsn"].take(pa.array(suspects)))
    known = _known(
        stored.to_table(columns=[*said, *WHERE], filter=pc.field("lsn").isin(lsns)), said, key
    )
    return list(_again(rows, suspects, known, said, key))


class _Known(list[tuple[str, int, tuple[Any, ...]]]):
    """The changes of one key at one lsn, in order: place, ordinal, what is said."""

    def num_before(self, place: str, ordinal: int) -> int:
        return sum(one == place and at < ordinal for one, at, _ in self)

    def says_already(self, count: int, says: tuple[Any, ...]) -> bool:
        """Whether this is what the change of that number says, or the last one where it is new."""
        return bool(self) and self[min(count, len(self) - 1)][-1] == says


def _known(taken: pa.Table, said: list[str], key: Sequence[str]) -> dict[tuple[Any, ...], _Known]:
    known: dict[tuple[Any, ...], _Known] = defaultdict(_Known)
    ordered = taken.sort_by([(name, "ascending") for name in WHERE])
    for row in ordered.to_pylist():
        at = (*(row[name] for name in key), row["lsn"])
        known[at].append(
            (row["_source_file"], row[TX_ORDINAL.name], tuple(_plain(row[name]) for name in said))
        )
    return known


def _again(
    rows: pa.Table,
    suspects: list[int],
    known: dict[tuple[Any, ...], _Known],
    said: list[str],
    key: Sequence[str],
) -> list[int]:
    places = rows["_source_file"]
    starts = run_starts(rows)
    starts[1:] |= pc.not_equal(places[1:], places[:-1]).to_numpy()
    runs = np.cumsum(starts)
    first_ordinals = rows[TX_ORDINAL.name].to_numpy()[np.searchsorted(runs, runs)]
    again = []
    counts: dict[tuple[Any, ...], int] = {}
    columns = [*dict.fromkeys([*said, *WHERE])]
    for index, row in zip(
        suspects, rows.select(columns).take(pa.array(suspects)).to_pylist(), strict=True
    ):
        at = (*(row[name] for name in key), row["lsn"])
        place, says = row["_source_file"], tuple(_plain(row[name]) for name in said)
        occurrence = (runs[index], place, at)
        count = counts.get(occurrence)
        if count is None:
            count = known[at].num_before(place, int(first_ordinals[index]))
        counts[occurrence] = count + 1
        if known[at].says_already(count, says):
            again.append(index)
        elif count >= len(known[at]):
            known[at].append((place, row[TX_ORDINAL.name], says))
    return again


def _suspects(rows: pa.Table, taken: pa.Table, identity: list[str]) -> list[int]:
    """Indices, in order, of rows whose key and lsn are taken or occur twice."""
    import duckdb

    batch = rows.select(identity).append_column("_row", pa.array(np.arange(rows.num_rows)))
    columns = ", ".join(quoted(name) for name in identity)
    # The key is null where the whole table was truncated.
    same = " and ".join(
        f"batch.{quoted(name)} is not distinct from other.{quoted(name)}" for name in identity
    )
    with duckdb.connect() as connection:
        connection.register("batch", batch)
        connection.register("taken", taken)
        found = connection.sql(
            f"""
            with other as (
                select {columns} from batch group by all having count(*) > 1
                union all
                select {columns} from taken
            )
            select _row from batch
            where lsn is not null and exists (from other where {same})
            order by _row
            """
        ).to_arrow_table()
    indices: list[int] = found["_row"].to_pylist()
    return indices


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
