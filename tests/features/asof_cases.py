"""Histories and entity rows, and the loop that anybody can check, for every engine of the join."""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from random import Random

import duckdb
import pyarrow as pa
from hypothesis import strategies as st

from scale_assets.features.asof import AsOfView

TIME = pa.timestamp("us", tz="UTC")
# Around the changes to summer and winter time, a leap second, a leap day, in steps of hours.
ORIGINS = [
    datetime(2013, 3, 31, tzinfo=UTC),
    datetime(2013, 10, 27, tzinfo=UTC),
    datetime(2012, 6, 30, 23, tzinfo=UTC),
    datetime(2012, 2, 29, tzinfo=UTC),
]
HISTORY = pa.schema(
    [("k", pa.string()), ("ft", TIME), ("ka", TIME), ("x", pa.int64()), ("y", pa.string())]
)
KEYS = ["a", "b", "c"]
Row = tuple[str | None, int | None, int | None, int | None, str | None]
Label = tuple[str | None, int | None]
Join = Callable[..., pa.Table]
"""histories by name, entity rows, views; ``hide_backfills``: the joined rows."""

# Nulls are one case among many: of `hours | st.none()` half would be null, and few rows be found.
hours_or_null = st.integers(0, 13).map(lambda hour: None if hour == 13 else hour)
rows = st.tuples(
    st.sampled_from([*KEYS, None]),
    hours_or_null,
    hours_or_null,
    st.sampled_from([0, 1, 2, 3, None]),
    st.sampled_from(["p", "q", None]),
)
entities = st.tuples(st.sampled_from([*KEYS, "nobody", None]), hours_or_null)
ttls = st.none() | st.integers(0, 12)


def visible_loop(
    history: Sequence[Row],
    key: str | None,
    time: int | None,
    ttl: int | None,
    *,
    hide_backfills: bool,
) -> Row | None:
    """The row that an entity row must get; of exact ties the one with the largest values."""
    best: Row | None = None
    for row in history:
        row_key, feature_time, known_at, *_ = row
        if row_key is None or row_key != key or feature_time is None:
            continue
        if time is None or feature_time > time:
            continue
        if hide_backfills and (known_at is None or known_at > time):
            continue
        if ttl is not None and feature_time < time - ttl:
            continue
        if best is None or _rank(row) > _rank(best):
            best = row
    return best


def _rank(row: Row) -> tuple[object, ...]:
    _, feature_time, known_at, x, y = row
    values = (known_at is not None, x is not None, x or 0, y is not None, y or "")
    return (feature_time, feature_time if known_at is None else known_at, *values)


def mismatches(
    joined: pa.Table,
    labels: Sequence[Label],
    views: Sequence[tuple[str, Sequence[Row], int | None]],
    *,
    origin: datetime,
    hide_backfills: bool,
) -> list[tuple[object, ...]]:
    """Entity rows out of order, lost or doubled, and values that are not the loop's."""
    expected = [(key, at(time, origin)) for key, time in labels]
    given = list(zip(joined["key"].to_pylist(), joined["time"].to_pylist(), strict=True))
    if given != expected:
        return [("entity rows", given, expected)]
    wrong: list[tuple[object, ...]] = []
    for name, history, ttl in views:
        by_key: dict[str | None, list[Row]] = {}
        for row in history:
            by_key.setdefault(row[0], []).append(row)
        found = zip(joined[f"{name}_x"].to_pylist(), joined[f"{name}_y"].to_pylist(), strict=True)
        for (key, time), values in zip(labels, found, strict=True):
            best = visible_loop(by_key.get(key, []), key, time, ttl, hide_backfills=hide_backfills)
            if values != (best[3:] if best else (None, None)):
                wrong.append((name, key, time, values, best))
    return wrong


def random_case(seed: int, *, num_labels: int) -> tuple[list[Row], list[Label]]:
    """A larger history: ties, future rows, backfills, nulls, unknown and repeated entities."""
    random = Random(seed)
    keys = [f"key {i}" for i in range(max(3, num_labels // 60))]
    history: list[Row] = []
    for _ in range(num_labels // 3):
        feature_time = random.choice([None, *range(40)])
        late = random.choice([0, 0, -1, random.randrange(20)])
        known_at = None if feature_time is None or random.random() < 0.1 else feature_time + late
        key = random.choice([*keys, None])
        value, text = random.choice([None, *range(5)]), random.choice([None, "p", "q"])
        history.append((key, feature_time, known_at, value, text))
    history += random.sample(history, len(history) // 20)  # exact repeats
    pool: list[str | None] = [*keys, "nobody", None]
    times: list[int | None] = [*range(-2, 45), None]
    return history, [(random.choice(pool), random.choice(times)) for _ in range(num_labels)]


def view(name: str, ttl: int | None, *, known_at: str | None = "ka") -> AsOfView:
    return AsOfView(
        name=name,
        relation=f"select * from {name}",
        keys=(("key", "k"),),
        columns=(("x", f"{name}_x"), ("y", f"{name}_y")),
        feature_time="ft",
        known_at=known_at,
        ttl=None if ttl is None else timedelta(hours=ttl),
    )


def store(connection: duckdb.DuckDBPyConnection, name: str, rows: pa.Table) -> None:
    """A table that cursors of the connection see, too."""
    connection.register("given_rows", rows)
    connection.execute(f"create or replace table {name} as select * from given_rows")


def history_table(history: Sequence[Row], origin: datetime) -> pa.Table:
    columns = list(zip(*history, strict=True)) or [()] * 5
    arrays = [
        pa.array([at(v, origin) for v in values] if field.type == TIME else values, field.type)
        for values, field in zip(columns, HISTORY, strict=True)
    ]
    return pa.table(arrays, schema=HISTORY)


def label_table(labels: Sequence[Label], origin: datetime) -> pa.Table:
    return pa.table(
        {
            "key": pa.array([key for key, _ in labels], pa.string()),
            "time": pa.array([at(time, origin) for _, time in labels], TIME),
        }
    )


def at(hour: int | None, origin: datetime) -> datetime | None:
    return None if hour is None else origin + timedelta(hours=hour)
