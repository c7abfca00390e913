"""Features over a stream: events counted into Redis, and how soon an event is seen there.

The reference pipeline's clicks and its view ``registration_clicks``. Rate: commits of 20,000 events of
20,000 registrations are counted one after the other; events by seconds of CPU of our process. Freshness:
half as many events a second as the goal of the rate arrive as files; a follower takes them in and the view is kept up
beside it, all in one process; each file holds a registration of its own, and what counts is when that can be read.
"""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from benchmarks.features_online import redis_server
from benchmarks.ingest import click
from benchmarks.ingest_peers import clicks_feed
from benchmarks.measure import Comparison, scratch_folder
from scale_assets.features.repo import read_repo
from scale_assets.features.stores import Backend, open_backend
from scale_assets.features.streaming.declared import StreamingView
from scale_assets.features.streaming.updater import Updater
from scale_assets.ingest.file_source import FilesSource
from scale_assets.ingest.follow import Follower, Pace
from scale_assets.lake import Lake

ROOT = Path(__file__).resolve().parents[1]
RATE_GOAL = 20_000
COMMIT_EVENTS = 20_000
FRESH_GOAL_S = 2.0
FILES_PER_SECOND = 4
LOOK_EVERY_S = 0.02


def compare(quick: bool) -> Iterator[Comparison]:
    """The rate, then the freshness."""
    view = read_repo(ROOT / "feature_repo").views["registration_clicks"].stream
    assert view is not None
    with scratch_folder() as folder, redis_server(folder) as port:
        with open_backend(f"redis://127.0.0.1:{port}/1") as backend:
            yield _rate(view, backend, num_commits=5 if quick else 25)
        with open_backend(f"redis://127.0.0.1:{port}/2") as backend:
            yield _freshness(view, backend, seconds=15 if quick else 60)


def _rate(view: StreamingView, backend: Backend, *, num_commits: int) -> Comparison:
    with scratch_folder() as folder:
        lake = Lake(folder / "lake")
        _commit(lake, view, 0)
        updater = Updater(lake.open(view.table), view, backend)
        updater.catch_up()  # builds the view, and imports what that needs
        for number in range(1, num_commits + 1):
            _commit(lake, view, number)
        started, cpu = time.perf_counter(), time.process_time()
        report = updater.catch_up()
        seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    assert report.num_events == num_commits * COMMIT_EVENTS
    rate = report.num_events / cpu
    name = f"streaming update into Redis, {report.num_events / seconds:,.0f} events/s by the clock"
    return Comparison(
        name, rate, "events/s of a core", "the goal", RATE_GOAL, "at least 1", rate >= RATE_GOAL
    )


def _commit(lake: Lake, view: StreamingView, number: int) -> None:
    rng = np.random.default_rng(number)
    start = 1_700_000_000_000_000 + number * 1_000_000
    at = pa.array(start + np.sort(rng.integers(0, 1_000_000, COMMIT_EVENTS)))
    times = at.cast(pa.timestamp("us", tz="UTC"))
    rows = pa.table(
        {
            "presentation_id": pa.repeat("FFF-2013J", COMMIT_EVENTS),
            "student_id": rng.integers(0, 20_000, COMMIT_EVENTS),
            "site_id": rng.integers(0, 3_000, COMMIT_EVENTS),
            "num_clicks": rng.integers(1, 9, COMMIT_EVENTS),
            "event_time": times,
            "received_at": times,
        }
    )
    lake.append_once(view.table, rows, positions={"s": number + 1})


def _freshness(view: StreamingView, backend: Backend, *, seconds: int) -> Comparison:
    per_file = RATE_GOAL // 2 // FILES_PER_SECOND
    num_files = seconds * FILES_PER_SECOND
    with scratch_folder() as folder:
        written = [_file(folder, number, per_file) for number in range(num_files)]
        (folder / "feed").mkdir()
        stop = threading.Event()
        lake = Lake(folder / "lake")
        follower = Follower(
            lake,
            clicks_feed(FilesSource(folder / "feed")),
            stop=stop,
            tell=lambda _: None,
            pace=Pace(commit_seconds=0.5),
        )
        threads = [
            threading.Thread(target=follower.run),
            threading.Thread(target=_keep_up, args=(lake, view, backend, stop)),
        ]
        for thread in threads:
            thread.start()
        try:
            ages = _seen_after(view, backend, written, folder / "feed")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
    p99 = float(np.quantile(ages, 0.99))
    name = f"an event is seen online (median {np.median(ages):.2f} s), p99 at {RATE_GOAL // 2:,} events/s"
    return Comparison(name, p99, "s", "the goal", FRESH_GOAL_S, "at most 1", p99 <= FRESH_GOAL_S)


def _file(folder: Path, number: int, num_events: int) -> Path:
    """A file of clicks that waits beside the feed; its last one is of a student of its own."""
    path = folder / f"{number:06}.jsonl"
    events: list[dict[str, Any]] = [dict(click(n, part=number)) for n in range(num_events)]
    events[-1]["student_id"] = _own_student(number)
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def _own_student(number: int) -> int:
    return 1_000_000 + number


def _keep_up(lake: Lake, view: StreamingView, backend: Backend, stop: threading.Event) -> None:
    while not lake.exists(view.table):
        stop.wait(LOOK_EVERY_S)
    updater = Updater(lake.open(view.table), view, backend)
    while not stop.wait(0.2):  # as scale_assets/live_views.py does
        updater.catch_up()


def _seen_after(
    view: StreamingView, backend: Backend, written: list[Path], feed: Path
) -> list[float]:
    """Seconds from each file's delivery to the moment that its own student can be read."""
    delivered: dict[int, float] = {}
    ages: list[float] = []

    def deliver() -> None:
        began = time.monotonic()
        for number, path in enumerate(written):
            time.sleep(max(0.0, began + number / FILES_PER_SECOND - time.monotonic()))
            delivered[number] = time.monotonic()
            path.rename(feed / path.name)

    producer = threading.Thread(target=deliver)
    producer.start()
    for number in range(len(written)):
        key = f"FFF-2013J-{_own_student(number)}"
        while not _is_there(view, backend, key):
            time.sleep(LOOK_EVERY_S)
        ages.append(time.monotonic() - delivered[number])
    producer.join()
    return ages[FILES_PER_SECOND * 5 :]  # the first seconds go to the tables' making and to imports


def _is_there(view: StreamingView, backend: Backend, key: str) -> bool:
    if view.name not in backend.views():
        return False
    return backend.get({view.name: [key]}).values[view.name][0] is not None
