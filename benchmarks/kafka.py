"""A topic into the lake with a follower, against a bare consumer; and its lag at a steady rate.

python -m benchmarks.kafka [--quick] [--json]: starts a broker of its own, as `scale up kafka` does.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from benchmarks.measure import Comparison, machine, scratch_folder
from scale_assets.servers.kafka import Kafka
from scale_assets.settings import load_settings

GOAL = 0.4
NUM_EVENTS = 1_000_000
NUM_PARTITIONS = 4
PER_SECOND = 20_000
STEADY_SECONDS = 60
LAG_GOAL_SECONDS = 5.0


def main() -> None:
    """Print one line per comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="A fifth of it, three rounds.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    share = 5 if options.quick else 1
    if options.json:
        print(json.dumps(machine()))
    with scratch_folder() as scratch, _broker(scratch) as address:
        folder = scratch / "lake"
        for each in results(address, folder, share, rounds=3 if options.quick else 5):
            print(each.as_json() if options.json else each.as_text(), flush=True)


def results(address: str, folder: Path, share: int, *, rounds: int) -> Iterator[Comparison]:
    """Each as soon as it is known."""
    yield rate(address, folder, NUM_EVENTS // share, rounds=rounds)
    yield from lag(address, folder, seconds=STEADY_SECONDS // share)


def rate(address: str, folder: Path, num_events: int, *, rounds: int) -> Comparison:
    """Events per second of draining one topic, medians of interleaved rounds."""
    _make(address, "drained")
    _run("send", address, "drained", num_events, 0)
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        seconds["bare"].append(_run("bare", address, "drained", num_events))
        seconds["ours"].append(_run("ours", address, "drained", num_events, folder))
        shutil.rmtree(folder)
    events = {name: num_events / statistics.median(times) for name, times in seconds.items()}
    return Comparison(
        "topic to lake, following",
        events["ours"],
        "events/s",
        "a bare consumer",
        events["bare"],
        f"at least {GOAL}",
        events["ours"] >= GOAL * events["bare"],
    )


def lag(address: str, folder: Path, *, seconds: int) -> Iterator[Comparison]:
    """From the producer's stamp of an event to the commit that holds it."""
    _make(address, "steady")
    num_events = PER_SECOND * seconds
    with _follower(address, "steady", folder):
        took = _run("send", address, "steady", num_events, PER_SECOND)
        time.sleep(10)
    lags = np.concatenate(list(_lags(folder / "raw" / "clicks")))
    if len(lags) != num_events:
        raise RuntimeError(f"{num_events} events were sent, {len(lags)} are in the lake")
    sent = num_events / took
    for name, value in (("largest", lags.max()), ("median", np.median(lags))):
        yield Comparison(
            f"{name} lag at {sent:,.0f} events/s",
            float(value),
            "s",
            "the goal",
            LAG_GOAL_SECONDS,
            "below 1",
            bool(value < LAG_GOAL_SECONDS and sent >= 0.98 * PER_SECOND),
        )


@contextmanager
def _follower(address: str, topic: str, folder: Path) -> Iterator[None]:
    """One that is told to end with the block, whatever happens in it."""
    command = _command("follow", address, topic, 0, folder)
    follower = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        time.sleep(10)  # its imports, and the group's first sharing out
        yield
    finally:
        follower.terminate()
        follower.wait(60)
    if follower.returncode:
        raise RuntimeError(f"the follower ended with {follower.returncode}")


def _lags(table: Path) -> Iterator["np.ndarray"]:
    """Seconds that each event of each commit waited, from the table's log and files."""
    for log in sorted((table / "_delta_log").glob("*.json")):
        actions = [json.loads(line) for line in log.read_text().splitlines()]
        (committed,) = (each["commitInfo"]["timestamp"] for each in actions if "commitInfo" in each)
        for path in (unquote(each["add"]["path"]) for each in actions if "add" in each):
            stamps = pq.ParquetFile(table / path).read(["_timestamp"])["_timestamp"]
            sent_ms = stamps.cast(pa.timestamp("ms", tz="UTC")).cast("int64").to_numpy()
            yield (committed - sent_ms) / 1000


@contextmanager
def _broker(folder: Path) -> Iterator[str]:
    """A broker on a free port; its jars are kept with the other servers'."""
    jars_dir = load_settings().servers_dir / "jars"
    server = Kafka(folder.resolve() / "kafka", jars_dir=jars_dir, any_port=True)
    try:
        yield server.start().address
    finally:
        server.stop(hard=True)


def _make(address: str, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": address})
    wanted = NewTopic(topic, num_partitions=NUM_PARTITIONS, replication_factor=1)
    admin.create_topics([wanted])[topic].result(30)


def _command(*arguments: object) -> list[str]:
    program = [sys.executable, "-W", "ignore", "-m", "benchmarks.kafka_peers"]
    return [*program, *map(str, arguments)]


def _run(*arguments: object) -> float:
    """One program to its end; the seconds that it took without its imports."""
    done = subprocess.run(_command(*arguments), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{arguments} ended with {done.returncode}: {done.stderr[-2000:]}")
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
