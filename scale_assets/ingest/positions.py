"""Where a table stands in a folder of files, kept as Delta transactions in the rows' own commits.

Two per file, both 64-bit and both surviving checkpoints: ``<stream>/<file>`` is the incarnation
that was taken, ``<stream>/<file>/<incarnation>`` the next line to read.
"""

from collections.abc import Iterable, Mapping

from deltalake import DeltaTable

from scale_assets.ingest.errors import ChangedFile
from scale_assets.ingest.files import FeedFile, Slice


def file_app(stream: str, name: str) -> str:
    return f"{stream}/{name}"


def lines_app(stream: str, file: FeedFile) -> str:
    return f"{stream}/{file.name}/{file.incarnation:016x}"


def counter_app(stream: str, counter: str) -> str:
    """Totals of the stream: batch, received, duplicates, ignored."""
    return f"{stream}#{counter}"


def counter(handle: DeltaTable, stream: str, name: str) -> int:
    return int(handle.transaction_version(counter_app(stream, name)) or 0)


def next_line(taken_so_far: Mapping[str, int], stream: str, file: FeedFile) -> int:
    """The first line that the table lacks, by its ``transactions``; END when it has them all.

    Raises:
        ChangedFile: Another content was ingested under this name.
    """
    taken = taken_so_far.get(file_app(stream, file.name))
    if taken is None:
        return 0
    if taken != file.incarnation:
        raise ChangedFile(
            f"{file.path} changed after it was ingested (content {taken:016x} then, "
            f"{file.incarnation:016x} now); restore it, and deliver new rows under another name"
        )
    return taken_so_far.get(lines_app(stream, file), 0)


def after(stream: str, pieces: Iterable[Slice]) -> dict[str, int]:
    """The positions that these slices bring a table to."""
    positions: dict[str, int] = {}
    for piece in pieces:
        positions[file_app(stream, piece.file.name)] = piece.file.incarnation
        positions[lines_app(stream, piece.file)] = piece.next_line
    return positions
