"""What was served is logged as the graph got it, for a fixed sample, and never at a request's cost."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.testclient import TestClient

from scale_assets.features.codec import to_micros
from scale_assets.features.reader import OnlineReader
from serving.app import create_app
from serving.features import Lookup
from serving.release import Manifest
from serving.vector_files import VectorFiles
from serving.vector_sample import VectorSample
from serving.vectors import VectorLog, is_sampled
from tests.serving.conftest import ACTIVITY, NOW
from tests.serving.test_process import command, port_of

MANIFEST = Manifest(
    format=1,
    model="churn",
    version="1",
    kind="tabular",
    candidate="network",
    feature_service="churn_v1",
    views={},
    fallback=["fresh"],
)


def logged(folder: Path) -> list[dict[str, Any]]:
    """Every whole line of the log, in order."""
    files = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "vectors"


@pytest.fixture
def client(releases_dir: Path, online_store: Path, folder: Path) -> Iterator[TestClient]:
    sample = VectorSample(folder=folder, rate=1, max_mib=1, max_days=1)
    reader = OnlineReader(online_store)
    app = create_app(releases_dir=releases_dir, online_store=reader, sample=sample)
    with TestClient(app) as served:
        yield served


def test_a_line_says_what_the_graph_was_fed_and_when(client: TestClient, folder: Path) -> None:
    before = time.time()
    client.post("/v1/predict/withdrawal", json={"registration_id": "ada"})
    client.__exit__()

    (line,) = logged(folder)
    assert before <= line.pop("served_at_us") / 1e6 <= time.time()
    assert line == {
        "model": "withdrawal",
        "version": "1",
        "feature_service": "withdrawal_v1",
        "views": {
            "activity": {
                "key": "ada",
                "state": "found",
                "as_of_us": to_micros(NOW),
                "feature_time_us": to_micros(NOW),
                "known_at_us": to_micros(NOW),
                "schema": f"{ACTIVITY.schema:016x}",
            }
        },
        "values": {"float32": {"clicks_7d": 2.0}, "string": {"module_id": "FFF"}},
    }


def test_what_was_not_there_is_null_and_says_why(client: TestClient, folder: Path) -> None:
    for key in ("bob", "eve"):
        client.post("/v1/predict/withdrawal", json={"registration_id": key})
    client.__exit__()

    bob, eve = logged(folder)
    assert (bob["views"]["activity"]["state"], eve["views"]["activity"]["state"]) == (
        "expired",
        "absent",
    )
    nothing = {"float32": {"clicks_7d": None}, "string": {"module_id": ""}}
    assert bob["values"] == eve["values"] == nothing


def test_histories_are_logged_whole(client: TestClient, folder: Path) -> None:
    client.post("/v1/recommend", json={"registration_id": "ada"})
    client.__exit__()

    (line,) = logged(folder)
    assert {name: view["key"] for name, view in line["views"].items()} == {
        "registration_history": "ada",
        "presentation_sites": "FFF-2013B",
    }
    assert line["values"] == {
        "int64": {"history_site_ids": [11, 12], "candidate_site_ids": [11, 12, 13, 14]}
    }


def test_without_a_history_the_line_says_that_there_was_none(
    client: TestClient, folder: Path
) -> None:
    asked = {"registration_id": "eve", "presentation_id": "FFF-2013B"}
    client.post("/v1/recommend", json=asked)
    client.__exit__()

    (line,) = logged(folder)
    assert line["views"]["registration_history"]["state"] == "absent"
    assert line["values"] == {"none": {"history_site_ids": None}}


def test_the_counter_tells_of_every_vector_in_the_sample(client: TestClient) -> None:
    client.post("/v1/predict/withdrawal", json={"registration_id": "ada"})
    client.__exit__()

    assert 'scale_vectors_total{outcome="logged"} 1.0' in client.get("/metrics").text


@given(key=st.text(), low=st.floats(0, 1), high=st.floats(0, 1))
def test_a_larger_sample_has_the_smaller_one_in_it(key: str, low: float, high: float) -> None:
    low, high = sorted((low, high))

    assert is_sampled(key, high) or not is_sampled(key, low)
    assert is_sampled(key, 1)
    assert not is_sampled(key, 0)


def test_the_sample_has_its_share_and_is_the_same_in_every_process() -> None:
    program = (
        "from serving.vectors import is_sampled\n"
        "print(*[n for n in range(5000) if is_sampled(f'user-{n}', 0.1)])"
    )
    samples = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    (sample,) = samples
    assert 400 < len(sample.split()) < 600


class StuckFiles(VectorFiles):
    """A disk that takes nothing until it is let go."""

    def __init__(self) -> None:
        self.is_free = threading.Event()
        self.lines: list[bytes] = []

    def append(self, lines: bytes) -> None:
        self.is_free.wait(timeout=30)
        self.lines.append(lines)

    def close(self) -> None:
        pass


class FullDisk(StuckFiles):
    def append(self, lines: bytes) -> None:  # noqa: ARG002
        raise OSError(28, "No space left on device")


def lookup(key: str) -> Lookup:
    return Lookup(key, {}, "default", None, {"activity": None}, to_micros(NOW), True)


def offer(log: VectorLog, number: int) -> None:
    for at in range(number):
        log.offer(f"user-{at}", MANIFEST, [lookup(f"user-{at}")], {"numeric": np.ones((1, 0))})


def test_a_disk_that_is_stuck_costs_vectors_and_no_time() -> None:
    outcomes: list[str] = []
    files = StuckFiles()
    log = VectorLog(files, rate=1, count=outcomes.append, max_waiting=3)

    started = time.perf_counter()
    offer(log, 100)
    seconds = time.perf_counter() - started
    files.is_free.set()
    log.close()

    assert seconds < 1
    assert outcomes.count("dropped") >= 100 - 3 - 3  # the queue, and a batch that was taken before
    assert outcomes.count("dropped") + outcomes.count("logged") == 100
    assert sum(lines.count(b"\n") for lines in files.lines) == outcomes.count("logged")


def test_a_full_disk_is_counted_and_said(caplog: pytest.LogCaptureFixture) -> None:
    outcomes: list[str] = []
    log = VectorLog(FullDisk(), rate=1, count=outcomes.append)

    offer(log, 5)
    log.close()

    assert outcomes == ["failed"] * 5
    assert "No space left on device" in caplog.text


def test_nothing_is_logged_before_a_replayed_world_has_a_time(folder: Path) -> None:
    outcomes: list[str] = []
    files = VectorFiles(folder, max_bytes=1000, max_age=timedelta(days=1))
    log = VectorLog(files, rate=1, count=outcomes.append)

    log.offer("ada", MANIFEST, [Lookup("ada", {}, "default", None, {}, -1, True)], {})
    log.close()

    assert outcomes == []


@pytest.fixture
def asked_server(
    releases_dir: Path, online_store: Path, folder: Path
) -> Iterator[subprocess.Popen[str]]:
    """A server process that has answered 20 times."""
    options = ["--vectors", str(folder), "--sample-vectors", "1"]
    process = subprocess.Popen(
        [*command(releases_dir, online_store, port=0), *options], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = f"http://127.0.0.1:{port_of([process.stdout.readline() for _ in range(4)])}"
    for _ in range(20):
        request = urllib.request.Request(
            f"{url}/v1/predict/withdrawal",
            data=b'{"registration_id": "ada"}',
            headers={"content-type": "application/json"},
        )
        urllib.request.urlopen(request, timeout=10).close()
    yield process
    process.kill()
    process.communicate(timeout=30)


def test_a_server_that_is_killed_leaves_whole_lines(
    asked_server: subprocess.Popen[str], folder: Path
) -> None:
    deadline = time.monotonic() + 10
    while not logged(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    asked_server.send_signal(signal.SIGKILL)
    asked_server.wait(timeout=30)

    assert {line["model"] for line in logged(folder)} == {"withdrawal"}


def test_a_server_that_is_stopped_has_written_every_line(
    asked_server: subprocess.Popen[str], folder: Path
) -> None:
    asked_server.terminate()
    asked_server.wait(timeout=30)

    assert len(logged(folder)) == 20


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--sample-vectors", "2"], "2 is not a share from 0 to 1"),
        (["--vectors-mib", "0"], "0 is not greater than 0"),
        (["--vectors", "/dev/null/vectors"], "give another folder"),
    ],
)
def test_what_cannot_be_logged_is_said_at_the_start(
    releases_dir: Path, online_store: Path, options: list[str], says: str
) -> None:
    done = subprocess.run(
        [*command(releases_dir, online_store, port=0), *options],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode != 0
    assert says in done.stderr
