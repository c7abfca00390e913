"""Cost of the orchestration: loading the definitions, the demo's overhead, a run with nothing new.

python -m benchmarks.orchestration [--quick] [--all] [--keep DIR] [--json]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.measure import Comparison, machine, run_measured, scratch_folder

LOAD = "import scale_assets.definitions as d; d.defs()"
PEER = "import dagster, dagster_dbt"
TIMED = "import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"
NO_BYTECODE = "PYTHONDONTWRITEBYTECODE"  # set on some machines; then every start compiles anew
SCALE = [sys.executable, "-m", "scale_assets"]


def main() -> None:
    """Print one line per comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Load times only, three runs.")
    parser.add_argument("--all", action="store_true", help="Also the demo on every course.")
    parser.add_argument("--keep", type=Path, help="New folder to keep the demos' data in.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    results = [load_time(repeats=3 if options.quick else 7)]
    if not options.quick:
        with scratch_folder() as temporary:
            results += demo(options.keep or temporary, with_all=options.all)
    if options.json:
        print(json.dumps(machine()))
    for each in results:
        print(each.as_json() if options.json else each.as_text())


def load_time(*, repeats: int) -> Comparison:
    """Seconds inside the interpreter to loaded definitions, against importing Dagster alone.

    Interleaved. A first load, not counted, prepares the manifest and compiles our own modules.
    """
    ours, peer = [], []
    _seconds(LOAD)
    for _ in range(repeats):
        ours.append(_seconds(LOAD))
        peer.append(_seconds(PEER))
    ratio = statistics.median(ours) / statistics.median(peer)
    return Comparison(
        name="load definitions",
        ours=statistics.median(ours),
        unit="s",
        peer=PEER,
        peer_value=statistics.median(peer),
        goal="at most 1.3",
        ok=ratio <= 1.3,
    )


def _seconds(code: str) -> float:
    environment = {name: value for name, value in os.environ.items() if name != NO_BYTECODE}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TIMED.format(code=code)],
        check=True,
        capture_output=True,
        text=True,
        env=environment,
    )
    return float(done.stdout.split()[-1])


def demo(folder: Path, *, with_all: bool) -> list[Comparison]:
    """The demo from nothing, again with nothing new, and (``with_all``) on every course."""
    env = {"SCALE_DATA_DIR": str(folder / "default")}
    first = run_measured([*SCALE, "demo"], env=env)
    stages = _stage_seconds(folder / "default")
    second = run_measured([*SCALE, "demo"], env=env)
    results = [
        Comparison(
            "demo wall time",
            first.seconds,
            "s",
            "the sum of its stages",
            stages,
            "at most 1.3",
            first.seconds <= 1.3 * stages,
        ),
        Comparison(
            "second run, nothing new",
            second.seconds,
            "s",
            "the first run",
            first.seconds,
            "below 0.25",
            second.seconds < 0.25 * first.seconds,
        ),
    ]
    if with_all:
        env = {"SCALE_DATA_DIR": str(folder / "all")}
        everything = run_measured([*SCALE, "demo", "--all"], env=env)
        results.append(
            Comparison(
                f"peak memory of --all ({everything.seconds:.0f} s)",
                everything.peak_memory_bytes / 2**30,
                "GiB",
                "the default subset",
                first.peak_memory_bytes / 2**30,
                "at most 2, within 24 GiB",
                everything.peak_memory_bytes <= min(2 * first.peak_memory_bytes, 24 * 2**30),
            )
        )
    return results


def _stage_seconds(data_dir: Path) -> float:
    """Seconds inside the graph's stages in the newest run; replay and server are not in it."""
    newest = json.loads((data_dir / "runs.jsonl").read_text().splitlines()[-1])
    return float(sum(step["seconds"] for step in newest["steps"]))


if __name__ == "__main__":
    main()
