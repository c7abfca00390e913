"""A view's values in the lake as of the instants that it was read at for serving."""

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.features.asof import AsOfJoinError, store_join
from scale_assets.features.changes import as_of_view, key_sql
from scale_assets.features.codec import Layout
from scale_assets.features.reader import quoted
from scale_assets.features.repo import ViewDeclaration
from scale_assets.features.streaming.recompute import values_as_of
from scale_assets.features.streaming.states import StateLayout
from scale_assets.lake import Lake

if TYPE_CHECKING:
    import duckdb

MICROSECOND = timedelta(microseconds=1)
ONLINE_KEY = "online key"  # no column of a table is called so
SAME_ROW = "as_of.key = asked.key and as_of.time = asked.time"
MAX_VERSIONS = 64
"""How far back a table that keeps only its latest rows is looked through."""


def store_as_of(
    connection: "duckdb.DuckDBPyConnection", lake: Lake, view: ViewDeclaration, asked: str
) -> None:
    """Put each asked row once into the table ``as_of``, with the view's columns.

    Args:
        connection: A private one, as ``asof.connect`` makes.
        lake: Where the view's table is.
        view: With the columns that are wanted.
        asked: A SELECT of key (as the online store has it), time, and was_read: whether the online
            store had a row.

    Columns of the result: key, time, is_told (False where the lake cannot say any more), f_<column>,
    and feature_time of the row that was the latest; null where there was none, or it was too old.
    """
    connection.execute(f"create or replace temp table asked as {asked}")
    if view.stream is None:
        _join(connection, lake, view)
    else:
        _count(connection, lake, view)


def layout_id(view: ViewDeclaration) -> str:
    """The id that values of the view's present layout carry."""
    layout = Layout(view.columns) if view.stream is None else StateLayout(view.stream.aggregates)
    return f"{layout.schema:016x}"


def _join(connection: "duckdb.DuckDBPyConnection", lake: Lake, view: ViewDeclaration) -> None:
    """By the training sets' own join of the newest snapshot, then of those before it.

    A table that keeps only the latest row of each entity has since replaced what was served, or
    should have been: what is not found is looked for in the versions that came before, if it was
    read online or has one row now.
    """
    newest, relation = lake.newest_relation_sql(view.source.table)
    _store_latest(connection, view, relation, "as_of")
    connection.execute(
        f"update asked set was_read = true where key in (select {key_sql(view)}"
        f" from ({relation}) group by all having count(*) = 1)"
    )
    for version in range(newest - 1, -1, -1):
        connection.execute(
            "create or replace temp table asked as select key, time, was_read from asked"
            " join as_of using (key, time) where was_read and feature_time is null"
        )
        if not connection.execute("select count(*) from asked").fetchall()[0][0]:
            break
        is_near = newest - version <= MAX_VERSIONS
        if not (is_near and _look_in(connection, lake, view, version)):
            connection.execute(f"update as_of set is_told = false from asked where {SAME_ROW}")
            break
    _forget_expired(connection, view)


def _look_in(
    connection: "duckdb.DuckDBPyConnection", lake: Lake, view: ViewDeclaration, version: int
) -> bool:
    """Replace what is not found yet by what a former version has; False if that cannot be read."""
    relation = lake.former_relation_sql(view.source.table, version)
    if relation is None:
        return False
    try:
        _store_latest(connection, view, relation, "former")
    except AsOfJoinError:  # it did not have the columns yet
        return False
    connection.execute("delete from former where feature_time is null")
    connection.execute(f"delete from as_of using former as asked where {SAME_ROW}")
    connection.execute("insert into as_of by name from former")
    return True


def _store_latest(
    connection: "duckdb.DuckDBPyConnection", view: ViewDeclaration, relation: str, table: str
) -> None:
    """The latest row of everything asked, however old; keys are compared as the online text."""
    keyed = f"select *, {key_sql(view)} as {quoted(ONLINE_KEY)} from ({relation})"
    bound = replace(as_of_view(view, keyed), keys=(("key", ONLINE_KEY),), ttl=None)
    named = replace(bound, columns=tuple((name, f"f_{name}") for name, _ in bound.columns))
    query = store_join(
        connection, "select key, time from asked", [named], time="time", with_times=True
    )
    connection.execute(
        f"create or replace temp table {table} as select true as is_told, * exclude"
        f" ({quoted(f'{view.name}__known_at')})"
        f" rename ({quoted(f'{view.name}__feature_time')} as feature_time) from ({query})"
    )


def _forget_expired(connection: "duckdb.DuckDBPyConnection", view: ViewDeclaration) -> None:
    if view.ttl is None:
        return
    columns = ["feature_time", *(quoted(f"f_{name}") for name, _ in view.columns)]
    ttl_us = view.ttl // MICROSECOND
    is_old = f"epoch_us(time) - epoch_us(feature_time) > {ttl_us}"
    connection.execute(
        "create or replace temp table as_of as select * replace ("
        + ", ".join(f"case when {is_old} then null else {name} end as {name}" for name in columns)
        + ") from as_of"
    )


def _count(connection: "duckdb.DuckDBPyConnection", lake: Lake, view: ViewDeclaration) -> None:
    """From the events that had been received by then."""
    assert view.stream is not None
    (key,) = view.join_keys
    asked = connection.sql("select key, time from asked").to_arrow_table()
    found = values_as_of(
        connection,
        view.stream.aggregates,
        lake.duckdb_relation_sql(view.source.table),
        asked.rename_columns([key, "time"]),
        columns=view.stream.columns,
        time="time",
    )
    columns = {"key": asked["key"], "time": asked["time"], "feature_time": found["feature_time"]}
    columns |= {f"f_{name}": found[name] for name, _ in view.columns}
    connection.register("counted", pa.table(columns))
    connection.execute(
        "create or replace temp table as_of as select true as is_told, * from counted"
    )
