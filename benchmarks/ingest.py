"""JSON lines into Delta, checked and quarantined, against scripts that check less.

python -m benchmarks.ingest [--quick] [--json] [--events N]
"""

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measure import Comparison, machine, scratch_folder
from scale_assets.contracts.native import library

GOALS = {"orjson": 2.5, "pydantic": 6.0, "pyarrow.json": 0.8}
DLT_GOAL = 2.0
DLT_SHARE = 20  # dlt gets a file of so many times fewer events, and ours is run on that one too
FEW_BAD_LINES = 1000  # one line in so many breaks the contract in the second comparison


@dataclass(frozen=True)
class Timing:
    """One run: seconds without imports, on the clock and of all cores, and its peak memory."""

    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int


def main() -> None:
    """Print one line per comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200,000 events, three rounds.")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--events", type=int, default=1_000_000)
    options = parser.parse_args()
    if not library.is_built():
        print(
            "the C reader is not built, so lines are read by pyarrow: make setup, with a compiler"
        )
    num_events = 200_000 if options.quick else options.events
    with scratch_folder() as folder:
        results = rates(folder, num_events, rounds=3 if options.quick else 5)
        if not options.quick:
            results.append(memory(folder, num_events))
            if importlib.util.find_spec("dlt"):  # uv sync --group bench
                results.append(against_dlt(folder, num_events // DLT_SHARE, rounds=5))
    if options.json:
        print(json.dumps(machine()))
    for each in results:
        print(each.as_json() if options.json else each.as_text())


def rates(folder: Path, num_events: int, *, rounds: int) -> list[Comparison]:
    """Events per second, medians of interleaved rounds."""
    clean = write_events(folder / "clean", num_events)
    dirty = write_events(folder / "dirty", num_events, bad_every=FEW_BAD_LINES)
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name in ("ours", *GOALS):
            seconds[name].append(run(name, clean, folder).seconds)
        seconds["ours, one bad line in 1,000"].append(run("ours", dirty, folder).seconds)
    rate = {name: num_events / statistics.median(times) for name, times in seconds.items()}
    results = [_compared("ours", rate, peer, goal) for peer, goal in GOALS.items()]
    return [*results, _compared("ours, one bad line in 1,000", rate, "orjson", GOALS["orjson"])]


def against_dlt(folder: Path, num_events: int, *, rounds: int) -> Comparison:
    """Against dlt, which checks types, not contracts, and takes minutes for a million events."""
    file = write_events(folder / "dlt", num_events)
    seconds: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        for name in ("ours", "dlt"):
            seconds[name].append(run(name, file, folder).seconds)
    rate = {name: num_events / statistics.median(times) for name, times in seconds.items()}
    return _compared("ours", rate, "dlt", DLT_GOAL)


def _compared(name: str, rate: dict[str, float], peer: str, goal: float) -> Comparison:
    is_met = rate[name] >= goal * rate[peer]
    return Comparison(
        f"JSON lines to Delta, {name}",
        rate[name],
        "events/s",
        peer,
        rate[peer],
        f"at least {goal}",
        is_met,
    )


def memory(folder: Path, num_events: int) -> Comparison:
    """Peak memory of ten times as many events, in files of the same size."""
    once = write_events(folder / "once", num_events)
    small = run("ours", once, folder)
    ten_times = folder / "ten_times"
    for part in range(10):
        write_events(ten_times, num_events, part=part)
    large = run("ours", ten_times / "0.jsonl", folder)
    ratio = large.peak_memory_bytes / small.peak_memory_bytes
    return Comparison(
        f"peak memory, {10 * num_events} events",
        large.peak_memory_bytes / 2**30,
        "GiB",
        f"{num_events} events",
        small.peak_memory_bytes / 2**30,
        "at most 1.25",
        ratio <= 1.25,
    )


def write_events(folder: Path, num_events: int, *, bad_every: int = 0, part: int = 0) -> Path:
    """One file of a day's clicks; with ``bad_every``, a count below the contract's in so many."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{part}.jsonl"
    with path.open("w") as file:
        for n in range(num_events):
            event = click(n, part=part)
            if bad_every and n % bad_every == 0:
                event["num_clicks"] = 0
            file.write(json.dumps(event) + "\n")
    return path


def click(number: int, *, part: int = 0) -> dict[str, str | int]:
    """An event as the reference pipeline's contract has it."""
    return {
        "event_id": f"FFF-2013J-{part}-{number:08}",
        "event_time": "2013-10-07T00:00:00Z",
        "received_at": "2013-10-08T00:00:00Z",
        "presentation_id": "FFF-2013J",
        "student_id": 1000 + number * 7919 % 20_000,
        "site_id": 500_000 + number * 104_729 % 3000,
        "num_clicks": 1 + number % 9,
        "event_order": number,
    }


def run(name: str, file: Path, folder: Path) -> Timing:
    """One way, in a process of its own, into a new folder."""
    target = (folder / "target").resolve()
    target.mkdir()
    done = subprocess.run(
        [
            *(sys.executable, "-W", "ignore", "-m", "benchmarks.ingest_peers"),
            *(name, str(file.resolve()), str(target)),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    shutil.rmtree(target)
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}")
    return Timing(**json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    main()
