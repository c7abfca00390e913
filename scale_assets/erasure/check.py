"""Proof that a person is gone: every file of the scope is decoded and searched."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scale_assets.erasure.databases import found_in_duckdb, found_in_sqlite
from scale_assets.erasure.delta_log import found_in_log
from scale_assets.erasure.online import found_online
from scale_assets.erasure.parquet_search import found_in_parquet
from scale_assets.erasure.person import Feed, Person
from scale_assets.erasure.scope import Scope
from scale_assets.erasure.vectors import found_in_vectors
from scale_assets.lake.files import LOG
from scale_assets.lake.stored import StoredFile


@dataclass(frozen=True, kw_only=True)
class Residue:
    """Where something of the person still is."""

    path: str
    where: str


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was searched and what was found."""

    num_files: int
    num_bytes: int
    residues: tuple[Residue, ...]


def check_scope(scope: Scope, person: Person) -> Checked:
    """Search every file: columns, dictionaries and footers, logs, databases, and plain bytes."""
    num_files, num_bytes = 0, 0
    residues = []
    for file in _files(scope):
        num_files += 1
        num_bytes += file.path.stat().st_size
        residues += [
            Residue(path=file.uri, where=where)
            for where in dict.fromkeys(_search(file, scope, person))
        ]
    if scope.redis_url:
        store, size, found = found_online(scope.redis_url, scope.views, person)
        num_bytes += size
        residues += [Residue(path=store, where=where) for where in found]
    return Checked(num_files=num_files, num_bytes=num_bytes, residues=tuple(residues))


def _files(scope: Scope) -> Iterator[StoredFile]:
    """Those of the lake, then those beside it, each once."""
    seen = set()
    for file in scope.lake.stored():
        seen.add(file.uri)
        yield file
    places = [*scope.folders, scope.vectors_dir]
    found = {path.resolve() for place in places for path in place.rglob("*")}
    for database in (scope.online_path, scope.warehouse_path):
        found |= {path.resolve() for path in database.parent.glob(f"{database.name}*")}
    for path in sorted(path for path in found if path.is_file() and str(path) not in seen):
        yield StoredFile(path=path, uri=str(path), name="")


def _search(file: StoredFile, scope: Scope, person: Person) -> Iterator[str]:
    path = file.path
    if path.parent.name == LOG:
        yield from found_in_log(path, person)
    elif path.suffix == ".parquet":
        yield from found_in_parquet(path, person, quarantine_of=_feed_of(file, scope))
    elif path == scope.online_path.resolve():
        yield from found_in_sqlite(path, person, scope.views)
    elif path == scope.warehouse_path.resolve():
        yield from found_in_duckdb(path, person)
    elif path.parent == scope.vectors_dir.resolve():
        yield from found_in_vectors(path, scope.views, person)
    else:
        yield from found_in_bytes(path, person)


def found_in_bytes(path: Path, person: Person) -> Iterator[str]:
    """Places in a file without a format that we know."""
    pattern = person.pattern
    if pattern is not None and (found := pattern.search(path.read_bytes())):
        yield f"byte {found.start()}"


def _feed_of(file: StoredFile, scope: Scope) -> Feed | None:
    for feed in scope.feeds:
        if file.name.startswith(f"{feed.quarantine_table}/"):
            return feed
    return None
