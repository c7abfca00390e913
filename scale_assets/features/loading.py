"""Online load: the latest row of every entity, from a Delta snapshot into the online store."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from scale_assets.features.asof import AsOfView, connect, latest_rows
from scale_assets.features.codec import LISTS, Layout, from_micros
from scale_assets.features.reader import OnlineStoreError, quoted
from scale_assets.features.repo import ViewDeclaration
from scale_assets.features.writer import OnlineWriter, PackedRow, Snapshot
from scale_assets.lake import Lake

if TYPE_CHECKING:
    import duckdb

BATCH_ROWS = 10_000


@dataclass(frozen=True)
class LoadReport:
    """What one load did; nothing is written when the view already equals the snapshot."""

    num_entities: int
    num_written: int
    num_removed: int
    delta_version: int
    previous_version: int | None


def load_view(
    lake: Lake, view: ViewDeclaration, path: str | Path, *, clock: int | None = None
) -> LoadReport:
    """Make the online view equal to the lake's latest rows; only entities that changed are written.

    Rows, the loaded Delta version and the clock change in one transaction, so a load that died can
    simply run again. A pushed value that is newer than the lake's stays.

    Args:
        lake: Where the view's table is.
        view: What to load.
        path: The online store's file; created where it is missing.
        clock: Newest received_at of the world, microseconds; without it the newest known_at.
    """
    layout = Layout(view.columns)
    table = lake.open(view.source.table)
    snapshot = Snapshot(str(table.metadata().id), lake.version(view.source.table))
    with OnlineWriter(path) as writer:
        previous = writer.loaded(view.name, layout)
        with writer.transaction():
            writer.declare(view.name, layout, ttl=view.ttl)
            if previous == snapshot:
                entities = len(writer.loaded_digests(view.name))
                return LoadReport(entities, 0, 0, snapshot.version, snapshot.version)
            relation = lake.duckdb_relation_sql(view.source.table, version=snapshot.version)
            counts, known_at = _load(writer, view, layout, relation)
            writer.mark_loaded(view.name, snapshot, clock=max(clock or 0, known_at))
    return LoadReport(*counts, snapshot.version, previous.version if previous else None)


def newest(lake: Lake, table: str, column: str) -> datetime:
    """The newest time in a column of the newest snapshot.

    Raises:
        OnlineStoreError: The table is empty, so there is no such time.
    """
    with connect() as connection:
        found = connection.execute(
            f"select epoch_us(max({quoted(column)})::timestamptz)"
            f" from ({lake.duckdb_relation_sql(table)})"
        ).fetchall()[0][0]
    if found is None:
        raise OnlineStoreError(f"table {table} has no {column} to tell the time by; it is empty")
    return from_micros(found)


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


def _load(
    writer: OnlineWriter, view: ViewDeclaration, layout: Layout, relation: str
) -> tuple[tuple[int, int, int], int]:
    """Write what changed; return the counts (entities, written, removed) and the newest known_at."""
    spill = tempfile.mkdtemp(prefix="online-load-")
    try:
        with connect(temp_folder=spill) as connection:
            connection.register("loaded", _digest_table(writer.loaded_digests(view.name)))
            connection.execute(f"create temp table latest as {_latest_sql(view, layout, relation)}")
            removed = connection.execute(
                "select key from loaded anti join latest using (key)"
            ).fetchall()
            counts = connection.execute(
                "select count(*), count(*) filter (latest.digest is distinct from loaded.digest),"
                " coalesce(max(_known_at), 0) from latest left join loaded using (key)"
            ).fetchall()[0]
            rows = _packed_rows(connection, layout)
            writer.load(view.name, rows, removed=[key for (key,) in removed])
    finally:
        shutil.rmtree(spill, ignore_errors=True)
    return (counts[0], counts[1], len(removed)), counts[2]


def _latest_sql(view: ViewDeclaration, layout: Layout, relation: str) -> str:
    """Latest rows with key, times in microseconds, columns by position, and a digest of it all."""
    known_at = quoted(view.source.known_at or view.source.feature_time)
    columns = [f"{quoted(name)} as c{i}" for i, (name, _) in enumerate(view.columns)]
    hashed = ["_feature_time", "_known_at", *(quoted(name) for name, _ in view.columns)]
    return (
        f"select {_key_sql(view)} as key,"
        f" epoch_us({quoted(view.source.feature_time)}) as _feature_time,"
        f" epoch_us(coalesce({known_at}, {quoted(view.source.feature_time)})) as _known_at,"
        f" (hash('{layout.schema:016x}', {', '.join(hashed)}) >> 1)::bigint as digest,"
        f" {', '.join(columns)} from ({latest_rows(as_of_view(view, relation))})"
        f" where {' and '.join(f'{quoted(name)} is not null' for name in view.join_keys)}"
    )


def _key_sql(view: ViewDeclaration) -> str:
    """What ``codec.entity_key`` does, in SQL."""
    if len(view.join_keys) == 1:
        return f"{quoted(view.join_keys[0])}::varchar"
    parts = (
        f"replace(replace({quoted(name)}::varchar, '\\', '\\\\'), chr(31), '\\u')"
        for name in sorted(view.join_keys)
    )
    return f"concat_ws(chr(31), {', '.join(parts)})"


def _digest_table(digests: list[tuple[str, int]]) -> pa.Table:
    keys, values = zip(*digests, strict=True) if digests else ((), ())
    return pa.table({"key": pa.array(keys, pa.string()), "digest": pa.array(values, pa.int64())})


def _packed_rows(connection: "duckdb.DuckDBPyConnection", layout: Layout) -> Iterator[PackedRow]:
    changed = connection.sql(
        "select latest.* from latest left join loaded using (key)"
        " where latest.digest is distinct from loaded.digest"
    )
    for batch in changed.to_arrow_reader(BATCH_ROWS):
        keys, times, known, digests = (
            batch[name].to_pylist() for name in ("key", "_feature_time", "_known_at", "digest")
        )
        columns = [
            column_values(batch[f"c{i}"], kind) for i, (_, kind) in enumerate(layout.columns)
        ]
        values = zip(*columns, strict=True)
        for key, time, known_at, digest, row in zip(
            keys, times, known, digests, values, strict=True
        ):
            packed = layout.encode(row, feature_time=time, known_at=known_at)
            yield PackedRow(key, time, known_at, digest, packed)


def column_values(column: pa.Array, kind: str) -> list[Any]:
    """An Arrow column as values that the codec packs; numeric lists stay numpy arrays."""
    if kind == "timestamp":
        return list(column.cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist())
    if kind in LISTS and kind not in ("list<bool>", "list<timestamp>"):
        numbers = column.values
        if numbers.null_count == 0:
            flat = numbers.to_numpy(zero_copy_only=False)
            offsets = column.offsets.to_numpy()
            is_null = column.is_null().to_pylist()
            return [
                None if is_null[i] else flat[offsets[i] : offsets[i + 1]]
                for i in range(len(column))
            ]
    return list(column.to_pylist())
