"""The online store: what is written is read, newer wins, whichever backend keeps it."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from scale_assets.features.codec import Layout, from_micros, is_loaded
from scale_assets.features.reader import OnlineReader, OnlineStoreError
from scale_assets.features.stores import (
    Backend,
    PackedRow,
    Progress,
    Put,
    Snapshot,
    open_backend,
)

LAYOUT = Layout((("clicks", "int64"), ("score", "float64"), ("sites", "list<int64>")))
DAY = timedelta(days=1)
DAY_US = DAY // timedelta(microseconds=1)


def packed(
    key: str, time: int, values: list[object], *, known_at: int = 0, loaded: bool = False
) -> PackedRow:
    known_at = known_at or time
    data = LAYOUT.encode(values, feature_time=time, known_at=known_at, loaded=loaded)
    return PackedRow(key, data)


@pytest.fixture
def backend(address: str) -> Iterator[Backend]:
    with open_backend(address) as backend:
        backend.declare("clicks", LAYOUT, ttl=DAY)
        yield backend


def clicks(backend: Backend, *keys: str) -> list[int | None]:
    return [row and row.values["clicks"] for row in OnlineReader(backend).read("clicks", keys)]


def test_reads_in_the_order_asked_with_none_for_strangers(backend: Backend) -> None:
    rows = [packed("b", 2, [2, None, [4, 5]]), packed("a", 1, [1, 0.5, []])]
    assert backend.put("clicks", rows, Put.PUSH).num_written == 2

    b, stranger, a, again = OnlineReader(backend).read("clicks", ["b", "nobody", "a", "b"])

    assert stranger is None
    assert (a.values["clicks"], a.values["score"], list(a.values["sites"])) == (1, 0.5, [])
    assert (b.feature_time, b.known_at) == (from_micros(2), from_micros(2))
    assert list(again.values["sites"]) == [4, 5]


@pytest.mark.parametrize("key", ["a'; drop", "a}b", "}", "", "ü\x1f", "a:{b}"])
def test_any_key_in_several_views(backend: Backend, key: str) -> None:
    other = Layout((("x", "string"),))
    backend.declare('odd "name"', other, ttl=None)
    backend.put("clicks", [packed(key, 1, [1, 0.5, []])], Put.PUSH)
    data = other.encode(["!"], feature_time=1, known_at=1)
    backend.put('odd "name"', [PackedRow(key, data)], Put.PUSH)

    found = OnlineReader(backend).read_views({"clicks": [key], 'odd "name"': ["nobody", key]})

    assert [row and row.values["x"] for row in found['odd "name"']] == [None, "!"]
    assert found["clicks"][0].values["clicks"] == 1
    assert list(backend.keys("clicks")) == [[key]]


@pytest.mark.parametrize(
    ("times", "kept"),
    [
        ([(5, 5), (3, 9)], 0),
        ([(3, 9), (5, 5)], 1),
        ([(5, 5), (5, 6)], 1),
        ([(5, 6), (5, 5)], 0),
        ([(5, 5), (5, 5)], 1),
        ([(-5, 5), (-6, 9)], 0),
        ([(1_700_000_000_000_000, 1), (1_700_000_000_000_001, 1)], 1),
        ([(1_700_000_000_000_001, 1), (1_700_000_000_000_000, 1)], 0),
    ],
)
def test_a_late_push_never_overwrites_a_newer_value(
    backend: Backend, times: list[tuple[int, int]], kept: int
) -> None:
    written = [
        backend.put("clicks", [packed("a", time, [at, None, []], known_at=known_at)], Put.PUSH)
        for at, (time, known_at) in enumerate(times)
    ]

    assert clicks(backend, "a") == [kept]
    assert [outcome.num_written for outcome in written] == [1, kept]


def test_the_newest_of_one_call_wins_and_equal_values_are_not_written_again(
    backend: Backend,
) -> None:
    rows = [packed("a", time, [time, None, []]) for time in (1, 3, 2)]

    backend.put("clicks", rows, Put.PUSH)

    assert clicks(backend, "a") == [3]
    assert backend.put("clicks", rows, Put.PUSH).num_written == 0


@pytest.mark.parametrize(
    ("stored", "offered", "how", "expected"),
    [
        pytest.param((5, 1, True), (4, 2), Put.FOLLOW, 2, id="the lake corrects itself"),
        pytest.param((5, 1, False), (4, 2), Put.FOLLOW, 1, id="a newer push stays"),
        pytest.param((5, 1, False), (5, 2), Put.FOLLOW, 2, id="the lake's word of one time"),
        pytest.param((5, 1, True), (4, 2), Put.ADD, 1, id="an older row that came late"),
        pytest.param((5, 1, True), (6, 2), Put.ADD, 2, id="a newer row"),
        pytest.param((5, 1, False), (5, 2), Put.ADD, 2, id="a row and a push of one time"),
        pytest.param((5, 1, True), (5, 2), Put.ADD, None, id="two rows of one time"),
    ],
)
def test_a_load_follows_the_lake(
    backend: Backend,
    stored: tuple[int, int, bool],
    offered: tuple[int, int],
    how: Put,
    expected: int | None,
) -> None:
    time, value, loaded = stored
    backend.put("clicks", [packed("a", time, [value, None, []], loaded=loaded)], Put.FOLLOW)

    row = packed("a", offered[0], [offered[1], None, []], loaded=True)
    outcome = backend.put("clicks", [packed("b", 1, [1, None, []], loaded=True), row], how)

    assert outcome.undecided == ([] if expected else ["a"])
    assert clicks(backend, "a") == [expected or value]


def test_a_pushed_value_that_the_lake_has_too_counts_as_loaded(backend: Backend) -> None:
    backend.put("clicks", [packed("a", 5, [1, None, []])], Put.PUSH)
    backend.put("clicks", [packed("a", 5, [1, None, []], loaded=True)], Put.ADD)
    backend.put("clicks", [packed("a", 5, [1, None, []])], Put.PUSH)

    ((value,),) = backend.get({"clicks": ["a"]}).values.values()
    assert is_loaded(value)


def test_only_loaded_values_are_removed(backend: Backend) -> None:
    backend.put("clicks", [packed("a", 5, [1, None, []], loaded=True)], Put.ADD)
    backend.put("clicks", [packed("b", 5, [1, None, []])], Put.PUSH)

    assert backend.remove_loaded("clicks", ["a", "b", "nobody"]) == 1
    assert clicks(backend, "a", "b") == [None, 1]


def test_numbers_of_many_entities_as_one_matrix(backend: Backend) -> None:
    rows = [packed("a", 1, [7, None, [1]]), packed("b", 2, [8, 0.5, []], known_at=3)]
    backend.put("clicks", rows, Put.PUSH)
    backend.advance("clicks", feature_time=2, known_at=4)
    reader = OnlineReader(backend)

    found = reader.read_matrix("clicks", ["b", "nobody", "a"], ["score", "clicks"])

    nan = np.nan
    np.testing.assert_array_equal(found.values_NC, [[0.5, 8], [nan, nan], [nan, 7]])
    assert found.feature_time_us_N.tolist() == [2, -1, 1]
    assert found.known_at_us_N.tolist() == [3, -1, 1]
    assert found.age_us_N.tolist() == [2, -1, 3]
    whole = reader.read_matrix("clicks", ["a", "b"], ["clicks"], dtype=np.float32)
    assert (whole.values_NC.dtype, whole.values_NC.tolist()) == (np.float32, [[7], [8]])


def test_both_sides_of_a_rolling_change_read_each_other(backend: Backend, address: str) -> None:
    """A reader that knows the old columns, and one that knows the new ones, over both values."""
    old_reader, new_reader = OnlineReader(address), OnlineReader(address)
    backend.put("clicks", [packed("old", 1, [7, 0.5, [1]])], Put.PUSH)
    assert old_reader.read("clicks", ["old"])[0].values["clicks"] == 7
    old_views = old_reader.views()
    newer = Layout((("score", "float64"), ("visits", "int64"), ("clicks", "float64")))
    backend.declare("clicks", newer, ttl=DAY)
    data = newer.encode([0.25, 3, 8.0], feature_time=1, known_at=1)
    backend.put("clicks", [PackedRow("new", data)], Put.PUSH)

    old, new = new_reader.read("clicks", ["old", "new"])
    matrix = new_reader.read_matrix("clicks", ["old", "new"], ["visits", "score"])

    assert old.values == {"score": 0.5, "visits": None, "clicks": 7.0}
    assert new.values == {"score": 0.25, "visits": 3, "clicks": 8.0}
    np.testing.assert_array_equal(matrix.values_NC, [[np.nan, 0.5], [3, 0.25]])
    layout = old_views["clicks"].layout
    assert old_reader.values(layout, data, now=1) == {"clicks": None, "score": 0.25, "sites": None}


def test_what_is_missing_is_named(backend: Backend) -> None:
    reader = OnlineReader(backend)

    with pytest.raises(OnlineStoreError, match=r"'visits'.*clicks"):
        reader.read("visits", ["a"])
    with pytest.raises(OnlineStoreError, match="'visits'"):
        reader.read_matrix("clicks", ["a"], ["visits"])
    with pytest.raises(OnlineStoreError, match="list<int64>"):
        reader.read_matrix("clicks", ["a"], ["sites"])


def test_views_say_their_ttl_and_the_clock_is_the_newest_known_time(backend: Backend) -> None:
    reader = OnlineReader(backend)
    assert reader.clock() is None
    assert reader.newest_feature_time("clicks") is None

    backend.advance("clicks", feature_time=4, known_at=6)
    backend.advance("clicks", feature_time=3, known_at=5)

    assert reader.clock() == from_micros(6)
    assert reader.newest_feature_time("clicks") == from_micros(4)
    assert reader.views()["clicks"].ttl == DAY
    assert reader.views()["clicks"].layout == LAYOUT


def test_a_hundred_expired_values_are_expired_and_none_is_served(backend: Backend) -> None:
    """An instant older than the ttl is expired, exactly the ttl is not; both paths agree."""
    keys = [f"u{i}" for i in range(100)]
    backend.put("clicks", [packed(key, 10, [1, 0.5, [1]]) for key in keys], Put.PUSH)
    backend.put("clicks", [packed("fresh", 11, [1, 0.5, [1]])], Put.PUSH)
    backend.advance("clicks", feature_time=11, known_at=11 + DAY_US)
    reader = OnlineReader(backend)

    *expired, fresh = reader.read("clicks", [*keys, "fresh"])
    matrix = reader.read_matrix("clicks", [*keys, "fresh"], ["clicks", "score"])

    assert all(row.is_expired and row.values == {} for row in expired)
    assert {row.age for row in expired} == {DAY + timedelta(microseconds=1)}
    assert (fresh.is_expired, fresh.values["clicks"], fresh.age) == (False, 1, DAY)
    assert matrix.is_expired_N.tolist() == [True] * 100 + [False]
    assert np.isnan(matrix.values_NC[:100]).all()
    assert matrix.values_NC[100].tolist() == [1, 0.5]


def test_by_the_wall_clock_age_goes_on_without_writes(address: str) -> None:
    with open_backend(address, clock="wall") as backend:
        backend.declare("clicks", LAYOUT, ttl=DAY)
        backend.declare("ever", LAYOUT, ttl=None)
        year_ago = 1_400_000_000_000_000
        backend.put("ever", [packed("a", year_ago, [1, 0.5, [1]])], Put.PUSH)

        (row,) = OnlineReader(backend).read("ever", ["a"])

        assert not row.is_expired
        assert row.age > 3650 * DAY


def test_progress_is_kept_with_the_view(backend: Backend) -> None:
    assert backend.progress("clicks") == Progress()
    progress = Progress(Snapshot("id", 1), Snapshot("id", 2), 7, frozenset({1, 3}))

    backend.set_progress("clicks", progress)

    assert backend.progress("clicks") == progress
    backend.drop("clicks")
    assert backend.progress("clicks") == Progress()


def test_a_dropped_view_is_gone(backend: Backend) -> None:
    backend.declare("other", LAYOUT, ttl=None)
    backend.put("clicks", [packed(f"u{i}", 1, [1, None, []]) for i in range(3_000)], Put.PUSH)
    backend.put("other", [packed("u1", 1, [2, None, []])], Put.PUSH)
    assert sum(map(len, backend.keys("clicks"))) == 3_000

    backend.drop("clicks")

    assert list(backend.keys("clicks")) == []
    assert "clicks" not in backend.views()
    assert OnlineReader(backend).read("other", ["u1"])[0].values["clicks"] == 2


def test_one_loader_at_a_time(backend: Backend) -> None:
    entered = threading.Event()

    def load() -> None:
        with backend.sole_loader("clicks") as check:
            check()
            entered.set()

    with backend.sole_loader("clicks"):
        thread = threading.Thread(target=load)
        thread.start()
        assert not entered.wait(0.5)
        with backend.sole_loader("other"):
            pass
    thread.join()
    assert entered.is_set()


def test_threads_share_a_reader_while_somebody_writes(backend: Backend, address: str) -> None:
    """A row is the old one or the new one, never a mixture, in every thread."""
    backend.put("clicks", [packed("a", 1, [1, 1.0, [1]])], Put.PUSH)
    torn: list[object] = []
    with open_backend(address) as other:
        reader = OnlineReader(other)

        def read() -> None:
            for _ in range(100):
                (row,) = reader.read("clicks", ["a"])
                if not row.values["clicks"] == row.values["score"] == row.values["sites"][0]:
                    torn.append(row)
            other.release_thread()

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        for i in range(2, 50):
            backend.put("clicks", [packed("a", i, [i, float(i), [i]])], Put.PUSH)
        for thread in threads:
            thread.join()

    assert torn == []
    assert clicks(backend, "a") == [49]


def test_writers_that_race_leave_the_newest(backend: Backend, address: str) -> None:
    def push(first: int) -> None:
        with open_backend(address) as other:
            for time in range(first, 200, 4):
                other.put("clicks", [packed("a", time, [time, None, []])], Put.PUSH)

    threads = [threading.Thread(target=push, args=(first,)) for first in (1, 2, 3, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert clicks(backend, "a") == [199]


def test_what_is_forgotten_is_gone(backend: Backend) -> None:
    backend.put("clicks", [packed(key, 1, [1, None, []]) for key in "abc"], Put.PUSH)

    assert backend.forget("clicks", ["a", "c", "nobody"]) == 2
    backend.wipe()

    assert clicks(backend, "a", "b", "c") == [None, 1, None]


def test_an_address_of_no_backend_is_refused() -> None:
    with pytest.raises(OnlineStoreError, match=r"mysql://.*redis\+cluster://"):
        open_backend("mysql://root:secret@host/db")


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(OnlineStoreError, match="materialize"):
        OnlineReader(tmp_path / "nothing.db")


def test_a_transaction_that_fails_leaves_nothing(tmp_path: Path) -> None:
    backend = open_backend(tmp_path / "online.db")
    backend.declare("clicks", LAYOUT, ttl=DAY)

    def push_and_fail() -> None:
        with backend.atomically():
            backend.put("clicks", [packed("a", 1, [1, None, []])], Put.PUSH)
            raise RuntimeError

    with backend:
        with pytest.raises(RuntimeError):
            push_and_fail()

        assert clicks(backend, "a") == [None]
