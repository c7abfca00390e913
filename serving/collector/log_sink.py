"""Records to the feed folder that the files transport reads, a file at a time."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from serving.collector.errors import CollectorError, SinkUnavailable
from serving.collector.log_file import LogFile, fsync_folder, recover
from serving.collector.records import Record

log = logging.getLogger(__name__)


class LogSink:
    """Appends to one file, and seals it when it is large or old enough, or at the end.

    Everything that touches the disk runs in one thread of its own, so that requests are read
    while it syncs.
    """

    def __init__(self, folder: Path, *, max_bytes: int, max_age_s: float) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._file: LogFile | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"log-{folder.name}")
        self._timer: asyncio.TimerHandle | None = None
        self._sealing: asyncio.Future[None] | None = None
        try:
            _make_durably(folder)
            LogFile(folder).seal()  # a folder that cannot be written is found now, not later
            for path in recover(folder):
                log.warning("%s was left by a collector that ended without sealing it", path)
        except OSError as error:
            raise CollectorError(
                f"{folder} cannot be written: {error}; mend its owner or set SCALE_DATA_DIR"
            ) from error

    async def write(self, records: Sequence[Record]) -> None:
        data = b"".join([record.line for record in records])
        await self._in_thread(lambda: self._append(data))
        if self._timer is None:
            self._watch_age()

    async def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._in_thread(self._seal)
        self._thread.shutdown()

    def _in_thread(self, work: Callable[[], None]) -> asyncio.Future[None]:
        return asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _watch_age(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._max_age_s, self._seal_by_age)

    def _seal_by_age(self) -> None:
        """The oldest record of the file is at most this old; the next write starts anew."""
        self._timer = None
        self._sealing = self._in_thread(self._seal)

    def _append(self, data: bytes) -> None:
        try:
            if self._file is None:
                recover(self._folder)  # a file that failed earlier
                self._file = LogFile(self._folder)
            self._file.append(data)
        except OSError as error:
            self._abandon()
            raise SinkUnavailable(f"{self._folder}: {error}") from error
        if self._file.num_bytes >= self._max_bytes:
            self._seal()

    def _abandon(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _seal(self) -> None:
        """What is in the file is durable already, so a failure here only delays its readers."""
        if self._file is None:
            return
        try:
            self._file.seal()
        except OSError as error:
            log.warning("%s: a file could not be sealed yet: %s", self._folder, error)
            if not self._file.is_sealed:
                self._abandon()
        self._file = None


def _make_durably(folder: Path) -> None:
    missing = [each for each in (folder, *folder.parents) if not each.exists()]
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
        fsync_folder(each.parent)
