"""Which entities a load writes: in DuckDB, from a whole snapshot or from what commits changed."""

import threading
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import pyarrow as pa

from scale_assets.features.asof import AsOfView, latest_rows
from scale_assets.features.codec import Layout
from scale_assets.features.packing import pack_columns
from scale_assets.features.repo import ViewDeclaration
from scale_assets.features.stores import PackedRow, Put
from scale_assets.features.stores.sqlite import quoted

if TYPE_CHECKING:
    import duckdb

PART_ROWS = 50_000  # also the most that is done again after a kill
BATCH_ROWS = 10_000
JOIN_KEYS = 250_000


class Changes:
    """Rows to write, in parts by a hash of their key, and keys of rows that may be gone."""

    def __init__(
        self,
        connection: "duckdb.DuckDBPyConnection",
        view: ViewDeclaration,
        layout: Layout,
        whole: str,
        *,
        read: str,
        is_full: bool,
    ) -> None:
        self._connection = connection
        self._view = view
        self._layout = layout
        self._whole = whole
        self.is_full = is_full
        self._lock = threading.Lock()
        (self.num_rows, newest, known) = connection.execute(
            "select count(*), max(feature_time), max(known_at) from changed"
        ).fetchall()[0]
        self.newest: tuple[int, int] | None = (newest, known) if self.num_rows else None
        self.num_unknown = _num_unknown(connection, view, read)
        self.num_parts = max(1, -(-self.num_rows // PART_ROWS))
        # Not DuckDB's own hash, which another version may compute otherwise: parts are recorded.
        # Sorted, so that a part is a few blocks of the table.
        connection.execute(
            f"create table parts as select *, (md5_number_lower(key) % {self.num_parts})::integer"
            " as part from changed order by part, how"
        )
        connection.execute("drop table changed")

    def rows(self, part: int) -> Iterator[tuple[Put, list[PackedRow]]]:
        """Packed rows of a part; any thread may ask."""
        with self._lock:
            cursor = self._connection.cursor()
        with cursor:
            for how in (Put.ADD, Put.FOLLOW):
                query = f"select * from parts where part = {part} and how = '{how.value}'"
                for batch in cursor.sql(query).to_arrow_reader(BATCH_ROWS):
                    yield how, self._packed(batch)

    def latest_of(self, keys: list[str]) -> Iterator[list[PackedRow]]:
        """The latest rows of these entities in the whole snapshot."""
        self._connection.register("wanted", pa.table({"key": pa.array(keys, pa.string())}))
        whole = (
            f"select * from ({self._whole}) where {key_sql(self._view)} in (select key from wanted)"
        )
        query = _latest_sql(self._view, whole, Put.FOLLOW)
        for batch in self._connection.sql(query).to_arrow_reader(BATCH_ROWS):
            yield self._packed(batch)

    def gone(self, stored: Iterable[list[str]] = ()) -> Iterator[list[str]]:
        """Keys that the snapshot has no row of: of those that lost rows, or of those in the store."""
        if not self.is_full:
            yield from self._batches("from lost anti join parts using (key)")
        for keys in _larger(stored):
            self._connection.register("stored", pa.table({"key": pa.array(keys, pa.string())}))
            yield from self._batches("from stored anti join parts using (key)")

    def _batches(self, source: str) -> Iterator[list[str]]:
        for batch in self._connection.sql(f"select key {source}").to_arrow_reader(BATCH_ROWS):
            yield batch["key"].to_pylist()

    def _packed(self, batch: pa.RecordBatch) -> list[PackedRow]:
        values = pack_columns(
            self._layout,
            [batch[f"c{position}"] for position in range(len(self._layout.columns))],
            feature_time=batch["feature_time"],
            known_at=batch["known_at"],
        )
        return list(map(PackedRow, batch["key"].to_pylist(), values))


def _larger(batches: Iterable[list[str]]) -> Iterator[list[str]]:
    """The same keys in fewer batches: each join with all parts reads all of them."""
    gathered: list[str] = []
    for keys in batches:
        gathered += keys
        if len(gathered) >= JOIN_KEYS:
            yield gathered
            gathered = []
    if gathered:
        yield gathered


def find_latest(
    connection: "duckdb.DuckDBPyConnection", view: ViewDeclaration, layout: Layout, whole: str
) -> Changes:
    """The latest row of every entity."""
    connection.execute(f"create table changed as {_latest_sql(view, whole, Put.FOLLOW)}")
    return Changes(connection, view, layout, whole, read=whole, is_full=True)


def find_changes(
    connection: "duckdb.DuckDBPyConnection",
    view: ViewDeclaration,
    layout: Layout,
    *,
    added: str,
    removed: str,
    whole: str,
) -> Changes:
    """The newest of the rows that came; for entities that lost rows, their latest of all.

    Rows that went and came again as they were (a partition that was rewritten) are not lost.
    """
    columns = ", ".join(quoted(name) for name in _used(view))
    connection.execute(
        f"create table lost as select distinct {key_sql(view)} as key from"
        f" (select {columns} from ({removed}) except select {columns} from ({added}))"
        f" where {_has_key(view)}"
    )
    (num_lost,) = connection.execute("select count(*) from lost").fetchall()[0]
    kept = f"select * from ({added}) where {key_sql(view)} not in (select key from lost)"
    query = _latest_sql(view, kept, Put.ADD)
    if num_lost:
        rest = f"select * from ({whole}) where {key_sql(view)} in (select key from lost)"
        query += f" union all by name {_latest_sql(view, rest, Put.FOLLOW)}"
    connection.execute(f"create table changed as {query}")
    return Changes(connection, view, layout, whole, read=added, is_full=False)


def as_of_view(view: ViewDeclaration, relation: str) -> AsOfView:
    """The declaration bound to the SELECT of its history."""
    return AsOfView(
        name=view.name,
        relation=relation,
        keys=tuple((key, key) for key in view.join_keys),
        columns=tuple((name, name) for name, _ in view.columns),
        feature_time=view.source.feature_time,
        known_at=view.source.known_at,
        ttl=view.ttl,
    )


def key_sql(view: ViewDeclaration) -> str:
    """What ``codec.entity_key`` does, in SQL; a view about everything has one key, the empty text."""
    if not view.join_keys:
        return "''"
    if len(view.join_keys) == 1:
        return f"{quoted(view.join_keys[0])}::varchar"
    parts = (
        f"replace(replace({quoted(name)}::varchar, '\\', '\\\\'), chr(31), '\\u')"
        for name in sorted(view.join_keys)
    )
    return f"concat_ws(chr(31), {', '.join(parts)})"


def _latest_sql(view: ViewDeclaration, relation: str, how: Put) -> str:
    """Latest rows: key, times in microseconds, columns by position, and how they are put."""
    feature_time = quoted(view.source.feature_time)
    known_at = quoted(view.source.known_at or view.source.feature_time)
    columns = [f"{quoted(name)} as c{i}" for i, (name, _) in enumerate(view.columns)]
    return (
        f"(select {key_sql(view)} as key, epoch_us({feature_time}) as feature_time,"
        f" epoch_us({known_at}) as known_at, {', '.join(columns)},"
        f" '{how.value}' as how from ({latest_rows(as_of_view(view, relation))})"
        f" where {_has_key(view)})"
    )


def _num_unknown(
    connection: "duckdb.DuckDBPyConnection", view: ViewDeclaration, relation: str
) -> int:
    """Rows that are left out because they do not say when they became known."""
    if view.source.known_at is None:
        return 0
    query = f"select count(*) from ({relation}) where {quoted(view.source.known_at)} is null"
    return int(connection.execute(query).fetchall()[0][0])


def _has_key(view: ViewDeclaration) -> str:
    return " and ".join(f"{quoted(name)} is not null" for name in view.join_keys) or "true"


def _used(view: ViewDeclaration) -> list[str]:
    """Columns of the table that the view reads, each once."""
    names = [*view.join_keys, view.source.feature_time, view.source.known_at or ""]
    return [name for name in dict.fromkeys([*names, *(name for name, _ in view.columns)]) if name]
