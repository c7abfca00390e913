"""A folder of JSON-lines files as a source, and where a table stands in it.

Two positions per file, both 64-bit and both surviving checkpoints: ``<file>`` is the incarnation
that was taken, ``<file>/<incarnation>`` the next line to read.
"""

import hashlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
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

    def reading(self) -> AbstractContextManager[Reading]:
        return nullcontext(FilesReading(self.folder))

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

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.files = [identify(path) for path in list_files(folder)]

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
            if (file.name, file.incarnation) == (name, incarnation):
                cut = Slice(file, first_line, following)
                return _piece(cut, read_slice(cut, max_bytes=max_bytes), max_bytes)
        raise IngestError(
            f"{self.folder / name} is gone or changed, and a half committed batch needs it; "
            "restore the file"
        )

    def acknowledge(self, taken: Positions) -> None:
        """Files stay where they are: whoever delivers them may delete what was taken."""


def next_line(taken: Positions, file: FeedFile) -> int:
    """The first line that a table lacks; END when it has them all.

    Raises:
        ChangedFile: Another content was ingested under this name.
    """
    incarnation = taken.get(file.name)
    if incarnation is None:
        return 0
    if incarnation != file.incarnation:
        raise ChangedFile(
            f"{file.path} changed after it was ingested (content {incarnation:016x} then, "
            f"{file.incarnation:016x} now); restore it, and deliver new rows under another name"
        )
    return taken.get(lines_position(file), 0)


def lines_position(file: FeedFile) -> str:
    return f"{file.name}/{file.incarnation:016x}"


def _piece(cut: Slice, data: bytes, max_bytes: int) -> Piece:
    file = cut.file
    return Piece(
        place=file.name,
        records=data,
        first_position=cut.first_line,
        positions_after={file.name: file.incarnation, lines_position(file): cut.next_line},
        address=[file.name, file.incarnation, cut.first_line, cut.next_line, max_bytes],
        num_bytes=len(data),
        is_end=cut.next_line == END,
    )
