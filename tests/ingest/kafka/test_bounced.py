"""The broker is killed and restarted under load: what was acknowledged is in the lake, once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.follow import Pace
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.kafka.cluster import Cluster
from scale_assets.ingest.kafka.source import KafkaSource
from scale_assets.lake import Lake
from scale_assets.servers.kafka import Kafka
from scale_assets.servers.server import Server
from tests.ingest.kafka.followers import end, start_follower
from tests.ingest.kafka.invariant import Sender, assert_exact
from tests.ingest.kafka.test_broker import make
from tests.servers.fixtures import started

TOTAL = 100_000


@pytest.fixture
def own_broker(tmp_path: Path, jars_dir: Path) -> Iterator[Server]:
    """A broker that nobody else uses, so that it can be killed."""
    with started(Kafka(tmp_path / "kafka", jars_dir=jars_dir, any_port=True)) as server:
        yield server


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "runs", [pytest.param(1, marks=pytest.mark.fault), pytest.param(10, marks=pytest.mark.slow)]
)
def test_hard_and_clean_restarts(
    lake: Lake, feed: EventFeed, own_broker: Server, runs: int
) -> None:
    address = own_broker.start().address
    for run in range(runs):
        topic = f"views-{run}"
        make(address, topic, 3)
        source = KafkaSource(cluster=Cluster(address), topic=topic)
        followed = replace(feed, source=source, table=f"raw/{topic}", quarantine_table=f"q/{topic}")
        sender = Sender(address, topic, total=TOTAL, per_second=8000)
        follower = start_follower(lake, followed, Pace(commit_seconds=0.5))
        sender.start()
        for hard, at in ((True, TOTAL // 4), (False, TOTAL // 2)):
            sender.wait_until_acknowledged(at)
            own_broker.stop(hard=hard)
            own_broker.start()
        sender.join()
        end(follower)
        ingest(lake, followed)

        assert (sender.failed, sender.acknowledged) == ([], TOTAL)
        assert_exact(lake, followed, sent=TOTAL)
