"""Scores every candidate from its predictions alone: ``python -m training.evaluate ...``.

Nothing a candidate says about itself counts: baselines and networks, torch and Spark, are read
from the same columns and resampled with the same weights, so their intervals compare.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training import binary_metrics, ranking_metrics
from training.bootstrap import interval, resample_weights
from training.dataset import Dataset, open_dataset, score_column
from training.errors import TrainingError
from training.gate import Gate, decide

NUM_RESAMPLES = 400
SEED = 20130201


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A value with its bootstrap 95 % interval, where one was computed."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class CandidateScores:
    """Everything measured on one candidate's predictions; curves and bins by label."""

    metrics: dict[str, Metric]
    calibration: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    roc: dict[str, list[list[float]]] = field(default_factory=dict)
    precision_recall: dict[str, list[list[float]]] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All candidates of one model on the same rows."""

    kind: str
    num_resamples: int
    targets: dict[str, dict[str, float]]  # per label or list: rows, positives, base rate
    candidates: dict[str, CandidateScores]

    def value(self, candidate: str, metric: str) -> float:
        return self.candidates[candidate].metrics[metric].value

    def to_json(self) -> str:
        return json.dumps({"format": 1, **asdict(self)}, indent=1)


def evaluate(
    model_kind: str,
    predictions: Mapping[str, Path],
    *,
    dataset: Dataset | None = None,
    num_resamples: int = NUM_RESAMPLES,
) -> Evaluation:
    """Score `{candidate: predictions.parquet}`; `dataset` names labels, entity and protocol.

    Raises:
        TrainingError: No candidate, an unknown kind, or candidates that scored different rows.
    """
    if not predictions:
        raise TrainingError("nothing to evaluate: no predictions were given")
    if model_kind == "tabular":
        if dataset is None:
            raise TrainingError("tabular predictions need the dataset, which names their labels")
        return evaluate_tabular(predictions, dataset, num_resamples)
    if model_kind == "sequence":
        return evaluate_rankings(predictions, num_resamples)
    raise TrainingError(f"cannot evaluate kind {model_kind!r}; known: 'tabular', 'sequence'")


def evaluate_tabular(
    predictions: Mapping[str, Path], dataset: Dataset, num_resamples: int
) -> Evaluation:
    targets: dict[str, dict[str, float]] = {}
    found: dict[str, CandidateScores] = {name: CandidateScores(metrics={}) for name in predictions}
    tables = same_rows({n: pq.read_table(p) for n, p in predictions.items()}, dataset)
    for label in dataset.labels:
        rows = tables[next(iter(tables))]
        kept = protocol_rows(rows, label, dataset.evaluation)
        labels_B = rows[label].filter(kept).to_numpy().astype(np.float64)
        targets[label] = target_summary(labels_B, label)
        clusters = rows[dataset.entity].filter(kept).combine_chunks().dictionary_encode()
        clusters_B = clusters.indices.to_numpy()
        weights_NR = resample_weights(
            len(clusters.dictionary), num_resamples=num_resamples, seed=SEED
        )
        for name, table in tables.items():
            scores_B = scores_of(table, label, kept, candidate=name)
            add_binary(found[name], label, scores_B, labels_B, clusters_B, weights_NR)
    return Evaluation(
        kind="tabular", num_resamples=num_resamples, targets=targets, candidates=found
    )


def same_rows(tables: dict[str, pa.Table], dataset: Dataset) -> dict[str, pa.Table]:
    """Every candidate's rows in one order, by entity and time; refuse different rows."""
    keys = [dataset.entity, dataset.time]
    ordered = {
        name: table.sort_by([(key, "ascending") for key in keys]) for name, table in tables.items()
    }
    first_name, first = next(iter(ordered.items()))
    identity = [*keys, *dataset.labels]
    for name, table in ordered.items():
        if not table.select(identity).equals(
            first.select(identity).cast(table.select(identity).schema)
        ):
            raise TrainingError(
                f"candidates {first_name!r} ({first.num_rows} rows) and {name!r} "
                f"({table.num_rows} rows) scored different rows or labels: train them on one dataset"
            )
    return ordered


def protocol_rows(rows: pa.Table, label: str, evaluation: Mapping[str, Any]) -> pa.Array:
    """Which rows count for a label: those whose outcome is known, on the protocol's days."""
    kept = pc.is_valid(rows[label])
    if label in evaluation:
        rule = evaluation[label]
        days = rows[rule["column"]].to_numpy()
        on_day = (days >= rule["first"]) & ((days - rule["first"]) % rule["every"] == 0)
        kept = pc.and_(kept, pa.array(on_day))
    return kept


def target_summary(labels_B: np.ndarray, label: str) -> dict[str, float]:
    num_positive = int(labels_B.sum())
    if num_positive in (0, labels_B.size):
        raise TrainingError(
            f"{label}: {num_positive} of {labels_B.size} test rows are positive; "
            "both classes are needed to compare candidates"
        )
    return {
        "num_rows": labels_B.size,
        "num_positive": num_positive,
        "base_rate": num_positive / labels_B.size,
    }


def scores_of(table: pa.Table, label: str, kept: pa.Array, *, candidate: str) -> np.ndarray:
    scores_B: np.ndarray = table[score_column(label)].filter(kept).to_numpy().astype(np.float64)
    if not np.isfinite(scores_B).all():
        raise TrainingError(
            f"candidate {candidate!r} has {int((~np.isfinite(scores_B)).sum())} scores of {label} "
            "that are not finite: look at its training curves"
        )
    return scores_B


def add_binary(
    scores: CandidateScores,
    label: str,
    scores_B: np.ndarray,
    labels_B: np.ndarray,
    clusters_B: np.ndarray,
    weights_NR: np.ndarray,
) -> None:
    grouped = binary_metrics.group(scores_B, labels_B, clusters_B)
    once = np.ones((weights_NR.shape[0], 1))
    values = binary_metrics.auc_and_ap(grouped, once)
    resampled = binary_metrics.auc_and_ap(grouped, weights_NR)
    for name, value_R, values_R in zip(("auc", "ap"), values, resampled, strict=True):
        low, high = interval(values_R)
        scores.metrics[f"{label}/{name}"] = Metric(value=float(value_R[0]), low=low, high=high)
    bins = binary_metrics.calibration(scores_B, labels_B)
    error = binary_metrics.expected_calibration_error(bins)
    scores.metrics[f"{label}/ece"] = Metric(value=error)
    scores.calibration[label] = bins
    scores.roc[label] = binary_metrics.roc_points(scores_B, labels_B)
    scores.precision_recall[label] = binary_metrics.precision_recall_points(scores_B, labels_B)


def evaluate_rankings(predictions: Mapping[str, Path], num_resamples: int) -> Evaluation:
    """Lists are averaged over registrations; each list keeps only those with a relevant site."""
    targets: dict[str, dict[str, float]] = {}
    scored: dict[str, list[str]] = {}
    found: dict[str, CandidateScores] = {}
    for candidate, path in predictions.items():
        table = pq.read_table(path)
        metrics: dict[str, Metric] = {}
        for name in sorted(pc.unique(table["list"]).to_pylist()):
            ranked = table.filter(pc.equal(table["list"], name))
            registrations, values = ranking_metrics.per_registration(ranked)
            order = np.argsort(registrations)
            expect_same(scored, name, sorted(registrations), candidate=candidate)
            targets[name] = {"num_rows": len(registrations)}
            metrics |= ranking_intervals(name, values, order, num_resamples)
        found[candidate] = CandidateScores(metrics=metrics)
    return Evaluation(
        kind="sequence", num_resamples=num_resamples, targets=targets, candidates=found
    )


def expect_same(
    scored: dict[str, list[str]], name: str, registrations: list[str], *, candidate: str
) -> None:
    if scored.setdefault(name, registrations) != registrations:
        raise TrainingError(
            f"candidate {candidate!r} ranked {len(registrations)} registrations in list {name!r}, "
            f"another candidate {len(scored[name])} or different ones: train them on one dataset"
        )


def ranking_intervals(
    name: str, values: dict[str, np.ndarray], order: np.ndarray, num_resamples: int
) -> dict[str, Metric]:
    weights_NR = resample_weights(len(order), num_resamples=num_resamples, seed=SEED)
    metrics = {}
    for metric, values_N in values.items():
        low, high = interval(values_N[order] @ weights_NR / len(order))
        metrics[f"{name}/{metric}"] = Metric(value=float(values_N.mean()), low=low, high=high)
    return metrics


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="training.evaluate", description=__doc__)
    parser.add_argument("--dataset", required=True, type=Path)
    parser.add_argument("--predictions", required=True, nargs="+", metavar="CANDIDATE=PARQUET")
    parser.add_argument("--output", required=True, type=Path, help="Folder for evaluation.json.")
    parser.add_argument("--gate", metavar="JSON", help="Also decide which candidate is released.")
    options = parser.parse_args(arguments)
    dataset = open_dataset(options.dataset)
    pairs = (text.partition("=") for text in options.predictions)
    predictions = {name: Path(path) for name, _, path in pairs}
    evaluation = evaluate(dataset.kind, predictions, dataset=dataset)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "evaluation.json").write_text(evaluation.to_json())
    if options.gate:
        decision = decide(evaluation, Gate.from_json(options.gate))
        (options.output / "gate.json").write_text(decision.to_json())


if __name__ == "__main__":
    try:
        main()
    except TrainingError as error:
        sys.exit(f"error: {error}")
