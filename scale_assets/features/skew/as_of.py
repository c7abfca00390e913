"""A view's values in the lake as of the instants that it was read at for serving."""

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.features.asof import store_join
from scale_assets.features.changes import as_of_view, key_sql
from scale_assets.features.codec import Layout
from scale_assets.features.reader import quoted
from scale_assets.features.repo import ViewDeclaration
from scale_assets.features.streaming.recompute import values_as_of
from scale_assets.features.streaming.states import StateLayout
from scale_assets.lake import Lake

if TYPE_CHECKING:
    import duckdb

ONLINE_KEY = "online key"  # no column of a table is called so


def store_as_of(
    connection: "duckdb.DuckDBPyConnection", lake: Lake, view: ViewDeclaration, asked: str
) -> None:
    """Put each asked row once into the table ``as_of``, with the view's columns.

    Args:
        connection: A private one, as ``asof.connect`` makes.
        lake: Where the view's table is.
        view: With the columns that are wanted.
        asked: A SELECT of key (as the online store has it) and time.

    Columns of the result: key, time, the view's, and feature_time of the row that was used.
    """
    connection.execute(f"create or replace temp table asked as {asked}")
    relation = lake.duckdb_relation_sql(view.source.table)
    if view.stream is None:
        joined = _joined(connection, view, relation)
    else:
        joined = _counted(connection, view, relation)
    connection.execute(f"create or replace temp table as_of as {joined}")


def _joined(connection: "duckdb.DuckDBPyConnection", view: ViewDeclaration, relation: str) -> str:
    """By the training sets' own join; keys are compared as the text that is the key online."""
    keyed = f"select *, {key_sql(view)} as {quoted(ONLINE_KEY)} from ({relation})"
    bound = replace(as_of_view(view, keyed), keys=(("key", ONLINE_KEY),))
    named = replace(bound, columns=tuple((name, f"f_{name}") for name, _ in bound.columns))
    query = store_join(
        connection, "select key, time from asked", [named], time="time", with_times=True
    )
    return (
        f"select * rename ({quoted(f'{view.name}__feature_time')} as feature_time) from ({query})"
    )


def _counted(connection: "duckdb.DuckDBPyConnection", view: ViewDeclaration, events: str) -> str:
    """From the events that had been received by then."""
    assert view.stream is not None
    (key,) = view.join_keys
    asked = connection.sql("select key, time from asked").to_arrow_table()
    found = values_as_of(
        connection,
        view.stream.aggregates,
        events,
        asked.rename_columns([key, "time"]),
        columns=view.stream.columns,
        time="time",
    )
    columns = {"key": asked["key"], "time": asked["time"], "feature_time": found["feature_time"]}
    columns |= {f"f_{name}": found[name] for name, _ in view.columns}
    connection.register("counted", pa.table(columns))
    return "select * from counted"


def layout_id(view: ViewDeclaration) -> str:
    """The id that values of the view's present layout carry."""
    layout = Layout(view.columns) if view.stream is None else StateLayout(view.stream.aggregates)
    return f"{layout.schema:016x}"
