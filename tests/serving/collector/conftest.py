"""A collector over two small streams, its folder of feeds, and what it wrote there."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from serving.collector.build import build
from serving.collector.config import Config

KEY = "web-key"
PII_KEY = "0123456789abcdef0123456789abcdef"
STREAMS = """\
streams:
  - name: clicks
    contract: clicks.odcs.yaml
    types: [track, page]
    events: [Clicked]
    partition_by: user
    columns:
      event_id: messageId
      event_time: collector.event_time
      received_at: collector.received_at
      source: collector.source
      user: userId
      country: properties.country
      count: properties.count
      path: context.page.path
      agent: collector.user_agent
      network: collector.client_address
      ip: context.ip
  - name: people
    contract: people.odcs.yaml
    types: [identify]
    columns: {event_id: messageId, user: userId, mail: traits.email}
"""
CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: {name}
name: {name}
version: 1.0.0
status: active
schema:
  - name: {name}
    properties:
      - {{name: event_id, logicalType: string, primaryKey: true}}
      - {{name: user, logicalType: string, tags: ["pii:identifier"]}}
{more}
"""
CLICKS = """\
      - {name: event_time, logicalType: timestamp, required: true}
      - {name: received_at, logicalType: timestamp, required: true}
      - {name: source, logicalType: string, required: true}
      - {name: country, logicalType: string, logicalTypeOptions: {pattern: "^[A-Z]{2}$"}}
      - {name: count, logicalType: integer, logicalTypeOptions: {minimum: 1}}
      - {name: path, logicalType: string}
      - {name: agent, logicalType: string}
      - {name: network, logicalType: string}
      - {name: ip, logicalType: string}
"""
PEOPLE = '      - {name: mail, logicalType: string, tags: ["pii:email"]}'


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "collector.yaml").write_text(STREAMS)
    for name, more in (("clicks", CLICKS), ("people", PEOPLE)):
        (tmp_path / f"{name}.odcs.yaml").write_text(CONTRACT.format(name=name, more=more))
    return Config(
        host="127.0.0.1",
        port=0,
        streams=str(tmp_path / "collector.yaml"),
        feeds_dir=str(tmp_path / "feeds"),
        write_keys={"web": KEY, "backend": "backend-key"},
        pii_key=PII_KEY,
    )


@pytest.fixture
def client(config: Config) -> Iterator[TestClient]:
    """The application in this process; leaving it seals what it wrote."""
    with TestClient(build(config)) as served:
        yield served


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def written(config: Config) -> Callable[..., list[dict[str, Any]]]:
    """The records of a stream so far, sealed or not."""

    def read(stream: str = "clicks") -> list[dict[str, Any]]:
        files = sorted(Path(config.feeds_dir, stream).iterdir())
        return [json.loads(line) for path in files for line in path.read_bytes().splitlines()]

    return read


def click(number: int = 1, **others: Any) -> dict[str, Any]:
    return {
        "messageId": f"m{number}",
        "type": "track",
        "event": "Clicked",
        "userId": "ada",
        **others,
    }
