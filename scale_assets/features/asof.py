"""Point-in-time joins in DuckDB: each entity row gets what was known at its time, and nothing else.

A feature row is visible from the later of feature_time and known_at on. Of the rows visible at an
entity row's time the newest feature_time wins, then the newest known_at; older than the ttl is null.
Keeping only rows that beat every row visible before them (the frontier) turns that rule into one
plain ASOF join, however late some rows became known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.errors import ScaleError
from scale_assets.features.reader import quoted

if TYPE_CHECKING:
    import duckdb


class AsOfJoinError(ScaleError):
    """Entity rows or feature columns that cannot be joined."""


@dataclass(frozen=True)
class AsOfView:
    """One feature view to join: ``relation`` is a SELECT of its whole history."""

    name: str
    relation: str
    keys: tuple[tuple[str, str], ...]  # (column of the entity rows, column of the relation)
    columns: tuple[tuple[str, str], ...]  # (column of the relation, name in the result)
    feature_time: str
    known_at: str | None
    ttl: timedelta | None


def connect(
    *, memory_limit: str | None = None, temp_folder: str | None = None
) -> "duckdb.DuckDBPyConnection":
    """A private in-memory DuckDB in UTC; beyond memory_limit it spills to temp_folder."""
    import duckdb

    connection = duckdb.connect()
    connection.execute("set TimeZone = 'UTC'")
    if memory_limit:
        connection.execute("set memory_limit = ?", [memory_limit])
    if temp_folder:
        connection.execute("set temp_directory = ?", [temp_folder])
    return connection


def join_as_of(
    connection: "duckdb.DuckDBPyConnection",
    entities: str | pa.Table,
    views: Sequence[AsOfView],
    *,
    time: str,
    hide_backfills: bool = True,
    with_times: bool = False,
) -> pa.Table:
    """Return every entity row once, in order, with the views' columns as known at ``time``.

    Args:
        connection: A private one, as ``connect`` makes: temporary tables are left in it.
        entities: Rows as a table, or a SELECT that the connection can run.
        views: The feature views to join; any number, each by its own keys.
        time: Column of the entity rows; naive times are UTC.
        hide_backfills: False makes rows visible from their feature_time on, however late they came.
        with_times: Add "<view>__feature_time" and "<view>__known_at" of the rows that were used.

    Raises:
        AsOfJoinError: A key or time column is missing, or two result columns share a name.
    """
    columns = _store_entities(connection, entities, views, time)
    outputs = [quoted(f"entity {name}") + f" as {quoted(name)}" for name in columns]
    joins = []
    for position, view in enumerate(views):
        _store_frontier(connection, view, hide_backfills=hide_backfills)
        _store_matches(connection, view, f"match_{position}", hide_backfills=hide_backfills)
        joins.append(f"left join match_{position} using (_row)")
        outputs += [f"match_{position}.{quoted(name)}" for _, name in view.columns]
        if with_times:
            outputs += [
                f"make_timestamptz(match_{position}._{kind}) as {quoted(f'{view.name}__{kind}')}"
                for kind in ("feature_time", "known_at")
            ]
    query = f"select {', '.join(outputs)} from entity_rows {' '.join(joins)} order by _row"
    return connection.sql(query).to_arrow_table()


def latest_rows(view: AsOfView) -> str:
    """SELECT of one row per entity: the newest feature_time, then the newest known_at.

    A row that does not say when it became known counts as known at its feature_time.
    """
    newest = order = [quoted(view.feature_time)]
    if view.known_at:  # by itself, a null would be the greatest known_at
        known_at = quoted(view.known_at)
        newest = [*newest, f"coalesce({known_at}, {newest[0]})"]
        order = [*newest, f"{known_at} is not null"]
    # exact ties: any one, but the same one
    order = [*order, *(quoted(source) for source, _ in view.columns)]
    keys = ", ".join(quoted(source) for _, source in view.keys)
    rank = f"({', '.join(newest)})"
    return (
        f"with history as ({view.relation}),"
        f" newest as (select {keys}, max({rank}) as _newest from history"
        f" where {quoted(view.feature_time)} is not null group by all),"
        f" candidates as (select history.* from history join newest using ({keys})"
        f" where {rank} is not distinct from _newest)"
        f" select * from candidates qualify"
        f" row_number() over (partition by {keys} order by {_descending(order)}) = 1"
    )


def _store_entities(
    connection: "duckdb.DuckDBPyConnection",
    entities: str | pa.Table,
    views: Sequence[AsOfView],
    time: str,
) -> list[str]:
    """Number the entity rows; prefixed columns cannot collide with features' names."""
    source = entities if isinstance(entities, str) else "select * from caller_rows"
    if isinstance(entities, pa.Table):
        connection.register("caller_rows", entities)
    columns = [row[0] for row in connection.execute(f"describe {source}").fetchall()]
    _check_columns(columns, views, time)
    renamed = ", ".join(f"{quoted(name)} as {quoted(f'entity {name}')}" for name in columns)
    connection.execute(
        "create or replace temp table entity_rows as select row_number() over () as _row,"
        f" epoch_us({quoted(time)}::timestamptz) as _time, {renamed} from ({source})"
    )
    return columns


def _check_columns(columns: list[str], views: Sequence[AsOfView], time: str) -> None:
    for name in (time, *(key for view in views for key, _ in view.keys)):
        if name not in columns:
            raise AsOfJoinError(f"entity rows lack column {name!r}; they have {columns}")
    taken = set(columns)
    for view in views:
        for _, name in view.columns:
            if name in taken:
                raise AsOfJoinError(
                    f"two columns would be called {name!r} (view {view.name!r}); leave it out of "
                    "the entity rows or ask for full feature names"
                )
            taken.add(name)


def _store_frontier(
    connection: "duckdb.DuckDBPyConnection", view: AsOfView, *, hide_backfills: bool
) -> None:
    """The rows that answer anything, per key and the time from which they do."""
    visible = "greatest(_feature_time, _known_at)" if hide_backfills else "_feature_time"
    bounds = "_visible_at <= (select max(_time) from entity_rows)"
    if view.ttl is not None:
        bounds += (
            f" and _feature_time >= (select min(_time) from entity_rows) - {_micros(view.ttl)}"
        )
    connection.execute(
        "create or replace temp table frontier as select"
        f" {_key_names(view)}, {visible} as _visible_at,"
        " max({'feature_time': _feature_time, 'known_at': _known_at}) as _best"
        f" from ({_history(view, hide_backfills=hide_backfills)}) as history"
        f" semi join entity_rows on ({_same_entity(view, 'history')})"
        f" where {bounds} group by all"
    )
    (late,) = connection.execute(
        "select count(*) from frontier where _visible_at > _best.feature_time"
    ).fetchall()[0]
    if late:
        connection.execute(
            "create or replace temp table frontier as select * from frontier qualify"
            " _best.feature_time >= coalesce(max(_best.feature_time) over (partition by"
            f" {_key_names(view)} order by _visible_at"
            " rows between unbounded preceding and 1 preceding), _best.feature_time)"
        )


def _store_matches(
    connection: "duckdb.DuckDBPyConnection", view: AsOfView, table: str, *, hide_backfills: bool
) -> None:
    """One row per entity row that has an answer, with the view's columns."""
    fresh = ""
    if view.ttl is not None:
        fresh = f" where _best.feature_time >= _time - {_micros(view.ttl)}"
    connection.execute(
        f"create or replace temp table answers as select _row, {_key_names(view)},"
        " _best.feature_time as _feature_time, _best.known_at as _known_at from entity_rows"
        f" asof join frontier on {_same_entity(view, 'frontier')} and _time >= _visible_at{fresh}"
    )
    identity = f"{_key_names(view)}, _feature_time, _known_at"
    names = [quoted(name) for _, name in view.columns]
    connection.execute(
        f"create or replace temp table used as select {identity}, {', '.join(names)}"
        f" from ({_history(view, hide_backfills=hide_backfills)})"
        f" semi join answers using ({identity})"
    )
    (num_used, num_distinct) = connection.execute(
        "select (select count(*) from used),"
        f" (select count(*) from (select distinct {identity} from answers))"
    ).fetchall()[0]
    if num_used > num_distinct:  # equal in key and both times: any one, but always the same one
        connection.execute(
            "create or replace temp table used as select * from used qualify row_number() over"
            f" (partition by {identity} order by {_descending(names)}) = 1"
        )
    connection.execute(
        f"create or replace temp table {table} as select _row, _feature_time, _known_at,"
        f" {', '.join(names)} from answers join used using ({identity})"
    )


def _history(view: AsOfView, *, hide_backfills: bool) -> str:
    """The relation with keys and times under fixed names, times in microseconds."""
    feature_time = f"epoch_us({quoted(view.feature_time)}::timestamptz)"
    known_at = f"epoch_us({quoted(view.known_at)}::timestamptz)" if view.known_at else feature_time
    if not hide_backfills:
        known_at = f"coalesce({known_at}, {feature_time})"
    columns = [f"{quoted(source)} as _key{i}" for i, (_, source) in enumerate(view.keys)]
    columns += [f"{feature_time} as _feature_time", f"{known_at} as _known_at"]
    columns += [f"{quoted(source)} as {quoted(name)}" for source, name in view.columns]
    return (
        f"select {', '.join(columns)} from ({view.relation})"
        " where _feature_time is not null and _known_at is not null"
    )


def _same_entity(view: AsOfView, table: str) -> str:
    return " and ".join(
        f"entity_rows.{quoted(f'entity {key}')} = {table}._key{i}"
        for i, (key, _) in enumerate(view.keys)
    )


def _key_names(view: AsOfView) -> str:
    return ", ".join(f"_key{i}" for i in range(len(view.keys)))


def _micros(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def _descending(columns: Sequence[str]) -> str:
    return ", ".join(f"{column} desc nulls last" for column in columns)
