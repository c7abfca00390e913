"""SDKs that know nothing of us, unchanged, send to the example's collector; rows in the lake."""

import base64
import hashlib
import hmac
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from segment.analytics.client import Client

from scale_assets.lake import Lake
from serving.collector.config import Config
from tests.serving.collector.server import example_config, running, take_in

NODE_SDK = "@segment/analytics-node@3.1.0"
NODE_PROGRAM = """
import { Analytics } from '@segment/analytics-node'
const [host, writeKey] = process.argv.slice(2)
const analytics = new Analytics({ host, writeKey, flushAt: 3 })
analytics.on('error', (error) => { console.error(error); process.exitCode = 1 })
analytics.identify({ userId: 'ada', traits: { email: 'ada@example.org' } })
for (let position = 1; position <= 5; position++) {
  analytics.track({
    userId: 'ada',
    event: 'Product Clicked',
    properties: { product_id: `lamp-${position}`, position },
  })
}
analytics.page({ userId: 'ada', name: 'Home' })
analytics.group({ userId: 'ada', groupId: 'staff' })
await analytics.closeAndFlush({ timeout: 20000 })
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return example_config(tmp_path)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def rows(lake: Lake) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = lake.read("raw/interactions").to_pylist()
    return found


def pseudonym(config: Config, value: str) -> str:
    assert config.pii_key is not None
    digest = hmac.new(config.pii_key.encode(), value.encode(), hashlib.sha256).digest()
    return f"1.{base64.urlsafe_b64encode(digest).decode().rstrip('=')}"


@pytest.fixture
def errors() -> Iterator[list[Any]]:
    """What the Python SDK gave up on."""
    found: list[Any] = []
    yield found
    assert found == []


@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "gzip"])
def test_the_python_sdk(
    tmp_path: Path, config: Config, lake: Lake, errors: list[Any], *, gzip: bool
) -> None:
    with running(config, tmp_path) as server:
        client = Client(
            "backend-key",
            host=server.url,
            gzip=gzip,
            on_error=lambda error, _: errors.append(error),
            upload_size=4,
        )
        client.identify("ada", {"email": "ada@example.org"})
        for position in range(1, 6):
            properties = {"product_id": "lamp", "position": position}
            client.track("ada", "Product Clicked", properties, anonymous_id="a1")
        client.track("ada", "Products Searched", {"query": "røde lamper 💡"})
        client.page("ada", "Shop", "Home", context={"page": {"path": "/"}, "ip": "198.51.100.7"})
        client.screen("ada", "App", "Home")
        client.alias("a1", "ada")
        client.group("ada", "staff")
        client.shutdown()
    report = take_in(lake, config)

    assert (report.num_accepted, report.num_quarantined) == (8, 0)
    found = rows(lake)
    assert {row["user_id"] for row in found} == {pseudonym(config, "ada")}
    assert {row["source"] for row in found} == {"backend"}
    assert {row["library"] for row in found} == {"analytics-python"}
    clicks = sorted(row["position"] for row in found if row["event"] == "Product Clicked")
    assert clicks == [1, 2, 3, 4, 5]
    (search,) = [row for row in found if row["event"] == "Products Searched"]
    assert search["query"] == "røde lamper 💡"
    (login,) = [row for row in found if row["type"] == "identify"]
    assert login["email"] == pseudonym(config, "ada@example.org")
    now = datetime.now(UTC)
    assert all(
        now - timedelta(minutes=2) < row["event_time"] <= row["received_at"] for row in found
    )


def test_no_raw_personal_value_is_on_any_disk(
    tmp_path: Path, config: Config, errors: list[Any]
) -> None:
    with running(config, tmp_path) as server:
        client = Client("web-key", host=server.url, on_error=lambda error, _: errors.append(error))
        client.identify("ada-lovelace", {"email": "ada@example.org"}, anonymous_id="anon-17")
        client.track(
            "ada-lovelace", "Product Clicked", {"position": "first", "email": "ada@example.org"}
        )
        client.shutdown()
    take_in(Lake(tmp_path / "lake"), config)

    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) > 3
    for path in written:
        data = path.read_bytes()
        for value in (b"ada-lovelace", b"ada@example.org", b"anon-17", b"127.0.0.1"):
            assert value not in data or path.name == "config.json", path


def test_what_breaks_the_contract_is_quarantined_with_its_reason(
    tmp_path: Path, config: Config, lake: Lake, errors: list[Any]
) -> None:
    with running(config, tmp_path) as server:
        client = Client("web-key", host=server.url, on_error=lambda error, _: errors.append(error))
        client.track("ada", "Product Clicked", {"position": 1})
        client.track("ada", "Product Clicked", {"position": "first"})
        client.shutdown()
    report = take_in(lake, config)

    assert (report.num_accepted, report.num_quarantined) == (1, 1)
    (refused,) = lake.read("raw/interactions_quarantine").to_pylist()
    assert (refused["rule"], refused["field"]) == ("wrong_type", "position")
    assert json.loads(refused["raw"])["position"] == "first"


def test_an_event_sent_twice_is_in_the_lake_once(
    tmp_path: Path, config: Config, lake: Lake, errors: list[Any]
) -> None:
    with running(config, tmp_path) as server:
        for _ in range(2):
            client = Client("web-key", host=server.url, on_error=lambda e, _: errors.append(e))
            client.track("ada", "Product Clicked", {"position": 1}, message_id="the-same")
            client.shutdown()
    report = take_in(lake, config)

    assert (report.num_received, report.num_accepted, report.num_duplicates) == (2, 1, 1)


def test_the_python_sdk_waits_as_it_is_told_and_loses_nothing(
    tmp_path: Path, lake: Lake, errors: list[Any]
) -> None:
    config = example_config(tmp_path, events_per_second=4)
    with running(config, tmp_path) as server:
        client = Client(
            "web-key",
            host=server.url,
            on_error=lambda error, _: errors.append(error),
            upload_size=4,
        )
        for position in range(1, 21):
            client.track("ada", "Product Clicked", {"position": position})
        client.shutdown()
        with urllib.request.urlopen(f"{server.url}/metrics") as answer:
            told_to_wait = 'kind="batch",status="429"' in answer.read().decode()
    take_in(lake, config)

    assert told_to_wait
    assert sorted(row["position"] for row in rows(lake)) == list(range(1, 21))


@pytest.mark.slow
def test_the_node_sdk(tmp_path: Path, config: Config, lake: Lake) -> None:
    folder = tmp_path / "node"
    install(folder, NODE_SDK)
    program = folder / "send.mjs"
    program.write_text(NODE_PROGRAM)
    with running(config, tmp_path) as server:
        sent = subprocess.run(
            ["node", str(program), server.url, "web-key"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert sent.returncode == 0, sent.stdout + sent.stderr
    report = take_in(lake, config)

    assert (report.num_accepted, report.num_quarantined) == (7, 0)
    clicks = [row for row in rows(lake) if row["event"] == "Product Clicked"]
    assert sorted(row["product_id"] for row in clicks) == [f"lamp-{n}" for n in range(1, 6)]
    assert {row["user_id"] for row in rows(lake)} == {pseudonym(config, "ada")}
    assert {row["library"] for row in clicks} == {"@segment/analytics-node"}


def install(folder: Path, *packages: str) -> None:
    """npm install into a folder of its own; skip where that cannot be had."""
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("Node.js is not installed")
    folder.mkdir()
    done = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *packages],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    if done.returncode:
        pytest.skip(f"npm cannot fetch {packages}: {done.stderr.strip()[-300:]}")
