"""What is appended is whole or gone, and a crash leaves whole lines only."""

import os
import subprocess
import sys
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

from scale_assets.ingest.files import list_files
from serving.collector.log_file import LogFile, recover

LINE = b'{"a":1}\n'


def leave(folder: Path, data: bytes, name: str = ".left.jsonl") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_a_file_is_hidden_from_ingestion_until_it_is_sealed(tmp_path: Path) -> None:
    file = LogFile(tmp_path)
    file.append(LINE)
    assert list_files(tmp_path) == []

    file.seal()

    (sealed,) = list_files(tmp_path)
    assert sealed.read_bytes() == LINE
    assert names(tmp_path) == [sealed.name]


def test_an_empty_file_leaves_nothing(tmp_path: Path) -> None:
    LogFile(tmp_path).seal()

    assert names(tmp_path) == []


def test_files_sort_by_when_they_began(tmp_path: Path) -> None:
    for number in range(3):
        file = LogFile(tmp_path)
        file.append(b"%d\n" % number)
        file.seal()

    assert [path.read_bytes() for path in list_files(tmp_path)] == [b"0\n", b"1\n", b"2\n"]


@pytest.mark.parametrize("broken", ["write", "fdatasync"])
def test_a_failed_append_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    file = LogFile(tmp_path)
    file.append(LINE)
    write = os.write

    def fail(fd: int, data: bytes = b"") -> int:
        if data and len(data) > 1:
            write(fd, data[:-1])  # as much as fitted
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, broken, fail)
        with pytest.raises(OSError, match="No space"):
            file.append(b"refused\n")
    file.append(b"taken\n")
    file.seal()

    assert list_files(tmp_path)[0].read_bytes() == LINE + b"taken\n"


def test_a_short_write_is_carried_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    file = LogFile(tmp_path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, data[:3]))
        file.append(LINE)
    file.seal()

    assert list_files(tmp_path)[0].read_bytes() == LINE


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(st.binary(min_size=1, max_size=8).map(lambda b: b.translate(None, b"\n\0"))),
    torn=st.binary(max_size=20),
)
@example(lines=[], torn=b"")
@example(lines=[b"a"], torn=bytes(10) + b"\n")
@example(lines=[b"a"], torn=b"half\0\nwhole\n")
def test_whole_lines_stay_and_the_torn_one_goes(
    tmp_path: Path, lines: list[bytes], torn: bytes
) -> None:
    whole = b"".join(line + b"\n" for line in lines)
    path = leave(tmp_path, whole + torn)

    recover(tmp_path)

    sealed = path.with_name("left.jsonl")
    kept = sealed.read_bytes() if sealed.exists() else b""
    sealed.unlink(missing_ok=True)
    assert kept.startswith(whole)
    assert kept == b"" or kept.endswith(b"\n")
    assert b"\0" not in kept
    rest = torn[len(kept) - len(whole) :]
    assert b"\n" not in rest.partition(b"\0")[0]
    assert not path.exists()


def test_a_file_that_somebody_writes_is_left_alone(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from serving.collector.log_file import LogFile\n"
        "file = LogFile(Path(sys.argv[1])); file.append(b'line\\n'); print('up', flush=True)\n"
        "sys.stdin.read()"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert recover(tmp_path) == []
        writer.kill()

    assert len(recover(tmp_path)) == 1
    assert list_files(tmp_path)[0].read_bytes() == b"line\n"


def test_other_hidden_files_are_not_ours(tmp_path: Path) -> None:
    leave(tmp_path, b"x", ".keep")

    assert recover(tmp_path) == []
    assert names(tmp_path) == [".keep"]
