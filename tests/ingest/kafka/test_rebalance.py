"""Consumers join and leave while events arrive: every event once, every key in order."""

import random
import subprocess
import sys
import time

import pytest

from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.follow import Pace
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import Lake
from tests.ingest.kafka.followers import end, start_follower
from tests.ingest.kafka.invariant import Sender, assert_exact
from tests.ingest.kafka.test_broker import address, make, real_feed

__all__ = ["address", "real_feed"]
PACE = Pace(commit_seconds=0.3, report_seconds=60)
MOST = 3


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "rounds",
    [pytest.param(6, marks=pytest.mark.fault), pytest.param(50, marks=pytest.mark.slow)],
)
def test_followers_join_leave_and_die(
    lake: Lake, real_feed: EventFeed, address: str, topic: str, rounds: int
) -> None:
    make(address, topic, 6)
    chance = random.Random(rounds)
    sender = Sender(address, topic, total=10_000_000, per_second=500)
    sender.start()
    followers: list[subprocess.Popen[bytes]] = []
    try:
        for _ in range(rounds):
            if len(followers) < 2 or (len(followers) < MOST and chance.random() < 0.5):
                followers.append(start_follower(lake, real_feed, PACE))
            else:
                leaving = followers.pop(chance.randrange(len(followers)))
                end(leaving, hard=chance.random() < 0.5)
            time.sleep(chance.uniform(2, 6))
    finally:
        sender.stop.set()
        sender.join()
        for each in followers:
            end(each)
    assert sender.failed == []
    ingest(lake, real_feed)

    assert sender.acknowledged > 500
    assert_exact(lake, real_feed, sent=sender.acknowledged)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("run", range(20))
def test_a_follower_that_starts_on_a_busy_machine_skips_nothing(
    lake: Lake, real_feed: EventFeed, address: str, topic: str, run: int
) -> None:
    """Four of fourteen runs lost a batch while assignments named logical offsets."""
    make(address, topic, 6)
    sender = Sender(address, topic, total=10_000_000, per_second=800)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(3)]
    try:
        sender.start()
        follower = start_follower(lake, real_feed, PACE)
        time.sleep(14)
        sender.stop.set()
        sender.join()
        end(follower)
    finally:
        for each in busy:
            each.kill()
            each.wait()
    ingest(lake, real_feed)

    assert_exact(lake, real_feed, sent=sender.acknowledged)
