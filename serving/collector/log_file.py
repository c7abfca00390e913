"""One append-only file of JSON lines, hidden while it is written, and what a crash leaves of it.

The name starts with a dot until the file is sealed, which is how the files transport knows that
somebody still writes it. The writer holds a lock on it, so that a leftover is one without a lock.
"""

import fcntl
import os
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

PATTERN = ".*.jsonl"


class LogFile:
    """Bytes that are on the disk when ``append`` returns."""

    def __init__(self, folder: Path) -> None:
        self.num_bytes = 0  # durable; what lies beyond them was never acknowledged
        self.is_sealed = False
        self._path, self._fd = _create_locked(folder)
        try:
            fsync_folder(folder)
        except OSError:
            self.close()
            raise

    def append(self, data: bytes) -> None:
        """Write and sync ``data``, or raise OSError and leave the file as it was."""
        try:
            write_all(self._fd, data)
            os.fdatasync(self._fd)
        except OSError:
            os.ftruncate(self._fd, self.num_bytes)
            raise
        self.num_bytes += len(data)

    def seal(self) -> None:
        """Show the file to readers under its final name; an empty one is removed."""
        _show(self._path, self.num_bytes)
        self.is_sealed = True
        self.close()
        fsync_folder(self._path.parent)

    def close(self) -> None:
        """Let go of the file and its lock; unless sealed, it is now a leftover."""
        os.close(self._fd)


def recover(folder: Path) -> list[Path]:
    """Seal what writers that are gone left behind: whole lines stay, a torn last one is cut.

    Every line that was acknowledged is whole. One that is whole and was not may stay too: its
    sender got no answer, sends it again, and ingestion drops the second by its key.
    """
    sealed = [path for path in sorted(folder.glob(PATTERN)) if _seal_leftover(path)]
    if sealed:
        fsync_folder(folder)
    return sealed


def fsync_folder(folder: Path) -> None:
    """Make names in ``folder`` survive a power cut."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _create_locked(folder: Path) -> tuple[Path, int]:
    while True:
        name = f".{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{uuid4().hex[:8]}.jsonl"
        path = folder / name
        fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, 0o644)
        fcntl.flock(fd, fcntl.LOCK_EX)
        if os.fstat(fd).st_nlink:
            return path, fd
        os.close(fd)  # another process took it for an empty leftover before it was locked


def _seal_leftover(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    try:
        if not _is_abandoned(path, fd):
            return False
        num_bytes = _num_whole_bytes(path.read_bytes())
        os.ftruncate(fd, num_bytes)
        os.fsync(fd)
        _show(path, num_bytes)
    finally:
        os.close(fd)
    return True


def _is_abandoned(path: Path, fd: int) -> bool:
    """Whether nobody holds the lock, and the name still means the file that was opened."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.fstat(fd).st_ino == path.stat().st_ino
    except (BlockingIOError, FileNotFoundError):
        return False


def _num_whole_bytes(data: bytes) -> int:
    """Where the last whole line ends. No line holds a zero; a power cut may leave a block of them."""
    first_zero = data.find(b"\0")
    return data.rfind(b"\n", 0, len(data) if first_zero < 0 else first_zero) + 1


def _show(path: Path, num_bytes: int) -> None:
    if num_bytes:
        path.rename(path.with_name(path.name[1:]))
    else:
        path.unlink()


def write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
