"""Requests per second of the collector, against the same handler on FastAPI with uvicorn.

python -m benchmarks.collector [--quick] [--json]

One core for each server, another for the load (wrk); a server that is not measured is idle. All
answer 200 only when the event is synced to the disk, and what they wrote is counted afterwards.
"""

import argparse
import json
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from benchmarks.measure import Comparison, machine, scratch_folder
from serving.collector.config import Config

STREAMS = Path(__file__).resolve().parents[1] / "examples" / "collector" / "collector.yaml"
NUM_CONNECTIONS = 32
WARM_UP_S = 1
START_TIMEOUT_S = 60
PEER = [sys.executable, "-m", "benchmarks.collector_peer", "--durability"]
COMMANDS = {
    "ours": [sys.executable, "-m", "serving.collector"],
    "FastAPI, a sync per request": [*PEER, "request"],
    "FastAPI, a sync per request in a thread": [*PEER, "thread"],
    "FastAPI with our group commit": [*PEER, "group"],
}
GOALS = {
    "FastAPI, a sync per request": 2.5,
    "FastAPI, a sync per request in a thread": 2.5,
    "FastAPI with our group commit": None,  # how much of it is the server
}
MESSAGE = {
    "messageId": "ajs-next-1767225600000-5d1e4a0c",
    "timestamp": "2026-01-01T00:00:00.000Z",
    "sentAt": "2026-01-01T00:00:00.250Z",
    "type": "track",
    "event": "Product Clicked",
    "anonymousId": "2f6c9a52-5d1e-4a0c-9d3c-4f43e5b1a4b1",
    "userId": "customer-1",
    "properties": {"product_id": "desk-lamp", "position": 3, "query": "lamp"},
    "context": {
        "page": {"path": "/search", "title": "Search", "url": "https://shop.example/search"},
        "userAgent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/150.0 Safari/537.36",
        "locale": "en-GB",
        "library": {"name": "analytics.js", "version": "npm:next-1.84.3"},
    },
    "integrations": {},
    "writeKey": "web-key",
}
WRK_SCRIPT = """\
wrk.method = "POST"
wrk.headers["Content-Type"] = "text/plain"
wrk.headers["Authorization"] = "Basic d2ViLWtleTo="
wrk.body = [[%s]]
"""


@dataclass
class Contender:
    """A server that listens, and what it did so far."""

    name: str
    url: str
    folder: Path
    rates: list[float] = field(default_factory=list)
    num_answered: int = 0


def main() -> None:
    """Print one line per comparison."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="Three rounds of a second each.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rounds, seconds = (3, 1) if options.quick else (5, 4)
    results = compare(rounds=rounds, seconds=seconds)
    if options.json:
        print(json.dumps(machine()))
    for each in results:
        print(each.as_json() if options.json else each.as_text())


def compare(*, rounds: int, seconds: int) -> list[Comparison]:
    """Medians of ``rounds`` interleaved rounds."""
    server_core, load_core = sorted(os.sched_getaffinity(0))[:2]
    with scratch_folder() as folder:
        script = folder / "post.lua"
        script.write_text(WRK_SCRIPT % json.dumps(MESSAGE))
        with ExitStack() as stack:
            contenders = [
                stack.enter_context(running(name, folder, server_core)) for name in COMMANDS
            ]
            for each in contenders:
                load(each, script, WARM_UP_S, load_core)
                each.rates.clear()
            for _ in range(rounds):
                for each in contenders:
                    load(each, script, seconds, load_core)
        for each in contenders:
            check_kept(each)
    ours, *peers = contenders
    return [comparison(ours, peer) for peer in peers]


@contextmanager
def running(name: str, root: Path, core: int) -> Iterator[Contender]:
    """The contender's server on its core, until the end."""
    folder = root / re.sub(r"\W+", "-", name)
    folder.mkdir()
    config = Config(
        host="127.0.0.1",
        port=_free_port(),
        streams=str(STREAMS),
        feeds_dir=str(folder),
        write_keys={"web": "web-key"},
        pii_key="0123456789abcdef0123456789abcdef",
        events_per_second=1e9,
    )
    (folder / "config.json").write_bytes(msgspec.json.encode(config))
    command = [*COMMANDS[name], "--config", str(folder / "config.json")]
    process = subprocess.Popen(["taskset", "-c", str(core), *command])
    contender = Contender(name, f"http://127.0.0.1:{config.port}", folder / "interactions")
    try:
        _wait_until_up(contender, process)
        yield contender
    finally:
        process.terminate()
        process.wait(timeout=60)


def load(contender: Contender, script: Path, seconds: int, core: int) -> None:
    """As many requests as it answers; anything but a 200 ends the benchmark."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed; apt-get install wrk")
    command: Sequence[str] = [
        *("taskset", "-c", str(core), "wrk", "--threads", "1"),
        *("--connections", str(NUM_CONNECTIONS), "--duration", f"{seconds}s"),
        *("--timeout", "30s", "--script", str(script), f"{contender.url}/v1/track"),
    ]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"{contender.name}: {said}")
    contender.num_answered += int(re.findall(r"(\d+) requests in", said)[0])
    contender.rates.append(float(re.findall(r"Requests/sec: +([\d.]+)", said)[0]))


def check_kept(contender: Contender) -> None:
    """Every request that was answered is a line of a sealed file."""
    files = list(contender.folder.glob("[!.]*.jsonl"))
    num_lines = sum(path.read_bytes().count(b"\n") for path in files)
    if num_lines < contender.num_answered:
        raise SystemExit(f"{contender.name} answered {contender.num_answered} and kept {num_lines}")


def comparison(ours: Contender, peer: Contender) -> Comparison:
    rate, peer_rate = statistics.median(ours.rates), statistics.median(peer.rates)
    goal = GOALS[peer.name]
    return Comparison(
        name=f"collector, {NUM_CONNECTIONS} connections",
        ours=rate,
        unit="requests/s",
        peer=peer.name,
        peer_value=peer_rate,
        goal="none" if goal is None else f"at least {goal}",
        ok=goal is None or rate / peer_rate >= goal,
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_until_up(contender: Contender, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            urllib.request.urlopen(f"{contender.url}/healthz", timeout=1).close()
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            time.sleep(0.1)
        else:
            return
    raise SystemExit(f"{contender.name} did not start")


if __name__ == "__main__":
    main()
