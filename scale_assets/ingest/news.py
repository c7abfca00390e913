"""What a derived table does not show yet of its changes, and whether that may simply be added."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

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
from scale_assets.lake.history import files_added_since
from scale_assets.lake.snapshots import relation_sql

if TYPE_CHECKING:
    import duckdb

NEWS = "news"  # the new changes, in DuckDB


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What a derived table says of the changes that it shows; kept in its commits' metadata."""

    changes_id: str
    changes_version: int
    newest: list[Any]  # the SORT columns of the newest change

    def metadata(self) -> dict[str, Any]:
        return {
            "changes_id": self.changes_id,
            "changes_version": self.changes_version,
            "newest": self.newest,
        }

    @classmethod
    def read(cls, metadata: dict[str, Any]) -> "Shown | None":
        """None where another program wrote the table last."""
        known = {name: metadata.get(name) for name in ("changes_id", "changes_version", "newest")}
        return None if None in known.values() else cls(**known)  # type: ignore[arg-type] # as written


@dataclass(frozen=True, kw_only=True)
class News:
    """New changes, as the table ``news`` of a DuckDB connection."""

    connection: "duckdb.DuckDBPyConnection"
    is_empty: bool
    facts: Facts
    shown: Shown  # what the table will show with them


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
    sql = changes_sql(contract, list(changes.file_uris()))
    facts = facts_of(connection, sql)
    shown = Shown(
        changes_id=str(changes.metadata().id),
        changes_version=int(changes.version()),
        newest=_first(connection, NEWEST_FIRST, of=f"({sql})"),
    )
    return sql, facts, shown


def new_changes(
    connection: "duckdb.DuckDBPyConnection",
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
    connection.execute(f"create temp table {NEWS} as {changes_sql(contract, added)}")
    facts = facts_of(connection, f"from {NEWS}")
    oldest, newest = _first(connection, ORDER), _first(connection, NEWEST_FIRST)
    if facts.has_truncates:
        return Anew("the source's table was truncated")
    if facts.has_moves:
        return Anew("a key changed, and a value that was not sent moved with it")
    if oldest and not _is_after(oldest, shown.newest):
        if _has_late(connection, contract, earlier, since=oldest[0]):
            return Anew("changes came after newer ones of their key")
        newest = max(newest, shown.newest, key=_nulls_first)
    version = int(changes.version())
    now = replace(shown, changes_version=version, newest=newest or shown.newest)
    return News(connection=connection, facts=facts, shown=now, is_empty=not oldest)


def changes_sql(contract: Contract, files: list[str]) -> str:
    """The needed columns of some files of changes; null where the files lack them."""
    return relation_sql(files=files, schema=needed_schema(contract), partition_columns=[])


def _earlier(
    changes: DeltaTable, shown: Shown, at_version: Callable[[int], DeltaTable]
) -> DeltaTable | Anew:
    if changes.metadata().id != shown.changes_id or changes.version() < shown.changes_version:
        return Anew("the table of changes is another one than before")
    try:
        return at_version(shown.changes_version)
    except DeltaError:
        return Anew(f"version {shown.changes_version} of the changes is no longer in their log")


def _has_late(
    connection: "duckdb.DuckDBPyConnection",
    contract: Contract,
    earlier: DeltaTable,
    *,
    since: int | None,
) -> bool:
    """Whether a key, or a truncate of all, has an earlier change that comes after a new one.

    Sources that are read in parallel interleave, so that coming late as such is common; coming late
    for a key is not. ``since`` is the least lsn of the new changes.
    """
    reach = None if since is None else f"lsn >= {since}"
    files = earlier.file_uris(file_pruning_predicate=reach)
    key, order = names(contract.primary_key), names(SORT)
    recent = f"from ({changes_sql(contract, list(files))}) where {reach or 'true'}"
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
    ((is_late,),) = connection.sql(late).fetchall()
    return bool(is_late)


def facts_of(connection: "duckdb.DuckDBPyConnection", changes: str) -> Facts:
    """What the changes hold that takes more than the newest of each key."""
    has_truncates, unchanged, has_moves = connection.sql(facts_sql(changes)).fetchall()[0]
    return Facts(
        has_truncates=has_truncates, unchanged=tuple(sorted(unchanged)), has_moves=has_moves
    )


def _first(connection: "duckdb.DuckDBPyConnection", order: str, *, of: str = NEWS) -> list[Any]:
    found = connection.sql(f"select {names(SORT)} from {of} order by {order} limit 1").fetchall()
    return list(found[0]) if found else []


def _is_after(one: list[Any], other: list[Any]) -> bool:
    return _nulls_first(one) > _nulls_first(other)


def _nulls_first(order: list[Any]) -> tuple[tuple[bool, Any], ...]:
    return tuple((value is not None, value) for value in order)
