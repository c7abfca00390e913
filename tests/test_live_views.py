"""A view over a stream follows its events within seconds, beside `scale ingest --follow`."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scale_assets.features.reader import OnlineReader
from scale_assets.features.stores import OnlineStoreError

ROOT = Path(__file__).resolve().parents[1]
FILES = {
    "dg.toml": """\
directory_type = "project"
[project]
root_module = "shop"
code_location_target_module = "scale_assets.definitions"
""",
    "shop/defs/views/defs.yaml": """\
type: scale_assets.components.EventStream
attributes:
  name: views
  contract: views.odcs.yaml
  transport: {type: files, path: views}
  key: [event_id]
  event_time: event_time
  calendar: {start: "2013-01-01", end: "2013-01-31"}
---
type: scale_assets.components.FeatureViews
attributes:
  repo: feature_repo
  clock: {table: raw/views, column: received_at}
""",
    "shop/defs/views/views.odcs.yaml": """\
apiVersion: v3.1.0
kind: DataContract
id: views
name: views
version: 1.0.0
status: active
schema:
  - name: views
    properties:
      - {name: event_id, logicalType: string, primaryKey: true}
      - {name: event_time, logicalType: timestamp, required: true}
      - {name: received_at, logicalType: timestamp, required: true}
      - {name: user_id, logicalType: integer, required: true}
      - {name: page, logicalType: integer, required: true}
""",
    "feature_repo/feature_store.yaml": "project: shop\n",
    "feature_repo/views.py": """\
from feast import Entity
from stream_views import stream_views

user = Entity(name="user", join_keys=["user_id"])
streams = stream_views("streams.yml", entities=[user])
""",
    "feature_repo/streams.yml": """\
streams:
  - name: user_views
    table: raw/views
    entity: user
    key: "{user_id}"
    event_time: event_time
    received_at: received_at
    features:
      - {name: views_1h, count: events, window: 1h}
      - {name: last_pages, last: page, limit: 2}
""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / ".data" / "feeds" / "views").mkdir(parents=True)
    return tmp_path


@pytest.fixture
def follower(project: Path) -> Iterator[subprocess.Popen[str]]:
    command = ["ingest", "views", "--follow", "--every", "0.2", "--report-every", "0.5"]
    process = subprocess.Popen(
        [sys.executable, "-m", "scale_assets", *command],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def deliver(project: Path, name: str, *pages: int) -> None:
    """A file of one user's views at the same instant, whole at once."""
    rows = [
        {
            "event_id": f"{name}-{page}",
            "event_time": f"2013-01-02T10:00:{page:02}Z",
            "received_at": "2013-01-02T10:30:00Z",
            "user_id": 7,
            "page": page,
        }
        for page in pages
    ]
    folder = project / ".data" / "feeds" / "views"
    hidden = folder / f".{name}.jsonl"
    hidden.write_text("".join(json.dumps(row) + "\n" for row in rows))
    hidden.rename(folder / f"{name}.jsonl")


def read(project: Path) -> dict[str, Any]:
    """What a server would be told of user 7; {} until something is."""
    try:
        reader = OnlineReader(project / ".data" / "online.db")
        (row,) = reader.read("user_views", ["7"])
    except OnlineStoreError:
        return {}
    if row is None:
        return {}
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in row.values.items()
    }


def wait_for(project: Path, expected: dict[str, Any], *, seconds: float) -> float:
    began = time.monotonic()
    while (found := read(project)) != expected:
        assert time.monotonic() - began < seconds, found
        time.sleep(0.05)
    return time.monotonic() - began


def test_events_reach_the_view_while_they_are_followed(
    project: Path, follower: subprocess.Popen[str]
) -> None:
    deliver(project, "a", 1, 2)
    wait_for(project, {"views_1h": 2, "last_pages": [1, 2]}, seconds=120)  # with its start
    deliver(project, "b", 3)
    wait_for(project, {"views_1h": 3, "last_pages": [2, 3]}, seconds=20)
    deliver(project, "c", 4)
    follower.send_signal(signal.SIGTERM)
    said, _ = follower.communicate(timeout=60)
    assert follower.returncode == 0, said
