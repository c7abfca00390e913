"""The log of vectors keeps to its size and age, and never writes to a file that was replaced."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest

from serving.vector_files import VectorFiles

LINE = b"x" * 99 + b"\n"


class Clock:
    """Seconds since 1970: a little more each time, and as a test moves them."""

    def __init__(self) -> None:
        self.now = time.time()  # which files are stamped with

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def files_in(folder: Path, clock: Clock, *, max_bytes: int = 8000) -> VectorFiles:
    return VectorFiles(folder, max_bytes=max_bytes, max_age=timedelta(days=2), clock=clock)


def sizes(folder: Path) -> list[int]:
    return [path.stat().st_size for path in sorted(folder.iterdir())]


def test_a_file_turns_by_size_and_by_age(tmp_path: Path, clock: Clock) -> None:
    files = files_in(tmp_path, clock)  # an eighth: 1000 bytes a file
    for _ in range(12):
        files.append(LINE)
    assert sizes(tmp_path) == [1000, 200]

    clock.now += 3601
    files.append(LINE)

    assert sizes(tmp_path) == [1000, 200, 100]


def test_the_folder_never_grows_beyond_its_bound(tmp_path: Path, clock: Clock) -> None:
    files = files_in(tmp_path, clock)
    for number in range(300):
        clock.now += 1
        files.append(LINE)
        assert sum(sizes(tmp_path)) <= 8000, number

    assert sum(sizes(tmp_path)) > 6000


def test_lines_longer_than_a_file_are_kept_whole(tmp_path: Path, clock: Clock) -> None:
    files = files_in(tmp_path, clock)

    files.append(LINE * 15)
    files.append(LINE)

    assert sizes(tmp_path) == [1500, 100]


def test_a_file_goes_when_it_is_too_old(tmp_path: Path, clock: Clock) -> None:
    files = files_in(tmp_path, clock)
    files.append(LINE)
    (path,) = tmp_path.iterdir()
    os.utime(path, (clock.now, clock.now))
    clock.now += timedelta(days=2, seconds=1).total_seconds()

    files.append(LINE)

    assert not path.exists()
    assert sizes(tmp_path) == [100]


@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_a_file_that_was_taken_away_is_not_written_to_again(
    tmp_path: Path, clock: Clock, how: str
) -> None:
    files = files_in(tmp_path, clock)
    files.append(LINE)
    (path,) = tmp_path.iterdir()
    if how == "replaced":
        (tmp_path / ".staged").write_bytes(b"")
        (tmp_path / ".staged").replace(path)
    else:
        path.unlink()

    clock.now += 1
    files.append(LINE)

    assert sum(sizes(tmp_path)) == 100


def test_only_the_owner_may_read(tmp_path: Path, clock: Clock) -> None:
    files_in(tmp_path, clock).append(LINE)

    (path,) = tmp_path.iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
