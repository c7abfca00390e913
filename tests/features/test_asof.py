"""The join equals a loop that anybody can check, whatever the history looks like."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scale_assets.features.asof import AsOfJoinError, AsOfView, connect, join_as_of, latest_rows

TIME = pa.timestamp("us", tz="UTC")
# Around the change to summer time, the end of a leap second and a leap day, in steps of hours.
ORIGINS = [
    datetime(2013, 3, 31, tzinfo=UTC),
    datetime(2012, 6, 30, 23, tzinfo=UTC),
    datetime(2012, 2, 29, tzinfo=UTC),
]
HISTORY = pa.schema(
    [("k", pa.string()), ("ft", TIME), ("ka", TIME), ("x", pa.int64()), ("y", pa.string())]
)
KEYS = ["a", "b", "c"]
Row = tuple[str | None, int | None, int | None, int | None, str | None]

hours = st.integers(0, 12)
rows = st.tuples(
    st.sampled_from(KEYS) | st.none(),
    hours | st.none(),
    hours | st.none(),
    st.integers(0, 3) | st.none(),
    st.sampled_from(["p", "q"]) | st.none(),
)
entities = st.tuples(st.sampled_from([*KEYS, "nobody"]) | st.none(), hours)
ttls = st.none() | st.integers(0, 12)


def visible_loop(
    history: Sequence[Row], key: str | None, time: int, ttl: int | None, *, hide_backfills: bool
) -> list[Row]:
    """Rows of the entity's best instant: one, or several that only their values tell apart."""
    best: list[Row] = []
    for row in history:
        row_key, feature_time, known_at, *_ = row
        if row_key is None or row_key != key or feature_time is None or feature_time > time:
            continue
        if hide_backfills and (known_at is None or known_at > time):
            continue
        if ttl is not None and feature_time < time - ttl:
            continue
        if best and _rank(row) < _rank(best[0]):
            continue
        best = [*best, row] if best and _rank(row) == _rank(best[0]) else [row]
    return best


def _rank(row: Row) -> tuple[int, int]:
    feature_time, known_at = row[1], row[2]
    assert feature_time is not None
    return feature_time, feature_time if known_at is None else known_at


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(rows, max_size=25),
    st.lists(rows, max_size=25),
    st.lists(entities, min_size=1, max_size=30),
    ttls,
    ttls,
    st.booleans(),
    st.sampled_from(ORIGINS),
)
@example([("a", 5, 5, 1, "p")], [], [("a", 5)], 0, None, True, ORIGINS[0])  # at the TTL's edge
@example([("a", 5, 6, 1, "p")], [], [("a", 5), ("a", 6)], None, None, True, ORIGINS[0])
@example([("a", 1, 1, 1, "p"), ("a", 0, 3, 2, "q")], [], [("a", 4)], None, None, True, ORIGINS[0])
def test_equals_the_naive_loop(
    history: list[Row],
    other: list[Row],
    labels: list[tuple[str | None, int]],
    ttl: int | None,
    other_ttl: int | None,
    hide_backfills: bool,
    origin: datetime,
) -> None:
    """Ties, future rows, nulls, unknown and repeated entities, TTL edges, backfills: 0 mismatches."""
    with connect() as connection:
        for name, table in (("one", history), ("two", other)):
            connection.register(name, _table(table, origin))
        views = [_view("one", ttl), _view("two", other_ttl)]
        found = join_as_of(
            connection, _labels(labels, origin), views, time="time", hide_backfills=hide_backfills
        ).to_pylist()

    assert [(row["key"], row["time"]) for row in found] == [(k, _at(t, origin)) for k, t in labels]
    for row, (key, time) in zip(found, labels, strict=True):
        for name, table, max_age in (("one", history, ttl), ("two", other, other_ttl)):
            best = visible_loop(table, key, time, max_age, hide_backfills=hide_backfills)
            expected = {(x, y) for *_, x, y in best} or {(None, None)}
            assert (row[f"{name}_x"], row[f"{name}_y"]) in expected


def test_ten_thousand_entity_rows_equal_the_loop() -> None:
    random = Random(4)
    keys = [f"key {i}" for i in range(150)]
    history: list[Row] = []
    for _ in range(3_000):
        feature_time = random.randrange(40)
        late = random.choice([0, 0, 0, random.randrange(20)])
        value = random.choice([None, random.randrange(5)])
        history.append((random.choice(keys), feature_time, feature_time + late - 1, value, None))
    labels = [(random.choice([*keys, "nobody"]), random.randrange(45)) for _ in range(10_000)]
    by_key = {key: [row for row in history if row[0] == key] for key in keys}

    with connect() as connection:
        connection.register("one", _table(history, ORIGINS[0]))
        found = join_as_of(connection, _labels(labels, ORIGINS[0]), [_view("one", 9)], time="time")

    mismatches = []
    for (key, time), value in zip(labels, found["one_x"].to_pylist(), strict=True):
        best = visible_loop(by_key.get(key, []), key, time, 9, hide_backfills=True)
        if value not in ({x for *_, x, _ in best} or {None}):
            mismatches.append((key, time, value, best))
    assert mismatches == []


@settings(max_examples=20, deadline=None)
@given(st.lists(rows, max_size=25), st.randoms(use_true_random=False))
def test_a_tie_is_broken_the_same_way_whatever_the_order(history: list[Row], random: Any) -> None:
    shuffled = list(history)
    random.shuffle(shuffled)
    labels = _labels([(key, 12) for key in KEYS], ORIGINS[0])

    results = []
    for table in (history, shuffled):
        with connect() as connection:
            connection.register("one", _table(table, ORIGINS[0]))
            results.append(join_as_of(connection, labels, [_view("one", None)], time="time"))

    assert results[0].equals(results[1])


@settings(max_examples=20, deadline=None)
@given(st.lists(rows, max_size=25))
def test_latest_rows_are_the_join_at_the_end_of_time(history: list[Row]) -> None:
    known = [row for row in history if row[0] is not None]
    with connect() as connection:
        connection.register("one", _table(known, ORIGINS[0]))
        latest = connection.sql(latest_rows(_view("one", None))).to_arrow_table().to_pylist()

    found = {row["k"]: row for row in latest}
    assert len(found) == len(latest)
    for key in KEYS:
        best = visible_loop(known, key, 99, None, hide_backfills=False)
        assert (key in found) == bool(best)
        if best:
            assert (found[key]["x"], found[key]["y"]) in {(x, y) for *_, x, y in best}


def test_the_times_of_the_used_rows_come_with_them() -> None:
    origin = ORIGINS[0]
    with connect() as connection:
        connection.register("one", _table([("a", 1, 2, 7, "p"), ("a", 3, 9, 8, "q")], origin))
        labels = _labels([("a", 4), ("b", 4)], origin)
        found = join_as_of(connection, labels, [_view("one", None)], time="time", with_times=True)

    assert found["one__feature_time"].to_pylist() == [_at(1, origin), None]
    assert found["one__known_at"].to_pylist() == [_at(2, origin), None]


def test_several_keys_and_a_query_as_entity_rows() -> None:
    """Entities may be a SELECT; keys may have other names than in the history."""
    with connect() as connection:
        connection.execute(
            "create table h as select * from (values ('a', 1, timestamptz '2013-01-01', 10),"
            " ('a', 2, timestamptz '2013-01-01', 20)) as t(k, n, ft, x)"
        )
        view = AsOfView(
            "v",
            "select * from h",
            (("name", "k"), ("number", "n")),
            (("x", "x"),),
            "ft",
            None,
            None,
        )
        found = join_as_of(
            connection,
            "select 'a' as name, i::bigint as number, timestamp '2013-01-02' as t from range(4) as r(i)",
            [view],
            time="t",
        )

    assert found["x"].to_pylist() == [None, 10, 20, None]


def test_missing_and_colliding_columns_are_named() -> None:
    labels = _labels([("a", 1)], ORIGINS[0])
    with connect() as connection:
        connection.register("one", _table([], ORIGINS[0]))
        with pytest.raises(AsOfJoinError, match="'moment'"):
            join_as_of(connection, labels, [_view("one", None)], time="moment")
        colliding = AsOfView(
            "one", "select * from one", (("key", "k"),), (("x", "key"),), "ft", "ka", None
        )
        with pytest.raises(AsOfJoinError, match="'key'"):
            join_as_of(connection, labels, [colliding], time="time")


def _view(name: str, ttl: int | None) -> AsOfView:
    return AsOfView(
        name=name,
        relation=f"select * from {name}",
        keys=(("key", "k"),),
        columns=(("x", f"{name}_x"), ("y", f"{name}_y")),
        feature_time="ft",
        known_at="ka",
        ttl=None if ttl is None else timedelta(hours=ttl),
    )


def _table(history: Sequence[Row], origin: datetime) -> pa.Table:
    columns = list(zip(*history, strict=True)) or [()] * 5
    arrays = [
        pa.array([_at(v, origin) for v in values] if field.type == TIME else values, field.type)
        for values, field in zip(columns, HISTORY, strict=True)
    ]
    return pa.table(arrays, schema=HISTORY)


def _labels(labels: Sequence[tuple[str | None, int]], origin: datetime) -> pa.Table:
    return pa.table(
        {
            "key": pa.array([key for key, _ in labels], pa.string()),
            "time": pa.array([_at(time, origin) for _, time in labels], TIME),
        }
    )


def _at(hour: int | None, origin: datetime) -> datetime | None:
    return None if hour is None else origin + timedelta(hours=hour)
