"""The online file: what is written is read, newer wins, half a write is no write."""

import threading
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from scale_assets.features.codec import FeatureRow, Layout, from_micros
from scale_assets.features.reader import OnlineReader, OnlineStoreError
from scale_assets.features.writer import OnlineWriter, PackedRow

LAYOUT = Layout((("clicks", "int64"), ("score", "float64"), ("sites", "list<int64>")))


def packed(
    key: str, time: int, values: list[object], *, known_at: int = 0, digest: int | None = None
) -> PackedRow:
    known_at = known_at or time
    data = LAYOUT.encode(values, feature_time=time, known_at=known_at)
    return PackedRow(key, time, known_at, digest, data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deeper" / "online.db"


@pytest.fixture
def writer(path: Path) -> OnlineWriter:
    with OnlineWriter(path) as writer:
        writer.declare("clicks", LAYOUT, ttl=timedelta(days=1))
        yield writer


def test_reads_in_the_order_asked_with_none_for_strangers(path: Path, writer: OnlineWriter) -> None:
    writer.push("clicks", [packed("b", 2, [2, None, [4, 5]]), packed("a", 1, [1, 0.5, []])])

    b, stranger, a, again = OnlineReader(path).read("clicks", ["b", "nobody", "a", "b"])

    assert stranger is None
    assert (a.values["clicks"], a.values["score"], list(a.values["sites"])) == (1, 0.5, [])
    assert (b.feature_time, b.known_at) == (from_micros(2), from_micros(2))
    assert list(again.values["sites"]) == [4, 5]


def test_several_views_come_by_one_query(path: Path, writer: OnlineWriter) -> None:
    writer.declare('odd "name"', Layout((("x", "string"),)), ttl=None)
    data = Layout((("x", "string"),)).encode(["!"], feature_time=1, known_at=1)
    writer.push('odd "name"', [PackedRow("a'; drop", 1, 1, None, data)])
    writer.push("clicks", [packed("a", 1, [1, 0.5, []])])
    reader = OnlineReader(path)
    reader.views()
    statements: list[str] = []
    reader._connection().set_trace_callback(statements.append)

    found = reader.read_views({"clicks": ["a"], 'odd "name"': ["a'; drop", "a"]})

    assert [row and row.values["x"] for row in found['odd "name"']] == ["!", None]
    assert isinstance(found["clicks"][0], FeatureRow)
    assert len([text for text in statements if "json_each" in text]) == 1


@pytest.mark.parametrize(
    ("times", "kept"),
    [
        ([(5, 5), (3, 9)], 0),
        ([(3, 9), (5, 5)], 1),
        ([(5, 5), (5, 6)], 1),
        ([(5, 6), (5, 5)], 0),
        ([(5, 5), (5, 5)], 1),
    ],
)
def test_a_late_push_never_overwrites_a_newer_value(
    path: Path, writer: OnlineWriter, times: list[tuple[int, int]], kept: int
) -> None:
    for clicks, (time, known_at) in enumerate(times):
        writer.push("clicks", [packed("a", time, [clicks, None, []], known_at=known_at)])

    (row,) = OnlineReader(path).read("clicks", ["a"])
    assert row.values["clicks"] == kept


def test_a_load_follows_the_lake_but_keeps_newer_pushes(path: Path, writer: OnlineWriter) -> None:
    loaded = [packed(key, 5, [1, None, []], digest=7) for key in "abc"]
    writer.load("clicks", loaded, removed=[])
    writer.push("clicks", [packed("b", 9, [2, None, []])])

    corrected = [packed(key, 4, [3, None, []], digest=8) for key in "ab"]
    writer.load("clicks", corrected, removed=["c"])

    found = OnlineReader(path).read("clicks", ["a", "b", "c"])
    assert [row and row.values["clicks"] for row in found] == [3, 2, None]


def test_a_transaction_that_fails_leaves_nothing(path: Path, writer: OnlineWriter) -> None:
    def push_and_fail() -> None:
        with writer.transaction():
            writer.push("clicks", [packed("a", 1, [1, None, []])])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        push_and_fail()

    assert OnlineReader(path).read("clicks", ["a"]) == [None]


def test_numbers_of_many_entities_as_one_matrix(path: Path, writer: OnlineWriter) -> None:
    writer.push(
        "clicks", [packed("a", 1, [7, None, [1]]), packed("b", 2, [8, 0.5, []], known_at=3)]
    )

    found = OnlineReader(path).read_matrix("clicks", ["b", "nobody", "a"], ["score", "clicks"])

    nan = np.nan
    np.testing.assert_array_equal(found.values_NC, [[0.5, 8], [nan, nan], [nan, 7]])
    assert found.feature_time_us_N.tolist() == [2, -1, 1]
    assert found.known_at_us_N.tolist() == [3, -1, 1]


def test_values_of_an_older_schema_stay_readable(path: Path, writer: OnlineWriter) -> None:
    writer.push("clicks", [packed("old", 1, [7, 0.5, [1]])])
    newer = Layout((("score", "float64"), ("visits", "int64")))
    writer.declare("clicks", newer, ttl=None)
    data = newer.encode([0.25, 3], feature_time=1, known_at=1)
    writer.push("clicks", [PackedRow("new", 1, 1, None, data)])
    reader = OnlineReader(path)

    old, new = reader.read("clicks", ["old", "new"])
    matrix = reader.read_matrix("clicks", ["old", "new"], ["visits", "score"])

    assert (old.values, new.values) == (
        {"score": 0.5, "visits": None},
        {"score": 0.25, "visits": 3},
    )
    np.testing.assert_array_equal(matrix.values_NC, [[np.nan, 0.5], [3, 0.25]])


def test_what_is_missing_is_named(path: Path, tmp_path: Path, writer: OnlineWriter) -> None:
    reader = OnlineReader(path)

    with pytest.raises(OnlineStoreError, match=r"'visits'.*clicks"):
        reader.read("visits", ["a"])
    with pytest.raises(OnlineStoreError, match="'visits'"):
        reader.read_matrix("clicks", ["a"], ["visits"])
    with pytest.raises(OnlineStoreError, match="list<int64>"):
        reader.read_matrix("clicks", ["a"], ["sites"])
    with pytest.raises(OnlineStoreError, match="materialize"):
        OnlineReader(tmp_path / "nothing.db")


def test_views_say_their_ttl_and_the_clock_is_the_newest_known_time(
    path: Path, writer: OnlineWriter
) -> None:
    reader = OnlineReader(path)
    assert reader.clock() is None
    assert reader.newest_feature_time("clicks") is None

    writer.push(
        "clicks", [packed("a", 1, [7, None, []], known_at=6), packed("b", 4, [7, None, []])]
    )

    assert reader.clock() == from_micros(6)
    assert reader.newest_feature_time("clicks") == from_micros(4)
    assert reader.views()["clicks"].ttl == timedelta(days=1)
    assert reader.views()["clicks"].layout == LAYOUT


def test_threads_share_a_reader_while_somebody_writes(path: Path, writer: OnlineWriter) -> None:
    """A row is the old one or the new one, never a mixture, in every thread."""
    writer.push("clicks", [packed("a", 1, [1, 1.0, [1]])])
    reader = OnlineReader(path)
    torn: list[object] = []

    def read() -> None:
        for _ in range(200):
            (row,) = reader.read("clicks", ["a"])
            if not row.values["clicks"] == row.values["score"] == row.values["sites"][0]:
                torn.append(row)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for i in range(2, 50):
        writer.push("clicks", [packed("a", i, [i, float(i), [i]])])
    for thread in threads:
        thread.join()

    assert torn == []
    assert reader.read("clicks", ["a"])[0].values["clicks"] == 49
