"""Events that are numbered by key, and what must hold of them once they are in the lake."""

import json
import threading
import time
from collections import Counter
from typing import Any

from confluent_kafka import Producer

from scale_assets.ingest.account import account
from scale_assets.ingest.events import EventFeed
from scale_assets.lake import Lake

NUM_KEYS = 50


class Sender(threading.Thread):
    """Sends numbered events, each key's in order, until all are out or it is told to stop."""

    def __init__(self, address: str, topic: str, *, total: int, per_second: float) -> None:
        super().__init__()
        self.topic, self.total, self.per_second = topic, total, per_second
        self.stop = threading.Event()
        self.acknowledged = 0
        self.failed: list[Any] = []
        self._producer = Producer(
            {
                "bootstrap.servers": address,
                "enable.idempotence": True,  # in order and once, through any restart of the broker
                "linger.ms": 20,
                "log_level": 0,
            }
        )

    def run(self) -> None:
        pause = 100 / self.per_second
        for number in range(self.total):
            if self.stop.is_set():
                break
            while not self._send(number):
                self._producer.poll(0.1)
            if number % 100 == 0:
                self._producer.poll(0)
                self.stop.wait(pause)
        if self._producer.flush(150):
            self.failed.append("not all was acknowledged")

    def wait_until_acknowledged(self, number: int) -> None:
        deadline = time.monotonic() + 300
        while self.acknowledged < number and not self.failed:
            assert time.monotonic() < deadline, self.acknowledged
            time.sleep(0.1)

    def _send(self, number: int) -> bool:
        key = f"k{number % NUM_KEYS}"
        value = {
            "event_id": f"{key}-{number // NUM_KEYS}",
            "event_time": f"2013-01-{1 + number % 28:02}T00:00:00Z",
            "num_clicks": 1 + number // NUM_KEYS,
        }
        try:
            self._producer.produce(
                self.topic, json.dumps(value).encode(), key.encode(), on_delivery=self._delivered
            )
        except BufferError:
            return False
        return True

    def _delivered(self, error: Any, _: Any) -> None:
        if error is None:
            self.acknowledged += 1
        else:
            self.failed.append(error)


def assert_exact(lake: Lake, feed: EventFeed, *, sent: int) -> None:
    """sent = count = distinct count, every key in order, and the account adds up."""
    columns = ["event_id", "num_clicks", "_key", "_source_file", "_position"]
    table = lake.read(feed.table, columns=columns).sort_by(
        [("_source_file", "ascending"), ("_position", "ascending")]
    )
    ids = table["event_id"].to_pylist()
    doubles = [each for each, count in Counter(ids).items() if count > 1]
    held: dict[str, set[int]] = {}
    for place, at in zip(
        table["_source_file"].to_pylist(), table["_position"].to_pylist(), strict=True
    ):
        held.setdefault(place, set()).add(at)
    gaps = {place: sorted(set(range(max(at) + 1)) - at)[:5] for place, at in held.items()}
    assert not any(gaps.values()), gaps
    found = (len(ids), len(set(ids)), doubles[:3])
    assert found == (sent, sent, []), (found, sent, account(lake, feed))
    last: dict[bytes, int] = {}
    for key, number in zip(table["_key"].to_pylist(), table["num_clicks"].to_pylist(), strict=True):
        assert number > last.get(key, 0), key
        last[key] = number
    totals = account(lake, feed)
    assert totals.is_exact
    assert totals.received == sent
