"""The online store equals the lake's latest rows after every load, however it got there."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from scale_assets.features.codec import to_micros
from scale_assets.features.loading import LoadReport, load_view, newest
from scale_assets.features.reader import OnlineReader, OnlineStoreError
from scale_assets.features.repo import SourceDeclaration, ViewDeclaration
from scale_assets.features.writer import OnlineWriter, PackedRow
from scale_assets.lake import Lake

DAY = timedelta(days=1)
START = datetime(2013, 3, 1, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("user", pa.string()),
        ("feature_time", TIME),
        ("known_at", TIME),
        ("clicks", pa.int64()),
        ("seen", TIME),
        ("names", pa.list_(pa.string())),
        ("sites", pa.list_(pa.int64())),
    ]
)
VIEW = ViewDeclaration(
    name="clicks",
    join_keys=("user",),
    columns=(
        ("clicks", "int64"),
        ("seen", "timestamp"),
        ("names", "list<string>"),
        ("sites", "list<int64>"),
    ),
    ttl=DAY,
    source=SourceDeclaration("features/clicks", "feature_time", "known_at"),
)


def table(*rows: tuple[str | None, int, int, int | None]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "user": user,
                "feature_time": START + day * DAY,
                "known_at": START + known * DAY,
                "clicks": clicks,
                "seen": None if clicks is None else START + timedelta(microseconds=clicks),
                "names": [f"n{clicks}", "ü"],
                "sites": None if clicks is None else list(range(clicks)),
            }
            for user, day, known, clicks in rows
        ],
        SCHEMA,
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "online.db"


def test_loads_the_latest_row_of_each_entity(lake: Lake, path: Path) -> None:
    rows = table(("a", 1, 1, 1), ("a", 2, 2, 2), ("a", 2, 3, 3), ("b", 1, 1, None), (None, 1, 1, 9))
    version = lake.overwrite("features/clicks", rows)

    report = load_view(lake, VIEW, path)

    a, b = OnlineReader(path).read("clicks", ["a", "b"])
    assert report == LoadReport(2, 2, 0, version, None)
    assert a.values["clicks"] == 3
    assert (list(a.values["names"]), list(a.values["sites"])) == (["n3", "ü"], [0, 1, 2])
    assert a.values["seen"] == to_micros(START) + 3
    assert (a.feature_time, a.known_at) == (START + 2 * DAY, START + 3 * DAY)
    assert (b.values["clicks"], b.values["sites"], b.values["seen"]) == (None, None, None)


def test_writes_only_entities_that_changed(lake: Lake, path: Path) -> None:
    first = lake.overwrite("features/clicks", table(*[(user, 1, 1, 1) for user in "abc"]))
    load_view(lake, VIEW, path)
    assert load_view(lake, VIEW, path) == LoadReport(3, 0, 0, first, first)

    # a is new, b is as it was, c is gone, d came, and a late row of b changes nothing
    rows = table(("a", 2, 2, 1), ("b", 1, 1, 1), ("b", 0, 9, 5), ("d", 1, 1, 1))
    second = lake.overwrite("features/clicks", rows)

    assert load_view(lake, VIEW, path) == LoadReport(3, 2, 1, second, first)
    found = OnlineReader(path).read("clicks", list("abcd"))
    assert [row and row.feature_time for row in found] == [
        START + 2 * DAY,
        START + DAY,
        None,
        START + DAY,
    ]


def test_a_corrected_value_of_the_same_time_is_loaded(lake: Lake, path: Path) -> None:
    for clicks in (1, 2):
        lake.overwrite("features/clicks", table(("a", 1, 1, clicks)))
        load_view(lake, VIEW, path)

    assert OnlineReader(path).read("clicks", ["a"])[0].values["clicks"] == 2


def test_a_new_table_under_the_old_name_is_noticed(lake: Lake, path: Path, tmp_path: Path) -> None:
    first = lake.overwrite("features/clicks", table(("a", 1, 1, 1)))
    load_view(lake, VIEW, path)
    (tmp_path / "lake" / "features" / "clicks").rename(tmp_path / "gone")
    second = lake.overwrite("features/clicks", table(("a", 1, 1, 2)))

    assert first == second
    assert load_view(lake, VIEW, path).num_written == 1


def test_a_changed_column_loads_everything_again(lake: Lake, path: Path) -> None:
    lake.overwrite("features/clicks", table(("a", 1, 1, 1)))
    load_view(lake, VIEW, path)
    narrower = ViewDeclaration(VIEW.name, VIEW.join_keys, VIEW.columns[:1], None, VIEW.source)

    assert load_view(lake, narrower, path).num_written == 1
    assert OnlineReader(path).read("clicks", ["a"])[0].values == {"clicks": 1}


def test_the_clock_is_the_worlds(lake: Lake, path: Path) -> None:
    lake.overwrite("features/clicks", table(("a", 1, 1, 1)))
    load_view(lake, VIEW, path, clock=to_micros(START + 30 * DAY))

    assert OnlineReader(path).clock() == START + 30 * DAY
    assert newest(lake, "features/clicks", "known_at") == START + DAY


def test_an_empty_table_has_no_clock(lake: Lake, path: Path) -> None:
    lake.overwrite("features/clicks", table())

    assert load_view(lake, VIEW, path).num_entities == 0
    with pytest.raises(OnlineStoreError, match="features/clicks"):
        newest(lake, "features/clicks", "known_at")


def test_several_join_keys(lake: Lake, path: Path) -> None:
    rows = table(("a\x1f", 1, 1, 1), ("a\\", 1, 1, 2))
    lake.overwrite("features/clicks", rows.append_column("shop", pa.array([7, 7])))
    view = ViewDeclaration("clicks", ("user", "shop"), VIEW.columns[:1], None, VIEW.source)
    load_view(lake, view, path)

    from scale_assets.features.codec import entity_key

    keys = [entity_key({"user": user, "shop": 7}) for user in ("a\x1f", "a\\")]
    assert [row.values["clicks"] for row in OnlineReader(path).read("clicks", keys)] == [1, 2]


@pytest.mark.fault
def test_a_load_that_is_killed_runs_again(lake: Lake, path: Path) -> None:
    """Killed inside the transaction: the store is as before, and the next load makes it equal."""
    first = lake.overwrite("features/clicks", table(("a", 1, 1, 1)))
    load_view(lake, VIEW, path)
    with OnlineWriter(path) as writer:  # a push that the lake's next version replaces
        data = (
            OnlineReader(path)
            .views()["clicks"]
            .layout.encode(
                [9, None, [], []], feature_time=to_micros(START), known_at=to_micros(START)
            )
        )
        writer.push("clicks", [PackedRow("z", to_micros(START), to_micros(START), None, data)])
    lake.overwrite("features/clicks", table(*[(f"u{i}", 1, 1, 1) for i in range(5_000)]))

    killed = _load_and_die(lake.root, path)

    assert killed == -signal.SIGKILL
    assert OnlineReader(path).read("clicks", ["a", "u1"])[1] is None
    report = load_view(lake, VIEW, path)
    assert (report.num_written, report.num_removed, report.previous_version) == (5_000, 1, first)


def _load_and_die(root: str, path: Path) -> int:
    program = f"""
import os, signal
from scale_assets.features import writer
from scale_assets.lake import Lake
from tests.features.test_loading import VIEW, load_view
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
writer.OnlineWriter.mark_loaded = die
load_view(Lake({root!r}), VIEW, {str(path)!r})
"""
    return subprocess.run([sys.executable, "-c", program], env=os.environ, check=False).returncode
