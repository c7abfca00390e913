"""A tiny feed of events with a contract of its own, written as a source would write it."""

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.feed import Feed
from scale_assets.ingest.file_source import FilesSource
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import Lake

CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: views
name: views
version: {version}
status: active
schema:
  - name: views
    properties:
      - {{name: event_id, logicalType: string, primaryKey: true}}
      - {{name: event_time, logicalType: timestamp, required: true}}
      - {{name: num_clicks, logicalType: integer, required: true, logicalTypeOptions: {{minimum: 1}}}}
      - {{name: score, logicalType: number}}
{more}"""


def event(number: int, day: int = 1, **others: Any) -> dict[str, Any]:
    row = {"event_id": f"e{number}", "event_time": f"2013-01-{day:02}T00:00:00Z", "num_clicks": 1}
    return row | others


def lines(events: Iterable[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in events)


def put(path: Path, text: str) -> None:
    """Write a file that a follower may read at any moment, whole at once."""
    written = path.with_suffix(".new")
    written.write_text(text)
    written.replace(path)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def feed(tmp_path: Path) -> EventFeed:
    contract = tmp_path / "views.odcs.yaml"
    contract.write_text(CONTRACT.format(version="1.0.0", more=""))
    (tmp_path / "views").mkdir()
    return EventFeed(
        name="views",
        source=FilesSource(tmp_path / "views"),
        contract_path=contract,
        table="raw/views",
        quarantine_table="raw/views_quarantine",
        key=("event_id",),
        event_time="event_time",
        start=date(2013, 1, 1),
        end=date(2013, 2, 1),
        dedup_horizon_days=7,
    )


@pytest.fixture
def deliver(feed: EventFeed) -> Callable[[str, bytes], Path]:
    def write(name: str, data: bytes) -> Path:
        path = folder_of(feed) / name
        path.write_bytes(data)
        return path

    return write


def die_at(point: str, lake: Lake, feed: Feed, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends where a test may kill it."""

    def die(reached: str) -> None:
        if reached == point:
            raise RuntimeError(point)

    with monkeypatch.context() as patch:
        patch.setattr("scale_assets.ingest.ingestion.fault_point", die)
        with pytest.raises(RuntimeError, match=point):
            ingest(lake, feed)


def folder_of(feed: Feed) -> Path:
    assert isinstance(feed.source, FilesSource)
    return feed.source.folder


def in_batches_of(feed: EventFeed, max_batch_bytes: int) -> EventFeed:
    return replace(feed, max_batch_bytes=max_batch_bytes)


def rows(lake: Lake, table: str = "raw/views") -> list[dict[str, Any]]:
    found = lake.read(table).to_pylist()
    return sorted(found, key=lambda row: (row["_source_file"], row["_position"]))


def ids(lake: Lake) -> list[str]:
    return [row["event_id"] for row in rows(lake)]
