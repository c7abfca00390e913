"""The feeds are a pure function of the input: any way of running leaves the same bytes."""

import errno
import fcntl
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scale_assets.replay import feeds as replay_feeds
from scale_assets.replay.feeds import FEEDS, replay
from scale_assets.replay.files import LOCK_NAME, FeedsError
from scale_assets.replay.source import Input, open_input
from tests.replay.naive import naive_feeds

FIRST_DAY, LAST_DAY = date(2012, 6, 1), date(2013, 12, 1)


def texts(folder: Path) -> dict[str, str]:
    """Path below the folder -> text, for every file but the lock."""
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK_NAME
    }


def rows(folder: Path, feed: str) -> list[dict[str, Any]]:
    files = sorted((folder / feed).glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def all_at_once(small_world: Input, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("feeds")
    replay(small_world, folder)
    return texts(folder)


def test_every_file_equals_the_naive_loop(small_world: Input, all_at_once: dict[str, str]) -> None:
    expected = naive_feeds(small_world.folder)

    assert {name: text for name, text in all_at_once.items() if "/" in name} == expected


def test_small_windows_give_the_same_bytes(
    small_world: Input,
    all_at_once: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replay_feeds, "WINDOW_ROWS", 150)
    monkeypatch.setattr(replay_feeds, "RENDER_ROWS", 7)
    replay(small_world, tmp_path)

    assert texts(tmp_path) == all_at_once


@settings(
    max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(stops=st.lists(st.dates(FIRST_DAY, LAST_DAY), max_size=4))
def test_any_stops_give_the_same_bytes(
    small_world: Input,
    all_at_once: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    stops: list[date],
) -> None:
    folder = tmp_path_factory.mktemp("stops")
    for stop in stops:
        report = replay(small_world, folder, until=stop)
        days = {Path(name).stem for name in texts(folder) if name.endswith(".jsonl")}
        assert max(days, default="") <= str(max(stops[: stops.index(stop) + 1]))
        assert report.last_day is None or report.last_day <= stop
    last = replay(small_world, folder)

    assert last.is_complete
    assert texts(folder) == all_at_once


def test_until_includes_its_day_and_nothing_later(small_world: Input, tmp_path: Path) -> None:
    stop = date(2013, 2, 10)
    report = replay(small_world, tmp_path, until=stop)

    assert max(path.stem for path in tmp_path.glob("clicks/*")) == str(stop)
    assert report.last_day == stop
    assert not report.is_complete
    assert report.rows["clicks"] == len(rows(tmp_path, "clicks"))
    again = replay(small_world, tmp_path, until=stop)
    assert (again.rows, list(again.new_days)) == (report.rows, [])
    assert set(again.new_rows.values()) == {0}


def test_progress_reaches_every_file(small_world: Input, tmp_path: Path) -> None:
    calls: list[tuple[date, int, int]] = []
    replay(small_world, tmp_path, progress=lambda *call: calls.append(call))

    days = [day for day, _, _ in calls]
    assert days == sorted(set(days))
    num_files = sum(len(list((tmp_path / feed).glob("*.jsonl"))) for feed in FEEDS)
    assert calls[-1] == (days[-1], num_files, num_files)


def test_a_lost_file_is_written_again(
    small_world: Input, all_at_once: dict[str, str], tmp_path: Path
) -> None:
    replay(small_world, tmp_path)
    for name in ("clicks/2013-02-05.jsonl", "students/2013-03-13.jsonl"):
        (tmp_path / name).unlink()
    report = replay(small_world, tmp_path)

    assert report.new_days == [date(2013, 2, 5), date(2013, 3, 13)]
    assert texts(tmp_path) == all_at_once


def test_change_log_positions_rise_with_time(small_world: Input, tmp_path: Path) -> None:
    replay(small_world, tmp_path)
    log = rows(tmp_path, "registrations") + rows(tmp_path, "students")
    log.sort(key=lambda change: change["source"]["lsn"])

    assert len({change["source"]["lsn"] for change in log}) == len(log)
    times = [change["source"]["ts_ms"] for change in log]
    assert times == sorted(times)
    for feed in ("registrations", "students"):
        lsns = [change["source"]["lsn"] for change in rows(tmp_path, feed)]
        assert lsns == sorted(lsns)


def test_results_come_after_all_else_is_known(small_world: Input, tmp_path: Path) -> None:
    replay(small_world, tmp_path)
    results = [change for change in rows(tmp_path, "students") if change["op"] == "u"]
    ends = {
        row["presentation_id"]: date.fromisoformat(row["starts_on"])
        + timedelta(days=row["length_days"])
        for row in rows(tmp_path, "presentations")
    }

    assert results
    for change in results:
        day = date(1970, 1, 1) + timedelta(milliseconds=change["source"]["ts_ms"])
        assert day >= ends[change["after"]["presentation_id"]]
        assert change["before"]["final_result"] is None
        assert change["after"]["final_result"] is not None


def test_one_module_alone_is_a_world_of_its_own(small_world: Input, tmp_path: Path) -> None:
    replay(small_world, tmp_path / "module", modules=["BBB"])
    replay(small_world, tmp_path / "one", presentations=["BBB-2013J"])

    assert {row["presentation_id"] for row in rows(tmp_path / "module", "clicks")} == {
        "BBB-2013B",
        "BBB-2013J",
    }
    assert {row["presentation_id"] for row in rows(tmp_path / "one", "clicks")} == {"BBB-2013J"}


def test_feeds_of_another_choice_are_refused(small_world: Input, tmp_path: Path) -> None:
    replay(small_world, tmp_path, modules=["AAA"], until=date(2013, 2, 3))
    before = texts(tmp_path)

    with pytest.raises(FeedsError) as refused:
        replay(small_world, tmp_path)

    assert texts(tmp_path) == before
    said = str(refused.value)
    assert re.search(r"holds .*2 presentations of AAA; asked for is .* presentations of AAA,", said)
    assert "SCALE_DATA_DIR" in said
    assert "make clean" in said
    assert not re.search("[0-9a-f]{64}", said), "fingerprints tell nobody anything"


def test_feeds_of_another_input_are_refused(
    small_world: Input, tmp_path: Path, one_course: Callable[..., Input]
) -> None:
    replay(small_world, tmp_path / "feeds", until=date(2013, 2, 3))
    other = one_course(clicks=[{"id_student": 1, "id_site": 1, "date": 0, "sum_click": 1}])

    with pytest.raises(FeedsError) as refused:
        replay(other, tmp_path / "feeds")

    assert f"holds {named(small_world)}, " in str(refused.value)
    assert f"asked for is {named(other)}, " in str(refused.value)


def named(source: Input) -> str:
    """An input without the reason why it was taken."""
    return source.description.partition(": ")[0]


def test_strange_feeds_are_refused(small_world: Input, tmp_path: Path) -> None:
    (tmp_path / "clicks").mkdir()
    (tmp_path / "clicks" / "2013-02-01.jsonl").write_text("{}\n")

    with pytest.raises(FeedsError, match=r"clicks/2013-02-01\.jsonl.*empty folder"):
        replay(small_world, tmp_path)


def test_a_broken_manifest_is_named(small_world: Input, tmp_path: Path) -> None:
    (tmp_path / "replay.json").write_text('{"format": 1')

    with pytest.raises(FeedsError, match=r"replay\.json is no replay manifest"):
        replay(small_world, tmp_path)


def test_two_at_once_are_refused(small_world: Input, tmp_path: Path) -> None:
    with (tmp_path / LOCK_NAME).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(FeedsError, match="another run is writing"):
            replay(small_world, tmp_path)
    assert replay(small_world, tmp_path).is_complete


def test_a_full_disk_is_named_and_loses_nothing(
    small_world: Input,
    all_at_once: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sync, calls = os.fsync, iter(range(10_000))

    def full_after_a_while(descriptor: int) -> None:
        if next(calls) > 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_after_a_while)
        with pytest.raises(FeedsError, match="no space left while writing"):
            replay(small_world, tmp_path)
    left = texts(tmp_path)
    assert 0 < len(left) < len(all_at_once)
    assert left.items() <= all_at_once.items()
    replay(small_world, tmp_path)
    assert texts(tmp_path) == all_at_once


KILLED_RUN = """
import os, signal, sys
from pathlib import Path
from scale_assets.replay.feeds import replay
from scale_assets.replay.source import open_input

left = int(sys.argv[4])

def watched(call):
    def wrapper(*args, **kwargs):
        global left
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*args, **kwargs)
    return wrapper

Path.rename, os.fsync = {"rename": (watched(Path.rename), os.fsync),
                         "fsync": (Path.rename, watched(os.fsync))}[sys.argv[3]]
replay(open_input(Path(sys.argv[1]), reason="test"), Path(sys.argv[2]))
"""


@pytest.mark.fault
@pytest.mark.parametrize(
    ("call", "survived"),
    [
        pytest.param("rename", 0, id="before the manifest"),
        pytest.param("rename", 100, id="between two files of a batch"),
        pytest.param("fsync", 200, id="while syncing a later batch"),
    ],
)
def test_killed_anywhere_a_rerun_gives_the_same_bytes(
    small_world: Input, all_at_once: dict[str, str], tmp_path: Path, call: str, survived: int
) -> None:
    command = [sys.executable, "-c", KILLED_RUN, small_world.folder, tmp_path, call, str(survived)]
    killed = subprocess.run(command, check=False, capture_output=True)
    assert killed.returncode == -9, killed.stderr.decode()
    whole = {name: text for name, text in texts(tmp_path).items() if not name.endswith(".part")}
    assert whole.items() <= all_at_once.items()
    assert whole.keys() < all_at_once.keys()

    replay(small_world, tmp_path)

    assert texts(tmp_path) == all_at_once


def test_a_moved_input_is_the_same_input(small_world: Input, tmp_path: Path) -> None:
    replay(small_world, tmp_path / "feeds", until=date(2013, 2, 3))
    (tmp_path / "elsewhere").symlink_to(small_world.folder)
    moved = open_input(tmp_path / "elsewhere", reason="moved")

    assert replay(moved, tmp_path / "feeds").is_complete
