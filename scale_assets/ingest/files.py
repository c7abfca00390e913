"""The files transport: JSON-lines files of a folder, plain or gzipped, cut into slices of lines."""

import gzip
import hashlib
import zlib
from collections.abc import Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from scale_assets.contracts.decode import count_newlines
from scale_assets.ingest.errors import BrokenFile, IngestError

SUFFIXES = (".jsonl", ".jsonl.gz", ".json", ".json.gz")
READ_BYTES = 1 << 20
END = 2**63 - 1  # the next line of a file that was read to its end


@dataclass(frozen=True)
class FeedFile:
    """One file as it was found; its digest may still be in the works."""

    name: str
    path: Path
    digest: "Future[int]" = field(compare=False)

    @property
    def incarnation(self) -> int:
        """63 bits of its content's SHA-256; waits for them."""
        return self.digest.result()


@dataclass(frozen=True)
class Slice:
    """Lines ``first_line`` to before ``next_line`` of one file; END when they reach its end."""

    file: FeedFile
    first_line: int
    next_line: int


def list_files(folder: Path) -> list[Path]:
    """The feed's files by name. Hidden files are ones that somebody is still writing.

    Raises:
        IngestError: There is no such folder.
    """
    if not folder.is_dir():
        raise IngestError(f"feed folder {folder} does not exist; create it or mend transport.path")
    found = (path for path in folder.iterdir() if path.name.endswith(SUFFIXES))
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def identify(path: Path, *, digests: Executor) -> FeedFile:
    """Have the whole file read once to learn its incarnation."""
    return FeedFile(path.name, path, digests.submit(incarnation_of, path))


def incarnation_of(path: Path) -> int:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").digest()
    return int.from_bytes(digest[:8]) >> 1


def check_whole(file: FeedFile) -> None:
    """Read a gzipped file to its end before any of it is taken.

    Raises:
        BrokenFile: It is cut short or damaged.
    """
    if file.name.endswith(".gz"):
        with open_lines(file) as stream:
            while read_some(file, stream):
                pass


def open_lines(file: FeedFile) -> IO[bytes]:
    """The file's uncompressed bytes."""
    if file.name.endswith(".gz"):
        return cast("IO[bytes]", gzip.open(file.path, "rb"))
    return file.path.open("rb")


def read_some(file: FeedFile, stream: IO[bytes]) -> bytes:
    try:
        return stream.read(READ_BYTES)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BrokenFile(
            f"{file.path} is cut short or damaged ({error}); no line of it was taken. "
            "Deliver it again under the same name"
        ) from error


def slices(
    file: FeedFile, *, first_line: int, max_bytes: int
) -> Iterator[tuple[Slice, memoryview]]:
    """The file from a line on, whole lines, about ``max_bytes`` at a time.

    Slices of one file always fall at the same lines, wherever reading starts.
    """
    line = 0
    for piece, is_last in _pieces(file, max_bytes):
        following = line + count_newlines(piece)
        if is_last or following > first_line:
            data = _without_lines(piece, first_line - line) if line < first_line else piece
            next_line = END if is_last else following
            yield Slice(file, max(line, first_line), next_line), data
        line = following


def read_slice(piece: Slice, *, max_bytes: int) -> memoryview:
    """The bytes of a slice that was cut before.

    Raises:
        IngestError: The file no longer has such a slice.
    """
    for found, data in slices(piece.file, first_line=piece.first_line, max_bytes=max_bytes):
        if found == piece:
            return data
        break
    raise IngestError(
        f"{piece.file.path}: lines {piece.first_line} to {piece.next_line} are gone, and an "
        "unfinished batch needs them; restore the file"
    )


def _pieces(file: FeedFile, max_bytes: int) -> Iterator[tuple[memoryview, bool]]:
    pending = bytearray()
    with open_lines(file) as stream:
        while block := read_some(file, stream):
            pending += block
            if len(pending) >= max_bytes and (end := pending.rfind(b"\n") + 1):
                whole, pending = pending, pending[end:]
                yield memoryview(whole)[:end], False  # not copied: it is a batch's worth
    yield memoryview(pending), True


def _without_lines(data: memoryview, num_lines: int) -> memoryview:
    start, whole = 0, bytes(data)
    for _ in range(num_lines):
        start = whole.index(b"\n", start) + 1
    return data[start:]
