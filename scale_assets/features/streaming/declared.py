"""Feature views over streams, as a feature repository's streams.yml declares them.

feature_repo/stream_views.py makes Feast's objects of the same file by the same rule.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from scale_assets.errors import ScaleError
from scale_assets.features.streaming.aggregates import (
    Aggregate,
    AggregateError,
    Aggregates,
    Last,
    Recency,
    Windowed,
)
from scale_assets.features.streaming.keys import JoinKey

REQUIRED = ("name", "table", "entity", "key", "event_time", "received_at", "features")
OPTIONAL = ("description", "join_key")
KINDS = {  # what a feature's keys are, besides its name and description
    "count": {"count", "window"},
    "sum": {"sum", "window"},
    "last": {"last", "limit"},
    "recency": {"recency"},
}
WORDS = {"count": "events", "recency": "seconds"}  # the only thing that they can be of
TAG = "scale.stream"  # of Feast's view, which says what its declaration does
DURATION = re.compile(r"(\d+)([mhd])")
UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}


class StreamError(ScaleError):
    """A stream's features that do not say what they need."""


@dataclass(frozen=True, kw_only=True)
class EventColumns:
    """Where a stream's table keeps what the aggregates need."""

    keys: tuple[JoinKey, ...]
    event_time: str
    received_at: str


@dataclass(frozen=True, kw_only=True)
class StreamingView:
    """Aggregates over the events of one stream, per entity."""

    name: str
    table: str  # the stream's, in the lake
    columns: EventColumns
    aggregates: Aggregates

    @property
    def sources(self) -> dict[str, list[str]]:
        """Per join key and feature, the columns of the stream's table that it is made of."""
        found = {key.name: key.columns for key in self.columns.keys}
        times = [self.columns.event_time, self.columns.received_at]
        for feature in self.aggregates.features:
            counted = None if isinstance(feature, Recency) else feature.column
            found[feature.name] = [*([counted] if counted else []), *times]
        return found


@dataclass(frozen=True, kw_only=True)
class Declared:
    """A view, and the entity whose one join key its events name."""

    entity: str
    view: Mapping[str, Any]
    path: Path

    def of(self, join_key: str) -> StreamingView:
        return streaming_view(self.view, join_key=join_key, where=str(self.path))


def declared_streams(path: Path) -> list[Declared]:
    """The views that a file declares.

    Raises:
        StreamError: It is not there, or lacks or has a key that it should not.
    """
    if not path.is_file():
        raise StreamError(f"{path} does not exist; it declares the views over streams")
    return list(_declared(path, path.stat().st_mtime_ns))


@lru_cache(maxsize=64)
def _declared(path: Path, mtime_ns: int) -> tuple[Declared, ...]:  # noqa: ARG001
    import yaml

    document = yaml.safe_load(path.read_text()) or {}
    views = [
        Declared(entity=_checked(s, path)["entity"], view=s, path=path) for s in document["streams"]
    ]
    return tuple(views)


def stream_of_tags(tags: Mapping[str, str]) -> StreamingView | None:
    """The stream that Feast's view of these tags is over; None if it is over a table."""
    if TAG not in tags:
        return None
    said = json.loads(tags[TAG])
    return streaming_view(said, join_key=said["join_key"], where="feature registry")


def streaming_view(said: Mapping[str, Any], *, join_key: str, where: str) -> StreamingView:
    """A view from what its declaration, or the tag of Feast's view, says.

    Raises:
        StreamError: A feature of it cannot be kept.
    """
    where = f"{where}: stream {said['name']}"
    try:
        return StreamingView(
            name=said["name"],
            table=said["table"],
            columns=EventColumns(
                keys=(JoinKey(join_key, said["key"]),),
                event_time=said["event_time"],
                received_at=said["received_at"],
            ),
            aggregates=Aggregates(tuple(_feature(each, where) for each in said["features"])),
        )
    except AggregateError as error:
        raise StreamError(f"{where}: {error}") from error


def _checked(said: Mapping[str, Any], path: Path) -> Mapping[str, Any]:
    where = f"{path}: stream {said.get('name', '?')}"
    for key in REQUIRED:
        if key not in said:
            raise StreamError(f"{where} lacks {key!r}")
    unknown = sorted(said.keys() - {*REQUIRED, *OPTIONAL})
    if unknown:
        raise StreamError(f"{where} has no key {unknown[0]!r}; its keys are {sorted(REQUIRED)}")
    return said


def _feature(said: Mapping[str, Any], where: str) -> Aggregate:
    name = said.get("name")
    kinds = [kind for kind in KINDS if kind in said]
    if not name or len(kinds) != 1:
        raise StreamError(f"{where}: feature {name!r} must have a name and one of {sorted(KINDS)}")
    (kind,) = kinds
    needed, given = KINDS[kind], said.keys() - {"name", "description"}
    if given != needed:
        raise StreamError(
            f"{where}: feature {name!r}: a {kind} has the keys {sorted(needed)}, not {sorted(given)}"
        )
    if kind in WORDS and said[kind] != WORDS[kind]:
        raise StreamError(
            f"{where}: feature {name!r}: {kind} is {said[kind]!r}; write {kind}: {WORDS[kind]}"
        )
    match kind:
        case "last":
            return Last(name=name, column=said["last"], limit=said["limit"])
        case "recency":
            return Recency(name=name)
    window = _duration(said["window"], f"{where}: feature {name!r}")
    return Windowed(name=name, window=window, column=said.get("sum"))


def _duration(said: object, where: str) -> timedelta:
    found = DURATION.fullmatch(str(said))
    if found is None:
        raise StreamError(f"{where}: window is {said!r}; write it as 30m, 12h or 7d")
    return int(found[1]) * UNITS[found[2]]
