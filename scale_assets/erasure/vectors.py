"""One person's lines out of the log of served vectors; its keys are those of the online store."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from scale_assets.erasure.delta import Erased
from scale_assets.erasure.files import LEFTOVER
from scale_assets.erasure.online import keys_of
from scale_assets.erasure.person import Person
from scale_assets.features.repo import ViewDeclaration
from scale_assets.lake import fault_point


class _View(msgspec.Struct):
    key: str


class _Line(msgspec.Struct):
    views: dict[str, _View]


def erase_vectors(
    folder: Path, views: Sequence[ViewDeclaration], person: Person
) -> Iterator[Erased]:
    """Rewrite the files that have lines of theirs; a server that has one open starts another."""
    declared = {view.name: view for view in views}
    for leftover in folder.glob(f"{LEFTOVER}*"):
        leftover.unlink()
    for path in sorted(folder.glob("[!.]*.jsonl")):
        lines = path.read_bytes().splitlines(keepends=True)
        theirs = _theirs(lines, declared, person)
        if theirs:
            staged = path.with_name(f"{LEFTOVER}{path.name}")
            staged.touch(mode=0o600)
            staged.write_bytes(b"".join(line for at, line in enumerate(lines) if at not in theirs))
            fault_point("before_replace")
            staged.replace(path)
            yield Erased(name=str(path), num_rows=len(theirs), num_files_rewritten=1)


def found_in_vectors(path: Path, views: Sequence[ViewDeclaration], person: Person) -> Iterator[str]:
    """Lines that still are theirs."""
    lines = path.read_bytes().splitlines()
    for at in sorted(_theirs(lines, {view.name: view for view in views}, person)):
        yield f"line {at + 1}"


def _theirs(
    lines: Sequence[bytes], declared: Mapping[str, ViewDeclaration], person: Person
) -> set[int]:
    """Indexes of the lines whose keys are theirs, or whose text can only be of them."""
    found: set[int] = set()
    by_view: dict[str, list[tuple[int, str]]] = {name: [] for name in declared}
    for at, line in enumerate(lines):
        if person.pattern is not None and person.pattern.search(line):
            found.add(at)
        for name, key in _keys(line):
            if name in by_view:
                by_view[name].append((at, key))
    for name, keys in by_view.items():
        theirs = set(keys_of([key for _, key in keys], declared[name], person))
        found |= {at for at, key in keys if key in theirs}
    return found


def _keys(line: bytes) -> Iterator[tuple[str, str]]:
    """View and key; none in a line that a crash tore."""
    try:
        read = msgspec.json.decode(line, type=_Line)
    except msgspec.DecodeError:
        return
    yield from ((name, view.key) for name, view in read.views.items())
