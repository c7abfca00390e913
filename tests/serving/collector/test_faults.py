"""kill -9 at any time: every event that was answered is in the lake, exactly once."""

import http.client
import json
import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from scale_assets.lake import Lake
from serving.collector.config import Config
from tests.serving.collector.server import example_config, running, take_in

NUM_SENDERS = 6
NUM_KILLS = 6


class Sender(threading.Thread):
    """Sends one event after the other, and each again until it is answered."""

    def __init__(self, name: str, port: int) -> None:
        super().__init__(name=name, daemon=True)
        self._port = port
        self._stopping = threading.Event()
        self.sent: list[str] = []
        self.answered: list[str] = []

    def run(self) -> None:
        while not self._stopping.is_set():
            event_id = f"{self.name}-{len(self.answered)}"
            self.sent.append(event_id)
            while not self._is_answered(event_id):
                if self._stopping.wait(0.02):
                    return
            self.answered.append(event_id)

    def stop(self) -> None:
        self._stopping.set()
        self.join()

    def _is_answered(self, event_id: str) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        event = {"messageId": event_id, "type": "page", "anonymousId": self.name}
        body = json.dumps({"writeKey": "web-key", "batch": [event]})
        try:
            connection.request("POST", "/v1/batch", body)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def run_until_killed(config: Config, folder: Path, seconds: float) -> None:
    with running(config, folder) as server:
        time.sleep(seconds)
        server.kill()


@pytest.mark.fault
def test_killed_under_load_it_loses_nothing_that_it_answered(tmp_path: Path) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    chance = random.Random(seed)
    config = example_config(tmp_path, seal_seconds=0.5)  # so that some kills meet a sealing
    lake = Lake(tmp_path / "lake")
    senders = [Sender(f"s{number}", config.port) for number in range(NUM_SENDERS)]
    for sender in senders:
        sender.start()
    for _ in range(NUM_KILLS):
        run_until_killed(config, tmp_path, chance.uniform(0, 1.5))
        take_in(lake, config)  # ingestion runs on meanwhile
    with running(config, tmp_path):
        time.sleep(0.5)
        for sender in senders:
            sender.stop()
    take_in(lake, config)

    stored = Counter(lake.read("raw/interactions", columns=["event_id"])["event_id"].to_pylist())
    answered = {event_id for sender in senders for event_id in sender.answered}
    sent = {event_id for sender in senders for event_id in sender.sent}
    assert len(answered) > 100
    assert answered - stored.keys() == set()
    assert {event_id: n for event_id, n in stored.items() if n > 1} == {}
    assert stored.keys() - sent == set()
    assert lake.num_rows("raw/interactions_quarantine") == 0
