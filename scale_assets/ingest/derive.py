"""The current rows and their history, kept in step with the changes that they derive from.

New changes are added in one commit, which names the version of the changes that the table shows
with it. Where they cannot simply be added, the table is made anew from all; the rows are equal.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable

from scale_assets.contracts import Contract
from scale_assets.ingest.columns import SEGMENT, UNAVAILABLE, current_schema, history_schema
from scale_assets.ingest.current import bring_current, current_rows_sql
from scale_assets.ingest.history import history_rows_sql, rewrite_history
from scale_assets.ingest.news import (
    Anew,
    News,
    Shown,
    all_changes,
    duckdb_in_utc,
    new_changes,
)
from scale_assets.ingest.states import Facts
from scale_assets.lake import Lake
from scale_assets.lake.commits import retried
from scale_assets.lake.fit import arrow_schema, delta_schema
from scale_assets.lake.history import last_metadata, num_rows
from scale_assets.lake.snapshots import snapshot_dataset


@dataclass(frozen=True, kw_only=True)
class Derived:
    """A derived table: its version, and which version of the changes it shows."""

    table: str
    version: int
    changes_version: int
    num_rows: int
    num_unavailable: int  # rows with a field whose value the source never sent
    made_anew: str | None  # why, where new changes could not simply be added

    @property
    def is_rewritten(self) -> bool:
        return self.made_anew is not None


def derive_current(lake: Lake, contract: Contract, *, changes: str, table: str) -> Derived:
    """One row per key that exists: its newest values, and when they happened and reached us."""
    kept = _Kept(
        schema=current_schema(contract),
        partition_by=(),
        rows_sql=current_rows_sql,
        add=bring_current,
    )
    return retried(lambda: _derive(lake, contract, kept, changes=changes, table=table))


def derive_history(lake: Lake, contract: Contract, *, changes: str, table: str) -> Derived:
    """One row per change: values valid from its event_time to the key's next change, or open.

    A delete is a row too (op = 'd'), as is a truncate of each key that it removed (op = 't'): from
    then on the key did not exist.
    """
    kept = _Kept(
        schema=history_schema(contract),
        partition_by=(SEGMENT.name,),
        rows_sql=history_rows_sql,
        add=rewrite_history,
    )
    return retried(lambda: _derive(lake, contract, kept, changes=changes, table=table))


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """How one derived table is made of all changes, and brought to new ones."""

    schema: pa.Schema
    partition_by: Sequence[str]
    rows_sql: Callable[[Contract, str, Facts], str]
    add: Callable[[DeltaTable, Contract, News], None]


def _derive(lake: Lake, contract: Contract, kept: _Kept, *, changes: str, table: str) -> Derived:
    source = lake.open(changes)
    added = _add(lake, contract, kept, source=source, changes=changes, table=table)
    handle = _make(lake, contract, kept, source, table) if isinstance(added, Anew) else added
    return Derived(
        table=table,
        version=int(handle.version()),
        changes_version=int(source.version()),
        num_rows=num_rows(handle),
        num_unavailable=_num_unavailable(handle),
        made_anew=added.reason if isinstance(added, Anew) else None,
    )


def _make(
    lake: Lake, contract: Contract, kept: _Kept, source: DeltaTable, table: str
) -> DeltaTable:
    """Make the table of all changes, in one commit."""
    with duckdb_in_utc() as connection:
        sql, facts, shown = all_changes(connection, contract, source)
        rows = connection.sql(kept.rows_sql(contract, sql, facts)).to_arrow_reader()
        lake.overwrite(
            table,
            rows.cast(kept.schema),
            partition_by=kept.partition_by,
            metadata=shown.metadata(),
        )
    return lake.open(table)


def _add(
    lake: Lake, contract: Contract, kept: _Kept, *, source: DeltaTable, changes: str, table: str
) -> DeltaTable | Anew:
    """The table with what is new, if anything; or why it has to be made anew."""
    if not lake.exists(table):
        return Anew("there is no table yet")
    handle = lake.open(table)
    shown = Shown.read(last_metadata(handle))
    if shown is None:
        return Anew("the table does not say what it shows")
    if not _is_kept_so(handle, kept):
        return Anew("the columns changed")
    if shown.changes_version == source.version() and shown.changes_id == str(source.metadata().id):
        return handle
    news = new_changes(
        contract,
        source,
        shown=shown,
        at_version=lambda version: lake.open(changes, version=version),
    )
    if isinstance(news, Anew):
        return news
    if len(news.rows):
        kept.add(handle, contract, news)
    return handle


def _num_unavailable(handle: DeltaTable) -> int:
    shown = Shown.read(last_metadata(handle))
    if shown is not None and shown.is_whole:
        return 0
    is_missing = pc.field(UNAVAILABLE.name).is_valid()
    return int(snapshot_dataset(handle).count_rows(filter=is_missing))


def _is_kept_so(handle: DeltaTable, kept: _Kept) -> bool:
    is_partitioned_so = list(handle.metadata().partition_columns) == list(kept.partition_by)
    return is_partitioned_so and arrow_schema(handle) == delta_schema(kept.schema)
