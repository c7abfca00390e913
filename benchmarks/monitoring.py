"""What watching every view costs: statistics, drift and freshness, from nothing and again.

python -m benchmarks.monitoring --data DIR [--json]

DIR is the data folder of a finished `scale demo`; its lake is copied, and only read.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from benchmarks.measure import Run, machine, run_measured, scratch_folder

PASS = """
import json
import dagster as dg
from scale_assets.definitions import defs

definitions = defs()
keys = dg.AssetSelection.groups("monitoring").resolve(definitions.resolve_asset_graph())
done = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
    asset_selection=sorted(keys), run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}}
)
steps = [each for each in done.all_events if each.event_type_value == "STEP_SUCCESS"]
print(json.dumps({each.step_key: each.step_success_data.duration_ms / 1000 for each in steps}))
"""
GOAL_S = 10  # of the demo's 300


def main() -> None:
    """Print one line per pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="Data folder of a finished demo.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not (options.data / "lake").is_dir():
        parser.error(f"--data: {options.data} has no lake; run `scale demo` there first")
    with scratch_folder() as folder:
        shutil.copytree(options.data / "lake", folder / "lake")
        shutil.rmtree(folder / "lake" / "monitoring", ignore_errors=True)
        passes = {name: _run(folder) for name in ("from nothing", "nothing new")}
    if options.json:
        print(json.dumps(machine()))
    for name, done in passes.items():
        steps = json.loads(done.output.splitlines()[-1])
        told = {
            "name": f"watching {len(steps)} views, {name}",
            "seconds": round(sum(steps.values()), 2),
            "peak_memory_gib": round(done.peak_memory_bytes / 2**30, 2),
            "steps": {step: round(seconds, 2) for step, seconds in steps.items()},
            "goal_seconds": GOAL_S,
        }
        print(json.dumps(told) if options.json else _text(told))


def _run(folder: Path) -> Run:
    environment = {"SCALE_DATA_DIR": str(folder), "SCALE_LAKE_ROOT": ""}
    return run_measured([sys.executable, "-W", "ignore", "-c", PASS], env=environment)


def _text(told: dict[str, object]) -> str:
    seconds, goal = told["seconds"], told["goal_seconds"]
    verdict = "ok" if float(str(seconds)) <= float(str(goal)) else "MISSED"
    return (
        f"{told['name']}: {seconds} s (goal {goal} s of the demo's 300) {verdict}; "
        f"peak {told['peak_memory_gib']} GiB of the process; {told['steps']}"
    )


if __name__ == "__main__":
    main()
