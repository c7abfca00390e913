"""Point-in-time joins in DuckDB: each entity row gets what was known at its time, and nothing else.

A feature row is visible from the later of feature_time and known_at on; one that lacks either time,
never. Of the rows visible at an entity row's time the newest feature_time wins, then the newest
known_at; older than the ttl is null. The join finds that feature_time from keys and times alone, then
reads the columns of just those rows: docs/decisions/0014-as-of-join.md says why, and what it costs.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.errors import ScaleError
from scale_assets.features.entity_rows import EntityRows, store_entities
from scale_assets.features.reader import quoted

if TYPE_CHECKING:
    import duckdb

    from scale_assets.features.spark_asof import SparkHistories

FEW_ROWS_PER_ENTITY = 4
"""Up to here a hash join of rows and history beats sorting both for an ASOF join."""
_MAX_MICROS = 1 << 61  # 70,000 years: a longer ttl is none, and would overflow


class AsOfJoinError(ScaleError):
    """Entity rows or feature columns that cannot be joined."""


@dataclass(frozen=True)
class AsOfView:
    """One feature view to join: ``relation`` is a SELECT of its whole history.

    It reads files or tables; what is registered on one connection is not there for its cursors.
    """

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
    connection.execute("set global TimeZone = 'UTC'")  # for its cursors, too
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
    spark: "SparkHistories | None" = None,
) -> pa.Table:
    """Return every entity row once, in order, with the views' columns as known at ``time``.

    Arguments and errors are those of ``store_join``.
    """
    query = store_join(
        connection,
        entities,
        views,
        time=time,
        hide_backfills=hide_backfills,
        with_times=with_times,
        spark=spark,
    )
    return connection.sql(query).to_arrow_table()


def store_join(
    connection: "duckdb.DuckDBPyConnection",
    entities: str | pa.Table,
    views: Sequence[AsOfView],
    *,
    time: str,
    hide_backfills: bool = True,
    with_times: bool = False,
    spark: "SparkHistories | None" = None,
) -> str:
    """Join into tables in memory, which spill to disk; returns the SELECT of the result.

    Views are joined side by side: a history of one row group keeps but one thread busy.

    Args:
        connection: A private one, as ``connect`` makes: tables are left in it.
        entities: Rows as a table, or a SELECT that the connection can run.
        views: The feature views to join; any number, each by its own keys.
        time: Column of the entity rows; naive times are UTC.
        hide_backfills: False makes rows visible from their feature_time on, however late they came.
        with_times: Add "<view>__feature_time" and "<view>__known_at" of the rows that were used.
        spark: Where given, Spark joins the histories, and only what it found comes here.

    Raises:
        AsOfJoinError: A key or time column is missing or of another type than the view's, or two
            result columns share a name.
    """
    rows = store_entities(connection, entities, time=time)
    _check_columns(rows, views, time)
    joins = [
        _ViewJoin(connection.cursor(), view, rows, number=number, hide_backfills=hide_backfills)
        for number, view in enumerate(views)
    ]
    if spark is None:
        with ThreadPoolExecutor(_num_threads(connection)) as pool:
            deque(pool.map(_ViewJoin.store, joins), maxlen=0)
    else:
        for join in joins:
            join.store_found(spark)
    outputs = [f"entity_rows.{quoted(f'entity {name}')} as {quoted(name)}" for name in rows.kinds]
    outputs += [output for join in joins for output in join.outputs(with_times=with_times)]
    tables = ["entity_rows", *(join.match for join in joins)]
    # Every table has the entity rows' order and number, so that no key is needed to join them.
    return f"select {', '.join(outputs)} from {' positional join '.join(tables)}"


def latest_rows(view: AsOfView, *, hide_backfills: bool = True) -> str:
    """SELECT of one row per entity: the newest feature_time, then the newest known_at.

    As in the join, a row that does not say when it became known is never used; where backfills are
    visible, it counts as known at its feature_time.
    """
    history = view.relation
    if view.known_at and hide_backfills:
        history = f"select * from ({history}) where {quoted(view.known_at)} is not null"
    newest = order = [quoted(view.feature_time)]
    if view.known_at:  # by itself, a null would be the greatest known_at
        known_at = quoted(view.known_at)
        newest = [*newest, f"coalesce({known_at}, {newest[0]})"]
        order = [*newest, f"{known_at} is not null"]
    # exact ties: any one, but the same one
    order = [*order, *(quoted(source) for source, _ in view.columns)]
    keys = [quoted(source) for _, source in view.keys]
    rank = f"({', '.join(newest)})"
    same = [f"history.{key} = newest.{key}" for key in keys]
    by = f"partition by {', '.join(keys)} " if keys else ""  # else it is about everything
    return (
        f"with history as ({history}),"
        f" newest as (select {', '.join([*keys, f'max({rank}) as _newest'])} from history"
        f" where {quoted(view.feature_time)} is not null group by all),"
        " candidates as (select history.* from history join newest"
        f" on {' and '.join([*same, f'{rank} is not distinct from _newest'])})"
        f" select * from candidates qualify row_number() over ({by}order by {_descending(order)}) = 1"
    )


def _check_columns(rows: EntityRows, views: Sequence[AsOfView], time: str) -> None:
    columns = list(rows.kinds)
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


class _ViewJoin:
    """The steps for one view; times are microseconds, and rows outside the bounds are never read."""

    def __init__(
        self,
        connection: "duckdb.DuckDBPyConnection",
        view: AsOfView,
        rows: EntityRows,
        *,
        number: int,
        hide_backfills: bool,
    ) -> None:
        self.match = f"match_{number}"  # one row per entity row, in order
        self._best, self._times = f"best_{number}", f"times_{number}"
        self._connection = connection
        self._view = view
        self._rows = rows
        self._has_few_rows = rows.most_per_entity(view.keys) <= FEW_ROWS_PER_ENTITY
        self._hide_backfills = hide_backfills
        self._keys = [f"_key{number}" for number, _ in enumerate(view.keys)]
        self._ttl = None if view.ttl is None else min(_micros(view.ttl), _MAX_MICROS)

    def outputs(self, *, with_times: bool) -> list[str]:
        """The columns of the result that come from this view."""
        view = self._view
        times = [("feature_time", f"{view.name}__feature_time")]
        times += [("known_at", f"{view.name}__known_at")]
        return [
            *(f"{self.match}._{n} as {quoted(name)}" for n, (_, name) in enumerate(view.columns)),
            *(
                f"make_timestamptz({self.match}._{kind}) as {quoted(name)}"
                for kind, name in times
                if with_times
            ),
        ]

    def store(self) -> None:
        """The view's columns of each entity row, or nulls."""
        entities = self._keyed_entities()
        best = self._best_by_hash if self._has_few_rows else self._best_by_order
        self._create(self._best, best(entities))
        self._create(self.match, self._matches())
        found = self._connection.execute(f"select count(*) from {self.match}").fetchall()[0][0]
        if found > self._rows.count:
            # Some history rows share key and feature_time.
            self._create(self.match, self._untied())
        for table in (self._times, self._best):
            self._connection.execute(f"drop table if exists {table}")

    def _create(self, table: str, query: str) -> None:
        self._connection.execute(f"create or replace table {table} as {query}")

    def store_found(self, spark: "SparkHistories") -> None:
        """The same, of what Spark found."""
        known = " and ".join(f"{name} is not null" for name in ["_time", *self._keys])
        keyed = f"select * from ({self._keyed_entities()}) where {known}"
        found = spark.matches(
            self._view,
            self._connection.sql(keyed).to_arrow_table(),
            hide_backfills=self._hide_backfills,
        )
        self._connection.register("spark_found", found)
        self._create(
            self.match,
            "select entity_rows._row, spark_found.* exclude (_row)"
            " from entity_rows left join spark_found using (_row) order by entity_rows._row",
        )
        self._connection.unregister("spark_found")

    def _best_by_hash(self, entities: str) -> str:
        """The newest visible feature_time per entity row, among all of its entity's."""
        return (
            f"select e.*, max(h._feature_time) as _feature_time from ({entities}) as e"
            f" left join ({self._history()}) as h on {self._on('e', 'h')}"
            f"{' and ' if self._keys else ''}h._feature_time <= e._time{self._fresh('h')}"
            f"{self._known('e')} group by all"
        )

    def _best_by_order(self, entities: str) -> str:
        """The same by ASOF joins: of rows that were known in time, and of those that came late.

        A row known at its feature_time never hides a newer one, so that sorting is enough. A late
        one may: for those, the newest feature_time among all that were known so far is kept.
        """
        visible_at = "greatest(_feature_time, _known_at)"
        self._create(
            self._times,
            f"select {''.join(f'{key}, ' for key in self._keys)}_feature_time,"
            f" {visible_at if self._hide_backfills else '_feature_time'} as _visible_at"
            f" from ({self._history()}) as h"
            + (f" semi join ({entities}) as e on {self._on('e', 'h')}" if self._keys else ""),
        )
        late = self._connection.execute(
            f"select count(*) from {self._times} where _visible_at > _feature_time"
        ).fetchall()[0][0]
        joins = f"asof left join (from {self._times} where _visible_at = _feature_time) as prompt"
        joins += f" on {self._on('e', 'prompt', 'and ')}e._time >= prompt._visible_at"
        newest = "prompt._feature_time"
        if late:
            by = f"partition by {', '.join(self._keys)} " if self._keys else ""
            joins += (
                " asof left join (select * replace (max(_feature_time) over"
                f" ({by}order by _visible_at) as _feature_time)"
                f" from {self._times} where _visible_at > _feature_time) as late"
                f" on {self._on('e', 'late', 'and ')}e._time >= late._visible_at"
            )
            newest = f"greatest({newest}, late._feature_time)"  # ignores null
        found = f"select e.*, {newest} as _feature_time from ({entities}) as e {joins}"
        if self._ttl is None:
            return found
        fresh = f"case when _feature_time >= _time - {self._ttl} then _feature_time end"
        return f"select * replace ({fresh} as _feature_time) from ({found})"

    def _matches(self) -> str:
        names = [f"_{number}" for number, _ in enumerate(self._view.columns)]
        times = ["_feature_time", "_known_at", "_is_known"]
        chosen = ", ".join(f"h.{name}" for name in [*times, *names])
        return (
            f"select best._row, {chosen} from {self._best} as best"
            f" left join ({self._history(names)}) as h"
            f" on {self._on('best', 'h', 'and ')}best._feature_time = h._feature_time"
            f"{self._known('best')} order by best._row"
        )

    def _untied(self) -> str:
        """The newest known_at wins; of exact ties any one, but always the same one."""
        names = [f"_{number}" for number, _ in enumerate(self._view.columns)]
        order = ["_known_at", "_is_known", *names]  # as in latest_rows
        return (
            f"select * from ({self._matches()}) qualify row_number() over"
            f" (partition by _row order by {_descending(order)}) = 1 order by _row"
        )

    def _keyed_entities(self) -> str:
        """_row, _time, and the keys in the history's types."""
        kinds = self._kinds()
        keys = [
            f"{self._same_type(key, source, kinds)} as {name}"
            for name, (key, source) in zip(self._keys, self._view.keys, strict=True)
        ]
        return f"select {', '.join(['_row', '_time', *keys])} from entity_rows"

    def _same_type(self, key: str, source: str, kinds: dict[str, str]) -> str:
        found = self._rows.key_as(key, kinds[source])
        if found is None:
            raise AsOfJoinError(
                f"entity column {key!r} is {self._rows.kinds[key]}, and view {self._view.name!r} "
                f"is keyed by {source!r}, which is {kinds[source]}; cast the entity column"
            )
        return found

    def _kinds(self) -> dict[str, str]:
        described = self._connection.execute(f"describe {self._view.relation}").fetchall()
        kinds: dict[str, str] = {row[0]: row[1] for row in described}
        view = self._view
        wanted = [
            *(source for _, source in view.keys),
            *(source for source, _ in view.columns),
            view.feature_time,
            *([view.known_at] if view.known_at else []),
        ]
        for name in wanted:
            if name not in kinds:
                raise AsOfJoinError(
                    f"the table of view {view.name!r} lacks column {name!r}; it has {list(kinds)}"
                )
        return kinds

    def _history(self, columns: Sequence[str] = ()) -> str:
        """The relation within the bounds, under fixed names: keys, times, columns by number."""
        view = self._view
        feature_time = f"{quoted(view.feature_time)}::timestamptz"
        known_at = f"{quoted(view.known_at)}::timestamptz" if view.known_at else feature_time
        is_known = f"{known_at} is not null"
        where = [f"{feature_time} <= make_timestamptz({_sql(self._rows.last)})"]
        if self._hide_backfills and view.known_at:
            where.append(f"{known_at} <= make_timestamptz({_sql(self._rows.last)})")
        if self._ttl is not None and self._rows.first is not None:
            where.append(f"{feature_time} >= make_timestamptz({self._rows.first - self._ttl})")
        if not self._hide_backfills:
            known_at = f"coalesce({known_at}, {feature_time})"
        chosen = [
            *(f"{quoted(s)} as {n}" for n, (_, s) in zip(self._keys, view.keys, strict=True)),
            f"epoch_us({feature_time}) as _feature_time",
            f"epoch_us({known_at}) as _known_at",
            f"{is_known} as _is_known",
            *(f"{quoted(view.columns[n][0])} as {name}" for n, name in enumerate(columns)),
        ]
        return f"select {', '.join(chosen)} from ({view.relation}) where {' and '.join(where)}"

    def _on(self, left: str, right: str, then: str = "") -> str:
        same = " and ".join(f"{left}.{key} = {right}.{key}" for key in self._keys)
        return f"{same} {then}" if same else ""

    def _known(self, rows: str) -> str:
        return f" and h._known_at <= {rows}._time" if self._hide_backfills else ""

    def _fresh(self, history: str) -> str:
        return "" if self._ttl is None else f" and {history}._feature_time >= _time - {self._ttl}"


def _num_threads(connection: "duckdb.DuckDBPyConnection") -> int:
    return int(connection.execute("select current_setting('threads')").fetchall()[0][0])


def _sql(value: int | None) -> str:
    return "null" if value is None else str(value)


def _micros(duration: timedelta) -> int:
    return duration // timedelta(microseconds=1)


def _descending(columns: Sequence[str]) -> str:
    return ", ".join(f"{column} desc nulls last" for column in columns)
