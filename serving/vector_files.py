"""Files of JSON lines that grow, turn and go by themselves; readers find whole lines in them."""

import os
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from serving.collector.log_file import write_all

MAX_FILE_BYTES = 16 << 20
MAX_FILE_AGE = timedelta(hours=1)
FILES_KEPT = 8  # at least so many fit into the folder's bound


class VectorFiles:
    """Appends to a file of its own; several processes may share the folder and its bound.

    A file that was taken away or replaced meanwhile, as when a person is erased, is not written to
    again.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_bytes: int,
        max_age: timedelta,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_file_bytes = min(MAX_FILE_BYTES, max_bytes // FILES_KEPT)
        self._max_age = max_age
        self._clock = clock
        self._open: _OpenFile | None = None
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, lines: bytes) -> None:
        """Write whole lines; raises OSError and leaves the file without them."""
        file = self._open
        if file is None or not self._takes(file, len(lines)):
            self.close()
            self._drop_old(len(lines))
            file = self._open = _OpenFile(self._folder, self._clock())
        file.append(lines)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None

    def _takes(self, file: "_OpenFile", num_bytes: int) -> bool:
        is_young = self._clock() - file.opened_at <= MAX_FILE_AGE.total_seconds()
        is_small = file.num_bytes + num_bytes <= self._max_file_bytes
        return is_young and is_small and file.is_in_place()

    def _drop_old(self, num_bytes: int) -> None:
        """Delete what is too old, then the oldest until a whole file fits."""
        oldest = self._clock() - self._max_age.total_seconds()
        room = self._max_bytes - max(num_bytes, self._max_file_bytes)
        for path in sorted(
            self._folder.glob("[!.]*.jsonl"), reverse=True
        ):  # names begin with the time
            try:
                found = path.stat()
                room -= found.st_size
                if room < 0 or found.st_mtime < oldest:
                    path.unlink()
            except FileNotFoundError:
                continue  # another process was faster


class _OpenFile:
    """One file that is being written."""

    def __init__(self, folder: Path, now: float) -> None:
        moment = datetime.fromtimestamp(now, UTC)
        self.path = folder / f"{moment:%Y%m%dT%H%M%S.%fZ}-{uuid4().hex[:8]}.jsonl"
        self.opened_at = now
        self.num_bytes = 0
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND
        self._fd = os.open(self.path, flags, 0o600)  # it holds personal data
        self._inode = os.fstat(self._fd).st_ino

    def is_in_place(self) -> bool:
        try:
            return self.path.stat().st_ino == self._inode
        except FileNotFoundError:
            return False

    def append(self, lines: bytes) -> None:
        try:
            write_all(self._fd, lines)
        except OSError:
            os.ftruncate(self._fd, self.num_bytes)
            raise
        self.num_bytes += len(lines)

    def close(self) -> None:
        os.close(self._fd)
