"""What a derived table does not show yet of its changes, and whether that may simply be added."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError

from scale_assets.contracts import Contract
from scale_assets.ingest.states import (
    NEWEST_FIRST,
    ORDER,
    SORT,
    Facts,
    facts_sql,
    names,
    needed_schema,
)
from scale_assets.lake.files import fetched, local_files
from scale_assets.lake.history import files_added_since
from scale_assets.lake.snapshots import files_table, relation_sql

if TYPE_CHECKING:
    import duckdb

NEWS = "news"  # the new changes, in DuckDB
IN_ORDER = [(name, "ascending", "at_start") for name in SORT]


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a derived table says of the changes that it shows; kept in its commits' metadata."""

    changes_id: str
    changes_version: int
    newest: list[Any]  # the SORT columns of the newest change
    is_whole: bool  # whether every change sent every value

    def metadata(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def read(cls, metadata: dict[str, Any]) -> "Shown | None":
        """None where another program wrote the table last."""
        known = {each.name: metadata.get(each.name) for each in fields(cls)}
        return None if None in known.values() else cls(**known)  # type: ignore[arg-type] # as written


@dataclass(frozen=True, kw_only=True)
class News:
    """New changes, in the order of the source's log."""

    rows: pa.Table
    facts: Facts
    shown: Shown  # what the table will show with them

    @contextmanager
    def in_duckdb(self) -> Iterator["duckdb.DuckDBPyConnection"]:
        """A connection that knows them as ``news``."""
        with duckdb_in_utc() as connection:
            connection.register(NEWS, self.rows)
            yield connection

    def concern(self, rows: pa.Table, key: Sequence[str]) -> pa.Array:
        """Whether each row has the key of some change."""
        numbered = rows.select(list(key)).append_column("_row", pa.array(np.arange(len(rows))))
        with self.in_duckdb() as connection:
            connection.register("there", numbered)
            found = connection.sql(
                f"select _row from there semi join {NEWS} using ({names(key)})"
            ).to_arrow_table()
        mask = np.zeros(len(rows), dtype=bool)
        mask[found["_row"].to_numpy()] = True
        return pa.array(mask)


@dataclass(frozen=True)
class Anew:
    """Why new changes cannot be added, so that the table has to be made anew."""

    reason: str


@contextmanager
def duckdb_in_utc() -> Iterator["duckdb.DuckDBPyConnection"]:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        yield connection


def all_changes(
    connection: "duckdb.DuckDBPyConnection", contract: Contract, changes: DeltaTable
) -> tuple[str, Facts, Shown]:
    """A SELECT of every change, what they hold, and what a table made of them shows."""
    sql = changes_sql(contract, local_files(changes))
    ((has_truncates, unchanged, has_moves),) = connection.sql(facts_sql(sql)).fetchall()
    facts = Facts(
        has_truncates=has_truncates, unchanged=tuple(sorted(unchanged)), has_moves=has_moves
    )
    newest = f"select {names(SORT)} from ({sql}) order by {NEWEST_FIRST} limit 1"
    shown = Shown(
        changes_id=str(changes.metadata().id),
        changes_version=int(changes.version()),
        newest=[value for row in connection.sql(newest).fetchall() for value in row],
        is_whole=not facts.unchanged,
    )
    return sql, facts, shown


def new_changes(
    contract: Contract,
    changes: DeltaTable,
    *,
    shown: Shown,
    at_version: Callable[[int], DeltaTable],
) -> News | Anew:
    """The changes since ``shown``, if they come after what is shown and concern their own keys."""
    earlier = _earlier(changes, shown, at_version)
    if isinstance(earlier, Anew):
        return earlier
    added = files_added_since(changes, earlier)
    if added is None:
        return Anew("changes were rewritten, removed or compacted")
    rows = files_table(fetched(changes, added), needed_schema(contract)).sort_by(IN_ORDER)
    facts = Facts.of(rows)
    reason = _why_not_added(contract, rows, facts, earlier=earlier, shown=shown)
    if reason is not None:
        return Anew(reason)
    newest = _order(rows, -1) if len(rows) else shown.newest
    newest = max(newest, shown.newest, key=_nulls_first)
    now = replace(
        shown,
        changes_version=int(changes.version()),
        newest=newest,
        is_whole=shown.is_whole and not facts.unchanged,
    )
    return News(rows=rows, facts=facts, shown=now)


def changes_sql(contract: Contract, files: list[str]) -> str:
    """The needed columns of some files of changes; null where the files lack them."""
    return relation_sql(files=files, schema=needed_schema(contract), partition_columns=[])


def _earlier(
    changes: DeltaTable, shown: Shown, at_version: Callable[[int], DeltaTable]
) -> DeltaTable | Anew:
    if str(changes.metadata().id) != shown.changes_id or changes.version() < shown.changes_version:
        return Anew("the table of changes is another one than before")
    try:
        return at_version(shown.changes_version)
    except DeltaError:
        return Anew(f"version {shown.changes_version} of the changes is no longer in their log")


def _why_not_added(
    contract: Contract, rows: pa.Table, facts: Facts, *, earlier: DeltaTable, shown: Shown
) -> str | None:
    if facts.has_truncates:
        return "the source's table was truncated"
    if facts.has_moves:
        return "a key changed, and a value that was not sent moved with it"
    if len(rows) and _is_late(contract, rows, earlier, shown):
        return "changes came after newer ones of their key"
    return None


def _is_late(contract: Contract, rows: pa.Table, earlier: DeltaTable, shown: Shown) -> bool:
    """Whether a key, or a truncate of all, has an earlier change that comes after a new one.

    Sources that are read in parallel interleave, so that coming late as such is common; coming late
    for a key is not.
    """
    oldest = _order(rows, 0)
    if _nulls_first(oldest) > _nulls_first(shown.newest):
        return False
    reach = None if oldest[0] is None else f"lsn >= {oldest[0]}"
    files = local_files(earlier, file_pruning_predicate=reach)
    recent = f"from ({changes_sql(contract, files)}) where {reach or 'true'}"
    key, order = names(contract.primary_key), names(SORT)
    late = f"""
        with recent as (select {key}, op, {order} {recent}),
        numbered as (
            select {key}, is_new, row_number() over (order by {ORDER}) as number
            from (
                select {key}, {order}, true as is_new from {NEWS}
                union all
                select {key}, {order}, false from recent semi join {NEWS} using ({key})
            )
        )
        select
            exists (from recent where op = 't') or exists (
                select 1 from numbered group by {key}
                having max(number) filter (not is_new) > min(number) filter (is_new)
            )
    """
    with duckdb_in_utc() as connection:
        connection.register(NEWS, rows)
        ((is_late,),) = connection.sql(late).fetchall()
    return bool(is_late)


def _order(rows: pa.Table, row: int) -> list[Any]:
    return [rows[name][row].as_py() for name in SORT]


def _nulls_first(order: list[Any]) -> tuple[tuple[bool, Any], ...]:
    return tuple((value is not None, value) for value in order)
