"""Both models against their baselines, on the full protocol of the data.

python -m benchmarks.training [--quick] [--json]

Runs `scale demo --all` into the data folder (SCALE_DATA_DIR) unless that was done, then reads the
evaluations, which are made from the candidates' predictions alone. --quick only reads.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.measure import Comparison, machine
from scale_assets.settings import load_settings

WITHDRAWAL_GOALS = {"cancelled_within_28d": 0.76, "cancelled_within_7d": 0.79}
RANKING_BEST_BASELINES = {"all": 0.760, "discovery": 0.486}  # measured beforehand on these files
MAX_BEHIND_BOOSTING = 0.005


def main() -> None:
    """Print every candidate with its interval, then one line per goal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="Read the evaluations that exist.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.quick:
        subprocess.run([sys.executable, "-m", "scale_assets", "demo", "--all"], check=True)
    training_dir = load_settings().training_dir
    withdrawal = evaluation(training_dir, "withdrawal")
    next_site = evaluation(training_dir, "next_site")
    results = [*withdrawal_goals(withdrawal), *ranking_goals(next_site)]
    if options.json:
        print(json.dumps(machine()))
    else:
        for each in (withdrawal, next_site):
            print("\n".join(table(each)), "\n")
    for result in results:
        print(result.as_json() if options.json else result.as_text())


def evaluation(training_dir: Path, model: str) -> dict[str, Any]:
    path = training_dir / model / "evaluation" / "evaluation.json"
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def withdrawal_goals(found: dict[str, Any]) -> Iterator[Comparison]:
    """The network against the fixed goal, and against the boosting trained beside it."""
    for label, goal in WITHDRAWAL_GOALS.items():
        network = value(found, "network", f"{label}/auc")
        boosting = value(found, "boosting", f"{label}/auc")
        yield Comparison(
            f"network AUC, {label}", network, "", "goal", goal, f"at least {goal}", network >= goal
        )
        yield Comparison(
            f"network AUC beside boosting, {label}",
            network,
            "",
            "boosting",
            boosting,
            f"at most {MAX_BEHIND_BOOSTING} below",
            network >= boosting - MAX_BEHIND_BOOSTING,
        )


def ranking_goals(found: dict[str, Any]) -> Iterator[Comparison]:
    """The network against the best baseline, of this run or known beforehand."""
    for name, known in RANKING_BEST_BASELINES.items():
        metric = f"{name}/ndcg_at_10"
        others = {each: value(found, each, metric) for each in found["candidates"]}
        network = others.pop("network")
        best = max(others, key=lambda each: others[each])
        bar = max(known, others[best])
        yield Comparison(
            f"network NDCG@10, {name} sites",
            network,
            "",
            f"best baseline ({best})",
            bar,
            "above",
            network > bar,
        )


def value(found: dict[str, Any], candidate: str, metric: str) -> float:
    return float(found["candidates"][candidate]["metrics"][metric]["value"])


def table(found: dict[str, Any]) -> Iterator[str]:
    """Markdown: one row per candidate, 95 % bootstrap intervals in brackets."""
    candidates = found["candidates"]
    names = [
        name
        for name in next(iter(candidates.values()))["metrics"]
        if name.endswith(("/auc", "/ap", "/ndcg_at_10", "/hr_at_10"))
    ]
    yield f"| candidate | {' | '.join(names)} |"
    yield f"|---|{'---|' * len(names)}"
    for candidate, scores in candidates.items():
        cells = [scores["metrics"][name] for name in names]
        shown = [f"{each['value']:.4f} [{each['low']:.4f}, {each['high']:.4f}]" for each in cells]
        yield f"| {candidate} | {' | '.join(shown)} |"


if __name__ == "__main__":
    main()
