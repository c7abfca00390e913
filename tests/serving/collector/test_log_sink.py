"""Files are sealed by size, by age and at the end; a disk that fills up loses nothing."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from scale_assets.ingest.files import list_files
from serving.collector.errors import CollectorError, SinkUnavailable
from serving.collector.log_sink import LogSink
from serving.collector.records import Record

MIB = 1 << 20


def record(number: int, size: int = 10) -> Record:
    line = str(number).encode().ljust(size, b".") + b"\n"
    return Record(None, {}, line, None)  # type: ignore[arg-type]


def in_loop(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


def lines(folder: Path) -> list[bytes]:
    return [line for path in list_files(folder) for line in path.read_bytes().splitlines()]


def hidden(folder: Path) -> bytes:
    (path,) = folder.glob(".*.jsonl")
    return path.read_bytes()


def numbers(folder: Path) -> list[int]:
    return [int(line.rstrip(b".")) for line in lines(folder)]


def test_a_write_is_on_the_disk_and_the_end_seals_it(tmp_path: Path) -> None:
    async def work() -> None:
        sink = LogSink(tmp_path, max_bytes=MIB, max_age_s=60)
        await sink.write([record(1), record(2)])
        assert hidden(tmp_path).count(b"\n") == 2
        assert lines(tmp_path) == []
        await sink.close()

    in_loop(work())

    assert numbers(tmp_path) == [1, 2]


def test_a_large_file_is_sealed_and_another_begun(tmp_path: Path) -> None:
    async def work() -> None:
        sink = LogSink(tmp_path, max_bytes=25, max_age_s=60)
        for number in range(5):
            await sink.write([record(number)])
        assert numbers(tmp_path) == [0, 1, 2]
        await sink.close()

    in_loop(work())

    assert numbers(tmp_path) == [0, 1, 2, 3, 4]
    assert len(list_files(tmp_path)) == 2


def test_an_old_file_is_sealed_though_nothing_more_comes(tmp_path: Path) -> None:
    async def work() -> None:
        sink = LogSink(tmp_path, max_bytes=MIB, max_age_s=0.2)
        await sink.write([record(1)])
        assert lines(tmp_path) == []
        await asyncio.sleep(0.5)
        assert numbers(tmp_path) == [1]
        await sink.write([record(2)])
        await asyncio.sleep(0.5)
        assert numbers(tmp_path) == [1, 2]
        await sink.close()

    in_loop(work())


def test_what_a_crash_left_is_taken_in_at_the_start(tmp_path: Path) -> None:
    (tmp_path / ".left.jsonl").write_bytes(b"7\n8")

    async def work() -> None:
        await LogSink(tmp_path, max_bytes=MIB, max_age_s=60).close()

    in_loop(work())

    assert numbers(tmp_path) == [7]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(CollectorError, match="SCALE_DATA_DIR"):
        LogSink(tmp_path / "file" / "feed", max_bytes=MIB, max_age_s=60)


def test_a_full_disk_refuses_whole_writes_and_recovers(small_disk: Path) -> None:
    feed = small_disk / "feed"
    ballast = small_disk / "ballast"

    async def work() -> list[int]:
        sink = LogSink(feed, max_bytes=MIB, max_age_s=60)
        await sink.write([record(0)])
        ballast.write_bytes(bytes(900 << 10))
        refused = []
        for number in range(1, 4):
            try:
                await sink.write([record(number, 200 << 10)])
            except SinkUnavailable:
                refused.append(number)
        ballast.unlink()
        await sink.write([record(4)])
        await sink.close()
        return refused

    assert asyncio.run(work()) == [1, 2, 3]
    assert numbers(feed) == [0, 4]
