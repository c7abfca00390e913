"""One program of benchmarks/kafka.py: drains a topic, follows one, or fills one at a steady rate.

python -m benchmarks.kafka_peers bare|ours|follow|send ADDRESS TOPIC NUM_EVENTS [FOLDER|PER_SECOND]:
a process of its own, so that its imports and its lock are nobody else's. Prints the seconds.
"""

import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

from confluent_kafka import Consumer, Producer

from benchmarks.ingest import click
from benchmarks.ingest_peers import clicks_feed
from scale_assets.ingest.account import IngestReport, account
from scale_assets.ingest.follow import Follower, Pace
from scale_assets.ingest.kafka.cluster import Cluster
from scale_assets.ingest.kafka.source import KafkaSource
from scale_assets.lake import Lake

TICK_SECONDS = 0.05


def bare(address: str, topic: str, num_events: int) -> None:
    """The client alone: every message into the process, and away."""
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "bare",
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
        }
    )
    consumer.subscribe([topic])
    received = 0
    while received < num_events:
        received += sum(each.error() is None for each in consumer.consume(5000, timeout=1))
    consumer.close()


def ours(address: str, topic: str, num_events: int, folder: Path) -> None:
    """What `scale ingest --follow` runs, until the lake has all of them."""
    stop = Event()
    received = 0

    def tell(report: IngestReport) -> None:
        nonlocal received
        received += report.num_received
        if received >= num_events:
            stop.set()

    follow(address, topic, folder, stop=stop, tell=tell, pace=Pace(report_seconds=0))


def follow(
    address: str,
    topic: str,
    folder: Path,
    *,
    stop: Event,
    tell: Callable[[IngestReport], None],
    pace: Pace,
) -> None:
    source = KafkaSource(cluster=Cluster(address), topic=topic)
    feed = clicks_feed(source)
    lake = Lake(str(folder))
    Follower(lake, feed, stop=stop, tell=tell, pace=pace).run()
    assert account(lake, feed).is_exact


def follow_until_told(address: str, topic: str, folder: Path) -> None:
    """`scale ingest --follow` with its own pace, until SIGTERM."""
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    follow(address, topic, folder, stop=stop, tell=lambda _report: None, pace=Pace())


def send(address: str, topic: str, num_events: int, per_second: float) -> None:
    """Events at a steady rate, in ticks; without one (0), as fast as they go."""
    producer = Producer({"bootstrap.servers": address, "linger.ms": 5, "acks": "all"})
    started = time.monotonic()
    for number in range(num_events):
        ahead = number / per_second - (time.monotonic() - started) if per_second else 0.0
        if ahead > TICK_SECONDS:
            producer.poll(0)
            time.sleep(TICK_SECONDS)
        event = json.dumps(click(number))
        while True:
            try:
                producer.produce(topic, event, key=str(number % 1000))
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def main() -> None:
    name, address, topic, num_events, *rest = sys.argv[1:]
    started = time.perf_counter()
    if name == "bare":
        bare(address, topic, int(num_events))
    elif name == "ours":
        ours(address, topic, int(num_events), Path(rest[0]))
    elif name == "follow":
        follow_until_told(address, topic, Path(rest[0]))
    else:
        send(address, topic, int(num_events), float(rest[0]))
    print(time.perf_counter() - started)


if __name__ == "__main__":
    main()
