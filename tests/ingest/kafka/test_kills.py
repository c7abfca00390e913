"""kill -9 at every point of a batch, at random, and two writers: the rows are the same."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from scale_assets.ingest.account import account
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.follow import Pace
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import Lake
from tests.ingest.conftest import in_batches_of, rows
from tests.ingest.kafka.followers import ROOT, end, start_follower, wait_until_loaded
from tests.ingest.kafka.mock import send, values

ONCE = """
import pickle, sys
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import Lake
root, feed = pickle.loads(sys.stdin.buffer.read())
ingest(Lake(root), feed)
"""
POINTS = ("before_write", "after_parquet", "after_quarantine", "after_commit", "before_acknowledge")


def killed_at(lake: Lake, feed: EventFeed, point: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ONCE],
        cwd=ROOT,
        input=pickle.dumps((lake.root, feed)),
        env={**os.environ, "SCALE_FAULT": point},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


def assert_all_once(lake: Lake, feed: EventFeed, *, total: int, refused: int) -> None:
    found = [row["event_id"] for row in rows(lake, feed.table)]
    assert (len(found), len(set(found))) == (total, total)
    assert lake.num_rows(feed.quarantine_table) == refused
    assert account(lake, feed).is_exact
    assert account(lake, feed).received == total + refused


@pytest.mark.fault
@pytest.mark.parametrize("occurrence", [1, 2])
@pytest.mark.parametrize("point", POINTS)
def test_killed_at_a_point_and_run_again(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str, point: str, occurrence: int
) -> None:
    for partition in range(3):
        numbers = range(partition * 50, partition * 50 + 50)
        send(broker, topic, [*values(numbers), b"broken"], partition=partition)
    feed = in_batches_of(kafka_feed, 5000)

    killed_at(lake, feed, f"{point}:{occurrence}")
    send(broker, topic, values(range(150, 160)))
    ingest(lake, feed)

    assert_all_once(lake, feed, total=160, refused=3)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kills", "seed"),
    [
        pytest.param(5, 0, marks=pytest.mark.fault),
        *(pytest.param(50, seed, marks=pytest.mark.slow) for seed in range(1, 7)),
    ],
)
def test_a_follower_killed_at_random_loses_and_doubles_nothing(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str, kills: int, seed: int
) -> None:
    chance = random.Random(seed)
    total = 0
    for _ in range(kills):
        follower = start_follower(lake, kafka_feed, Pace(commit_seconds=0.05))
        wait_until_loaded(follower)
        until = time.monotonic() + chance.uniform(0.1, 2)
        while time.monotonic() < until:
            send(broker, topic, values(range(total, total + 20)), partition=total % 3)
            total += 20
            time.sleep(0.02)
        end(follower, hard=True)
    ingest(lake, kafka_feed)

    assert_all_once(lake, kafka_feed, total=total, refused=0)


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "rounds",
    [3, pytest.param(20, marks=pytest.mark.fault), pytest.param(100, marks=pytest.mark.slow)],
)
def test_writers_at_once_take_every_record_once(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str, rounds: int
) -> None:
    total = 0
    for number in range(rounds):
        batch = [*values(range(total, total + 9)), b"broken"]
        send(broker, topic, batch, partition=number % 4)
        total += 9
        with ThreadPoolExecutor(2) as pool:
            reports = list(pool.map(lambda _: ingest(lake, kafka_feed), range(2)))
        assert sum(report.num_received for report in reports) == 10
    assert_all_once(lake, kafka_feed, total=total, refused=rounds)
