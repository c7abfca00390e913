"""The join on DuckDB equals a loop that anybody can check, whatever the history looks like."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from scale_assets.features import asof
from scale_assets.features.asof import AsOfJoinError, AsOfView, connect, join_as_of, latest_rows
from tests.features.asof_cases import (
    KEYS,
    ORIGINS,
    Label,
    Row,
    at,
    entities,
    history_table,
    label_table,
    mismatches,
    random_case,
    rows,
    store,
    ttls,
    view,
    visible_loop,
)

ALWAYS_ASOF, ALWAYS_HASH = -1, 1 << 60
WAYS = {"by order": ALWAYS_ASOF, "by hash": ALWAYS_HASH}


@pytest.fixture(params=WAYS, scope="module")
def way(request: pytest.FixtureRequest) -> Iterator[str]:
    """Both ways of finding the feature_time; which one runs is a matter of size alone."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(asof, "FEW_ROWS_PER_ENTITY", WAYS[request.param])
        yield request.param


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
@example([("a", 1, 5, 1, "p"), ("a", 3, 4, 2, "q")], [], [("a", 9)], None, None, True, ORIGINS[0])
def test_equals_the_naive_loop(
    way: str,
    history: list[Row],
    other: list[Row],
    labels: list[Label],
    ttl: int | None,
    other_ttl: int | None,
    hide_backfills: bool,
    origin: datetime,
) -> None:
    """Ties, future rows, nulls, unknown and repeated entities, TTL edges, backfills: 0 mismatches."""
    with connect() as connection:
        for name, table in (("one", history), ("two", other)):
            store(connection, name, history_table(table, origin))
        views = [view("one", ttl), view("two", other_ttl)]
        found = join_as_of(
            connection,
            label_table(labels, origin),
            views,
            time="time",
            hide_backfills=hide_backfills,
        )

    named = [("one", history, ttl), ("two", other, other_ttl)]
    assert mismatches(found, labels, named, origin=origin, hide_backfills=hide_backfills) == [], way


@pytest.mark.parametrize(
    "num_labels", [1_500, pytest.param(10_000, marks=pytest.mark.slow)], ids=str
)
@pytest.mark.parametrize("hide_backfills", [True, False], ids=["hidden", "visible"])
@pytest.mark.parametrize("ttl", [None, 3, 9])
def test_random_entity_rows_equal_the_loop(
    way: str, num_labels: int, hide_backfills: bool, ttl: int | None
) -> None:
    history, labels = random_case(4, num_labels=num_labels)

    with connect() as connection:
        store(connection, "one", history_table(history, ORIGINS[0]))
        found = join_as_of(
            connection,
            label_table(labels, ORIGINS[0]),
            [view("one", ttl)],
            time="time",
            hide_backfills=hide_backfills,
            with_times=True,
        )

    named = [("one", history, ttl)]
    wrong = mismatches(found, labels, named, origin=ORIGINS[0], hide_backfills=hide_backfills)
    assert wrong == [], way
    late = ("feature_time", "known_at") if hide_backfills else ("feature_time",)
    for kind in late:
        used = zip(found["time"].to_pylist(), found[f"one__{kind}"].to_pylist(), strict=True)
        assert not [pair for pair in used if pair[1] is not None and pair[1] > pair[0]]


@settings(max_examples=20, deadline=None)
@given(st.lists(rows, max_size=25), st.randoms(use_true_random=False))
def test_a_tie_is_broken_the_same_way_whatever_the_order(
    way: str, history: list[Row], random: Any
) -> None:
    shuffled = list(history)
    random.shuffle(shuffled)
    labels = label_table([(key, 12) for key in KEYS], ORIGINS[0])

    results = []
    for table in (history, shuffled):
        with connect() as connection:
            store(connection, "one", history_table(table, ORIGINS[0]))
            results.append(join_as_of(connection, labels, [view("one", None)], time="time"))

    assert results[0].equals(results[1]), way


@settings(max_examples=20, deadline=None)
@given(st.lists(rows, max_size=25), st.booleans())
@example([("a", 5, None, 1, "p"), ("a", 5, 6, 2, "q")], False)  # a null known_at is no later one
@example([("a", 5, None, 1, "p"), ("a", 4, 4, 2, "q")], True)  # and none to go by
def test_latest_rows_are_the_join_at_the_end_of_time(
    history: list[Row], hide_backfills: bool
) -> None:
    known = [row for row in history if row[0] is not None]
    with connect() as connection:
        store(connection, "one", history_table(known, ORIGINS[0]))
        latest = (
            connection.sql(latest_rows(view("one", None), hide_backfills=hide_backfills))
            .to_arrow_table()
            .to_pylist()
        )

    found = {row["k"]: row for row in latest}
    assert len(found) == len(latest)
    for key in KEYS:
        best = visible_loop(known, key, 99, None, hide_backfills=hide_backfills)
        assert (key in found) == bool(best)
        if best:
            assert (found[key]["x"], found[key]["y"]) == best[3:]


def test_the_times_of_the_used_rows_come_with_them(way: str) -> None:
    origin = ORIGINS[0]
    with connect() as connection:
        history: list[Row] = [("a", 1, 2, 7, "p"), ("a", 3, 9, 8, "q")]
        store(connection, "one", history_table(history, origin))
        labels = label_table([("a", 4), ("b", 4)], origin)
        found = join_as_of(connection, labels, [view("one", None)], time="time", with_times=True)

    assert found["one__feature_time"].to_pylist() == [at(1, origin), None], way
    assert found["one__known_at"].to_pylist() == [at(2, origin), None]


def test_a_view_without_keys_has_one_history_for_all(way: str) -> None:
    everybody = AsOfView("v", "select * from one", (), (("x", "x"),), "ft", "ka", None)
    with connect() as connection:
        store(connection, "one", history_table([("", 1, 1, 5, ""), ("", 3, 6, 6, "")], ORIGINS[0]))
        labels = label_table([("a", 0), ("b", 4), (None, 9)], ORIGINS[0])
        found = join_as_of(connection, labels, [everybody], time="time")

    assert found["x"].to_pylist() == [None, 5, 6], way


def test_several_keys_and_a_query_as_entity_rows(way: str) -> None:
    """Entities may be a SELECT; keys may have other names than in the history."""
    with connect() as connection:
        connection.execute(
            "create table h as select * from (values ('a', 1, timestamptz '2013-01-01', 10),"
            " ('a', 2, timestamptz '2013-01-01', 20)) as t(k, n, ft, x)"
        )
        keys = (("name", "k"), ("number", "n"))
        both = AsOfView("v", "select * from h", keys, (("x", "x"),), "ft", None, None)
        found = join_as_of(
            connection,
            "select 'a' as name, i::bigint as number, timestamp '2013-01-02' as t from range(4) as r(i)",
            [both],
            time="t",
        )

    assert found["x"].to_pylist() == [None, 10, 20, None], way


@pytest.mark.parametrize("ttl", [timedelta.max, timedelta(microseconds=1)])
def test_a_ttl_of_any_size(way: str, ttl: timedelta) -> None:
    with connect() as connection:
        store(connection, "one", history_table([("a", 1, 1, 5, "p")], ORIGINS[0]))
        any_ttl = AsOfView(
            "one", "select * from one", (("key", "k"),), (("x", "x"),), "ft", "ka", ttl
        )
        found = join_as_of(
            connection, label_table([("a", 1), ("a", 9)], ORIGINS[0]), [any_ttl], time="time"
        )

    assert found["x"].to_pylist() == [5, 5 if ttl == timedelta.max else None], way


@pytest.mark.parametrize(
    "time",
    [
        pa.array([1_357_084_800_000_000], pa.timestamp("us")),
        pa.array([1_357_084_800_000_000_000], pa.timestamp("ns")),
        pa.array([datetime(2013, 1, 2, tzinfo=UTC)], pa.timestamp("us", tz="America/New_York")),
        pa.array([date(2013, 1, 2)]),
        pa.array(["2013-01-02T00:00:00"]),
        pa.array(["2013-01-02 01:00:00+01:00"]),
    ],
    ids=["naive", "nanoseconds", "aware", "date", "text", "text with offset"],
)
def test_times_of_every_kind_are_utc(way: str, time: pa.Array) -> None:
    with connect() as connection:
        connection.execute(
            "create table h as select 1 as k, t as ft, row_number() over (order by t) as x from"
            " (values (timestamp '2013-01-02 00:00:00'), ('2013-01-02 00:00:00.000001')) as v(t)"
        )
        h = AsOfView("v", "select * from h", (("k", "k"),), (("x", "x"),), "ft", None, None)
        found = join_as_of(connection, pa.table({"k": [1], "t": time}), [h], time="t")

    assert found["x"].to_pylist() == [1], way


@pytest.mark.parametrize(
    ("keys", "kind", "found"),
    [
        (pa.array([1, 2, None], pa.int32()), "bigint", [10, 20, None]),
        (pa.array([1, 2, 3_000_000_000], pa.int64()), "integer", [10, 20, None]),
        (pa.array([1.0, 2.5, None], pa.float64()), "bigint", [10, None, None]),
        (pa.array([None, None, None], pa.null()), "bigint", [None, None, None]),
        (pa.array(["1", "2", None]).dictionary_encode(), "varchar", [10, 20, None]),
        (pa.array(["1", "9", "2"], pa.large_string()), "varchar", [10, None, 20]),
    ],
    ids=["int32", "int64 too large", "float", "null", "categories", "text"],
)
def test_keys_of_another_type_that_can_be_equal(
    way: str, keys: pa.Array, kind: str, found: list[int | None]
) -> None:
    with connect() as connection:
        assert _joined_on(connection, keys, kind)["x"].to_pylist() == found, way


def test_keys_that_cannot_be_equal_are_refused_by_name() -> None:
    with connect() as connection, pytest.raises(AsOfJoinError, match=r"'key' is VARCHAR.*BIGINT"):
        _joined_on(connection, pa.array(["1"]), "bigint")


def test_missing_and_colliding_columns_are_named() -> None:
    labels = label_table([("a", 1)], ORIGINS[0])
    with connect() as connection:
        store(connection, "one", history_table([], ORIGINS[0]))
        with pytest.raises(AsOfJoinError, match="'moment'"):
            join_as_of(connection, labels, [view("one", None)], time="moment")
        keys = (("key", "k"),)
        colliding = AsOfView("one", "select * from one", keys, (("x", "key"),), "ft", "ka", None)
        with pytest.raises(AsOfJoinError, match="'key'"):
            join_as_of(connection, labels, [colliding], time="time")
        lacking = AsOfView("one", "select * from one", keys, (("z", "z"),), "ft", "ka", None)
        with pytest.raises(AsOfJoinError, match="view 'one' lacks column 'z'"):
            join_as_of(connection, labels, [lacking], time="time")


def _joined_on(connection: Any, keys: pa.Array, kind: str) -> pa.Table:
    connection.execute(
        f"create table h as select k::{kind} as k, timestamptz '2013-01-01' as ft, x"
        " from (values (1, 10), (2, 20)) as v(k, x)"
    )
    h = AsOfView("v", "select * from h", (("key", "k"),), (("x", "x"),), "ft", None, None)
    times = pa.array([datetime(2013, 1, 2, tzinfo=UTC)] * len(keys))
    return join_as_of(connection, pa.table({"key": keys, "t": times}), [h], time="t")
