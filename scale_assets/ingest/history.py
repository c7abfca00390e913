"""One row per change: values valid from its event_time to the key's next change, or open.

A delete is a row too (op = 'd'), and a truncate one of each key that it removed (op = 't'): from
then on the key did not exist. Open rows are stored apart from closed ones, in segments of about a
million, so that closing some rewrites their segments and nothing else.
"""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.contracts import Contract
from scale_assets.ingest.columns import SEGMENT
from scale_assets.ingest.news import NEWS, News
from scale_assets.ingest.periods import THERE, continued, periods_sql
from scale_assets.ingest.states import Facts, names
from scale_assets.lake.commits import Part, halves, replace_partitions
from scale_assets.lake.files import local_files
from scale_assets.lake.fit import arrow_schema
from scale_assets.lake.history import rows_per_partition
from scale_assets.lake.snapshots import files_table, relation_sql

SEGMENT_ROWS = 1 << 20


def history_rows_sql(contract: Contract, changes: str, facts: Facts) -> str:
    """Every row of the table, from all changes."""
    key = names(contract.primary_key)
    number = f"row_number() over (partition by valid_to is null order by {key})"
    return f"""
        select
            *, case when valid_to is null then ({number} - 1) // {SEGMENT_ROWS} end as {SEGMENT.name}
        from ({periods_sql(contract, changes, facts)})
        order by {SEGMENT.name}, {key}
    """


def rewrite_history(handle: DeltaTable, contract: Contract, news: News) -> None:
    """Bring the table to the news in one commit, from exactly the snapshot of the handle.

    Raises:
        ConcurrentCommit: Somebody committed since the handle read.
    """
    segments = _segments(handle)
    touched = sorted(segments) if len(segments) < 2 else _touched(handle, contract, news)
    replace_partitions(
        handle,
        _rows(handle, contract, news, segments, touched),
        replace=[(SEGMENT.name, "in", [str(each) for each in touched])] if touched else None,
        metadata=news.shown.metadata(),
    )


def _touched(handle: DeltaTable, contract: Contract, news: News) -> list[int]:
    """Segments that hold an open row of some key of the news."""
    there = relation_sql(
        files=local_files(handle, file_pruning_predicate=f"{SEGMENT.name} IS NOT NULL"),
        schema=arrow_schema(handle),
        partition_columns=[SEGMENT.name],
    )
    key = names(contract.primary_key)
    with news.in_duckdb() as connection:
        found = connection.sql(
            f"select distinct {SEGMENT.name} from ({there}) semi join {NEWS} using ({key})"
        ).fetchall()
    return sorted(segment for (segment,) in found)


def _rows(
    handle: DeltaTable,
    contract: Contract,
    news: News,
    segments: dict[int, int],
    touched: list[int],
) -> Iterator[Part]:
    """The touched segments without what closes, one after the other; then all that is new."""
    closing = [arrow_schema(handle).empty_table()]
    for segment in touched:
        there = _open_rows(handle, segment)
        is_closing = news.concern(there, contract.primary_key)
        closing.append(there.filter(is_closing))
        kept = there.filter(pc.invert(is_closing))
        yield from (Part(half, is_lasting=False) for half in halves(kept))
    closed = pa.concat_tables(closing).rename_columns({SEGMENT.name: THERE})
    periods = continued(contract, news, closed)
    is_open = pc.is_null(periods["valid_to"])
    yield Part(periods.filter(pc.invert(is_open)).drop_columns([THERE]), is_lasting=True)
    yield Part(_in_segments(periods.filter(is_open), segments), is_lasting=False)


def _open_rows(handle: DeltaTable, segment: int) -> pa.Table:
    files = local_files(handle, file_pruning_predicate=f"{SEGMENT.name} = {segment}")
    schema = arrow_schema(handle)
    rows = files_table(files, schema.remove(schema.get_field_index(SEGMENT.name)))
    return rows.append_column(SEGMENT, pa.repeat(pa.scalar(segment, SEGMENT.type), len(rows)))


def _in_segments(open_rows: pa.Table, taken: dict[int, int]) -> pa.Table:
    """Open rows in the segment of their key; new keys in the last one, and those that follow."""
    there = open_rows[THERE].combine_chunks().cast(SEGMENT.type)
    is_new = pc.is_null(there).to_numpy(zero_copy_only=False)
    last = max(taken, default=0)
    numbers = taken.get(last, 0) + np.arange(is_new.sum())
    following = pa.array(last + numbers // SEGMENT_ROWS, SEGMENT.type)
    segments = pc.replace_with_mask(there, pa.array(is_new), following)
    return open_rows.drop_columns([THERE]).append_column(SEGMENT, segments)


def _segments(handle: DeltaTable) -> dict[int, int]:
    """Open rows of each segment."""
    rows = rows_per_partition(handle, SEGMENT.name)
    return {int(segment): count for segment, count in rows.items() if segment is not None}
