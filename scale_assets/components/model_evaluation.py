"""Scores all candidates of a model and registers the one that the gate lets through."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from scale_assets.components.columns import LINEAGE
from scale_assets.components.model_layout import Candidate, GateRule, ModelLayout
from scale_assets.components.model_tracking import crown, log_metrics, register
from scale_assets.components.model_training import prediction_paths, run_id_of
from scale_assets.resources import ModelRegistryResource, SettingsResource

VERSION_FILES = ("model.onnx", "signature.json")


def evaluation_asset(
    layout: ModelLayout, candidates: Sequence[Candidate], gate: GateRule
) -> dg.AssetsDefinition:
    key = layout.evaluation_key
    spec = layout.spec(
        key,
        deps=[layout.dataset_key, *(layout.candidate_key(each.name) for each in candidates)],
        description=f"Every candidate of {layout.model}, scored from its predictions alone.",
        kinds={"python"},
    )

    @dg.multi_asset(
        name=f"evaluate_{layout.model}", specs=[spec], check_specs=check_specs(key, gate)
    )
    def evaluate(
        context: dg.AssetExecutionContext,
        settings: SettingsResource,
        registry: ModelRegistryResource,
    ) -> dg.MaterializeResult:
        output = layout.folder(settings, "evaluation")
        score(layout, settings, candidates, gate, output)
        evaluation = json.loads((output / "evaluation.json").read_text())
        decision = json.loads((output / "gate.json").read_text())
        client = registry.client()
        for name, scores in evaluation["candidates"].items():
            log_metrics(client, run_id_of(layout, settings, name), values_of(scores))
        context.log.info(decision["sentence"])
        return dg.MaterializeResult(
            asset_key=key,
            metadata=evaluation_metadata(evaluation, decision),
            check_results=check_results(decision, gate),
        )

    return evaluate


def score(
    layout: ModelLayout,
    settings: SettingsResource,
    candidates: Sequence[Candidate],
    gate: GateRule,
    output: Path,
) -> None:
    """In a child process: the scorer belongs to training/, which nothing here imports."""
    paths = prediction_paths(layout, settings, candidates)
    command = [sys.executable, "-m", "training.evaluate"]
    command += ["--dataset", str(layout.dataset_dir(settings)), "--output", str(output)]
    command += ["--gate", gate.model_dump_json()]
    command += ["--predictions", *(f"{name}={path}" for name, path in paths.items())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise dg.Failure(f"evaluation of {layout.model}: {done.stderr.strip()[-2000:]}")


def check_specs(key: dg.AssetKey, gate: GateRule) -> list[dg.AssetCheckSpec]:
    specs = [
        dg.AssetCheckSpec(
            "gate",
            asset=key,
            blocking=True,
            description=f"A releasable candidate meets {gate.minimums or 'no minimum'}.",
        ),
        dg.AssetCheckSpec(
            "no_leak",
            asset=key,
            blocking=True,
            description=f"No candidate scores above {gate.maximums or 'any bound'}.",
        ),
    ]
    if gate.network:
        description = f"{gate.network} beats every baseline that may be released."
        specs.append(dg.AssetCheckSpec("network_won", asset=key, description=description))
    return specs


def check_results(decision: Mapping[str, Any], gate: GateRule) -> list[dg.AssetCheckResult]:
    said = {"decision": decision["sentence"]}
    results = [
        dg.AssetCheckResult(
            check_name="gate",
            passed=decision["meets_minimums"],
            metadata={**said, "too_low": decision["too_low"]},
        ),
        dg.AssetCheckResult(
            check_name="no_leak",
            passed=not decision["too_high"],
            metadata={**said, "too_high": decision["too_high"]},
        ),
    ]
    if gate.network:
        results.append(
            dg.AssetCheckResult(
                check_name="network_won",
                passed=bool(decision["network_won"]),
                severity=dg.AssetCheckSeverity.WARN,
                metadata=said,
            )
        )
    return results


def evaluation_metadata(
    evaluation: Mapping[str, Any], decision: Mapping[str, Any]
) -> dict[str, Any]:
    """The decision, a table of all candidates, and the deciding metric of each for the plots."""
    metric = decision["metric"]
    return {
        "decision": decision["sentence"],
        "winner": decision["winner"] or "none",
        "candidates": dg.MetadataValue.md(comparison(evaluation)),
        "targets": dg.MetadataValue.json(evaluation["targets"]),
        **{
            f"{metric} of {name}": scores["metrics"][metric]["value"]
            for name, scores in evaluation["candidates"].items()
        },
    }


def comparison(evaluation: Mapping[str, Any]) -> str:
    """A markdown table: one row per candidate, one column per metric, 95 % intervals beside."""
    candidates = evaluation["candidates"]
    metrics = list(next(iter(candidates.values()))["metrics"])
    lines = [f"| candidate | {' | '.join(metrics)} |", f"|---|{'---|' * len(metrics)}"]
    for name, scores in candidates.items():
        cells = [cell(scores["metrics"][metric]) for metric in metrics]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def cell(metric: Mapping[str, float | None]) -> str:
    if metric["low"] is None:
        return f"{metric['value']:.4f}"
    return f"{metric['value']:.4f} ({metric['low']:.4f} to {metric['high']:.4f})"


def values_of(scores: Mapping[str, Any]) -> dict[str, float]:
    return {name: each["value"] for name, each in scores["metrics"].items()}


def registered_asset(layout: ModelLayout, gate: GateRule, description: str) -> dg.AssetsDefinition:
    spec = layout.spec(
        layout.key,
        deps=[layout.evaluation_key],
        description=f"{description}\n\nThe gate's winner, registered in MLflow.".strip(),
        kinds={"mlflow", "onnx"},
    )

    @dg.multi_asset(name=f"register_{layout.model}", specs=[spec])
    def register_best(
        settings: SettingsResource, registry: ModelRegistryResource
    ) -> dg.MaterializeResult:
        output = layout.folder(settings, "evaluation")
        decision = json.loads((output / "gate.json").read_text())
        if decision["winner"] is None:
            raise dg.Failure(decision["sentence"], allow_retries=False)
        return register_winner(layout, settings, registry, gate, winner=decision["winner"])

    return register_best


def register_winner(
    layout: ModelLayout,
    settings: SettingsResource,
    registry: ModelRegistryResource,
    gate: GateRule,
    *,
    winner: str,
) -> dg.MaterializeResult:
    """A new version with everything a release needs in its folder; champion if it is better."""
    evaluation_path = layout.folder(settings, "evaluation") / "evaluation.json"
    dataset_path = layout.dataset_dir(settings) / "dataset.json"
    dataset = json.loads(dataset_path.read_text())
    values = values_of(json.loads(evaluation_path.read_text())["candidates"][winner])
    folder = layout.folder(settings, winner)
    client = registry.client()
    version, source = register(
        client,
        model=layout.model,
        run_id=run_id_of(layout, settings, winner),
        files={
            **{name: folder / name for name in VERSION_FILES},
            "dataset.json": dataset_path,
            "evaluation.json": evaluation_path,
        },
        tags={
            "candidate": winner,
            "delta_versions": json.dumps(dataset["delta_versions"]),
            "contract_versions": json.dumps(dataset["contract_versions"]),
            **{name: repr(value) for name, value in values.items()},
        },
    )
    is_champion, why = crown(
        client,
        model=layout.model,
        version=version,
        metric=gate.metric,
        value=values[gate.metric],
    )
    return dg.MaterializeResult(
        asset_key=layout.key,
        metadata={
            "candidate": winner,
            "version": version,
            "source": source,
            "champion": is_champion,
            "why": why,
            "delta_versions": dataset["delta_versions"],
            **inputs_lineage(layout, dataset),
            **values,
        },
    )


def inputs_lineage(layout: ModelLayout, dataset: Mapping[str, Any]) -> dict[str, Any]:
    """Each input of a tabular model is the training set's column of that name."""
    names = [*dataset.get("numeric", ()), *dataset.get("categorical", ())]
    deps = {name: [dg.TableColumnDep(layout.dataset_key, name)] for name in names}
    return {LINEAGE: dg.TableColumnLineage(deps)} if deps else {}
