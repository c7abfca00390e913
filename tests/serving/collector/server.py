"""A collector in a process of its own, on a free port, and the lake that its files end up in."""

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from scale_assets.ingest.account import IngestReport, account
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.file_source import FilesSource
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import Lake
from serving.collector.config import Config

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "collector"
CONTRACT = EXAMPLE / "shop" / "defs" / "interactions" / "interactions.odcs.yaml"
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def example_config(folder: Path, **changes: Any) -> Config:
    """The example's declaration, writing under ``folder``."""
    values: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": free_port(),
        "streams": str(EXAMPLE / "collector.yaml"),
        "feeds_dir": str(folder / "feeds"),
        "write_keys": {"web": "web-key", "backend": "backend-key"},
        "pii_key": "0123456789abcdef0123456789abcdef",
    }
    return Config(**values | changes)


@dataclass(frozen=True)
class Server:
    """A collector that listens."""

    url: str
    process: subprocess.Popen[bytes]

    def stop(self) -> int:
        """SIGTERM, and the code that it ends with."""
        self.process.terminate()
        return self.process.wait(timeout=STOP_TIMEOUT_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(timeout=STOP_TIMEOUT_S)


@contextmanager
def running(config: Config, folder: Path) -> Iterator[Server]:
    """Start it, wait until it answers, and stop it at the end whatever happens."""
    path = folder / "config.json"
    path.write_bytes(msgspec.json.encode(config))
    command = [sys.executable, "-m", "serving.collector", "--config", str(path)]
    server = Server(f"http://127.0.0.1:{config.port}", subprocess.Popen(command))
    try:
        wait_until_up(server)
        yield server
    finally:
        if server.process.poll() is None:
            server.stop()


def wait_until_up(server: Server) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        assert server.process.poll() is None, f"ended with {server.process.returncode}"
        try:
            urllib.request.urlopen(f"{server.url}/healthz", timeout=1).close()
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"{server.url} did not answer within {START_TIMEOUT_S} s")


def interactions(config: Config) -> EventFeed:
    """The example's stream, as its defs.yaml declares it."""
    return EventFeed(
        name="interactions",
        source=FilesSource(Path(config.feeds_dir) / "interactions"),
        contract_path=CONTRACT,
        table="raw/interactions",
        quarantine_table="raw/interactions_quarantine",
        key=("event_id",),
        event_time="event_time",
        start=date(2026, 1, 1),
        end=datetime.now(UTC).date() + timedelta(days=2),
        dedup_horizon_days=7,
    )


def take_in(lake: Lake, config: Config) -> IngestReport:
    """Ingest what is sealed, and hold the account to be exact."""
    feed = interactions(config)
    report = ingest(lake, feed)
    report.raise_if_broken()
    assert account(lake, feed).is_exact
    return report
