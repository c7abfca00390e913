"""Writing feed files so that a kill at any moment leaves whole files only."""

import errno
import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from scale_assets.errors import ScaleError

LOCK_NAME = ".replay.lock"
PART_SUFFIX = ".part"


class FeedsError(ScaleError):
    """The feeds folder is in use, full, or was made from something else."""


class WholeFiles:
    """Writes files that are either absent or complete: part file, fsync, rename, in this order.

    Files are published in the order given, by batches, because waiting for the disk after each
    one takes longer than all the rest.
    """

    def __init__(self, *, batch_files: int = 64, num_threads: int = 8) -> None:
        self._batch_files = batch_files
        self._num_threads = num_threads
        self._parts: list[tuple[Path, Path]] = []

    def add(self, path: Path, chunks: Iterable[bytes | memoryview]) -> None:
        """Write the part file, and publish the batch when it is full.

        Raises:
            FeedsError: The disk is full; what was published before stays valid.

        """
        part = path.with_name(f".{path.name}{PART_SUFFIX}")
        with _full_disk_named(path), part.open("wb") as file:
            for chunk in chunks:
                file.write(chunk)
        self._parts.append((part, path))
        if len(self._parts) >= self._batch_files:
            self.publish()

    def publish(self) -> None:
        """Make all part files durable, then give them their names."""
        with ThreadPoolExecutor(self._num_threads) as threads:
            for _ in threads.map(_sync, [part for part, _ in self._parts]):
                pass  # only to raise what a thread raised
        for part, path in self._parts:
            part.rename(path)
        for folder in {path.parent for _, path in self._parts}:
            _sync(folder)
        self._parts.clear()


def write_whole(path: Path, text: bytes) -> None:
    """Write one file that is either absent or complete."""
    files = WholeFiles()
    files.add(path, [text])
    files.publish()


def _sync(path: Path) -> None:
    with _full_disk_named(path):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextmanager
def _full_disk_named(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise FeedsError(
            f"no space left while writing {path}; free some and run again: the days already "
            "written are kept"
        ) from error


@contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which dies with the process, and clear unfinished part files.

    Raises:
        FeedsError: Another process holds the lock.

    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK_NAME).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FeedsError(
                f"another run is writing {folder}; wait for it to end, then run again"
            ) from error
        _clear_parts(folder)
        try:
            yield
        finally:
            _clear_parts(folder)


def _clear_parts(folder: Path) -> None:
    for part in list(folder.rglob(f".*{PART_SUFFIX}")):
        shutil.rmtree(part) if part.is_dir() else part.unlink()
