"""A folder of JSON-lines files as a source, and where a table stands in it.

Two positions per file, both 64-bit and both surviving checkpoints: ``<file>`` is the incarnation
that was taken, ``<file>/<incarnation>`` the next line to read.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scale_assets.ingest.errors import BrokenFile, ChangedFile, IngestError
from scale_assets.ingest.files import (
    END,
    FeedFile,
    Slice,
    check_whole,
    identify,
    list_files,
    read_slice,
    slices,
)
from scale_assets.ingest.source import Piece, Positions, Reading, Source


@dataclass(frozen=True)
class FilesSource(Source):
    """JSON-lines files, plain or gzipped, taken in the order of their names."""

    folder: Path

    @contextmanager
    def reading(self) -> Iterator[Reading]:
        with self._connected(FilesReading) as reading:
            yield reading

    @contextmanager
    def following(self) -> Iterator[Reading]:
        with self._connected(FollowedFiles) as reading:
            yield reading

    @contextmanager
    def _connected(self, kind: "type[FilesReading]") -> Iterator[Reading]:
        with ThreadPoolExecutor(1) as digests:
            try:
                yield kind(self.folder, digests)
            finally:
                digests.shutdown(wait=False, cancel_futures=True)

    def fingerprint(self) -> str | None:
        """A digest of names, sizes and times: changes when a file arrives or is replaced."""
        if not self.folder.is_dir():
            return None
        digest = hashlib.sha256()
        for path in list_files(self.folder):
            stat = path.stat()
            digest.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]

    def describe(self) -> str:
        return f"folder {self.folder}"


class FilesReading(Reading):
    """The files that were there when the run began."""

    is_complete = True

    def __init__(self, folder: Path, digests: Executor) -> None:
        super().__init__()
        self.folder = folder
        self._digests = digests
        self._identified: dict[tuple[str, int, int], FeedFile] = {}  # by name, size and time
        self.files = self._found()

    def _found(self) -> list[FeedFile]:
        found = {}
        for path in list_files(self.folder):
            stat = path.stat()
            as_it_is = (path.name, stat.st_size, stat.st_mtime_ns)
            found[as_it_is] = self._identified.get(as_it_is) or identify(
                path, digests=self._digests
            )
        self._identified = found
        return list(found.values())

    def pieces(self, taken: Positions, *, max_bytes: int) -> Iterator[Piece]:
        self.broken.clear()
        for file in self.files:
            try:
                first_line = next_line(taken, file)
                if first_line == END:
                    continue
                check_whole(file)
            except (BrokenFile, ChangedFile) as error:
                self.broken[file.name] = str(error)
                continue
            for cut, data in slices(file, first_line=first_line, max_bytes=max_bytes):
                yield _piece(cut, data, max_bytes)

    def reread(self, address: list[Any]) -> Piece:
        name, incarnation, first_line, following, max_bytes = address
        for file in self.files:
            if file.name == name and file.incarnation == incarnation:
                cut = Slice(file, first_line, following)
                return _piece(cut, read_slice(cut, max_bytes=max_bytes), max_bytes)
        raise IngestError(
            f"{self.folder / name} is gone or changed, and a half committed batch needs it; "
            "restore the file"
        )

    def acknowledge(self, taken: Positions) -> None:
        """Files stay where they are: whoever delivers them may delete what was taken."""


class FollowedFiles(FilesReading):
    """The files that are there whenever it is asked; what did not change is not read again."""

    def pieces(self, taken: Positions, *, max_bytes: int) -> Iterator[Piece]:
        self.files = self._found()
        yield from super().pieces(taken, max_bytes=max_bytes)


def next_line(taken: Positions, file: FeedFile) -> int:
    """The first line that a table lacks; END when it has them all.

    Raises:
        ChangedFile: Another content was ingested under this name.
    """
    incarnation = taken.get(file.name)
    if incarnation is None:  # a new file, whose digest is not needed yet
        return 0
    if incarnation != file.incarnation:
        raise ChangedFile(
            f"{file.path} changed after it was ingested (content {incarnation:016x} then, "
            f"{file.incarnation:016x} now); restore it, and deliver new rows under another name"
        )
    return taken.get(lines_position(file), 0)


def lines_position(file: FeedFile) -> str:
    return f"{file.name}/{file.incarnation:016x}"


@dataclass(frozen=True)
class _PositionsAfter(Mapping[str, int]):
    """Where a table stands that has the slice.

    Only a commit asks, so that a new file is decoded while its digest is taken.
    """

    cut: Slice

    def _known(self) -> dict[str, int]:
        file = self.cut.file
        return {file.name: file.incarnation, lines_position(file): self.cut.next_line}

    def __getitem__(self, name: str) -> int:
        return self._known()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known())

    def __len__(self) -> int:
        return 2


@dataclass(frozen=True)
class _Address(Sequence[Any]):
    """What ``FilesReading.reread`` takes; as late."""

    cut: Slice
    max_bytes: int

    def __getitem__(self, index: Any) -> Any:
        file = self.cut.file
        lines = (self.cut.first_line, self.cut.next_line)
        return [file.name, file.incarnation, *lines, self.max_bytes][index]

    def __len__(self) -> int:
        return 5


def _piece(cut: Slice, data: memoryview, max_bytes: int) -> Piece:
    return Piece(
        place=cut.file.name,
        records=data,
        first_position=cut.first_line,
        positions_after=_PositionsAfter(cut),
        address=_Address(cut, max_bytes),
        num_bytes=len(data),
        is_end=cut.next_line == END,
    )
