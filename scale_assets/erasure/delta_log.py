"""Whether a Delta log's file holds something of a person: statistics, partitions, predicates."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from scale_assets.erasure.parquet_search import is_theirs
from scale_assets.erasure.person import Person
from scale_assets.ingest.raw_ids import mentions


def found_in_log(path: Path, person: Person) -> Iterator[str]:
    """What of a commit, checkpoint or marker names an id of theirs."""
    for action in _actions(path):
        for kind in ("add", "remove"):
            if said := action.get(kind):
                yield from _in_file_action(kind, said, person)
        if said := action.get("commitInfo"):
            yield from _in_commit(said, person)


def _actions(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        for batch in pq.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    elif path.suffix == ".json":
        for line in path.read_bytes().splitlines():
            yield json.loads(line)


def _in_file_action(kind: str, said: Mapping[str, Any], person: Person) -> Iterator[str]:
    partitions = dict(said.get("partitionValues") or {})
    if any(is_theirs(name, value, person) for name, value in partitions.items()):
        yield f"{kind}: partition"
    stats = json.loads(said.get("stats") or "{}")
    for bound in ("minValues", "maxValues"):
        for name, value in _leaves(stats.get(bound) or {}):
            if is_theirs(name, value, person):
                yield f"{kind}: {bound} of {name}"


def _in_commit(said: Mapping[str, Any], person: Person) -> Iterator[str]:
    predicate = str((said.get("operationParameters") or {}).get("predicate", ""))
    names_ids = any(name in predicate for name in person.names)
    if names_ids and any(mentions(predicate.encode(), each) for each in person.ids):
        yield "commitInfo: predicate"
    pattern = person.pattern
    if pattern is not None and pattern.search(json.dumps(said).encode()):
        yield "commitInfo"


def _leaves(values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value)
        else:
            yield name, value
