"""One asset per candidate: a child process followed while it runs, or a function on Spark."""

import importlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg

from scale_assets.components.model_layout import Candidate, ModelLayout
from scale_assets.components.model_tracking import CandidateRuns
from scale_assets.components.training_process import (
    ChildJob,
    TrainingFailed,
    run_training,
    training_command,
)
from scale_assets.errors import ScaleError
from scale_assets.resources import ModelRegistryResource, SettingsResource, SparkResource


def child_asset(layout: ModelLayout, candidates: Sequence[Candidate]) -> dg.AssetsDefinition:
    """Candidates trained in one child process; any subset of them can be asked for."""
    by_key = {layout.candidate_key(each.name): each for each in candidates}

    @dg.multi_asset(
        name=f"train_{layout.model}_{'_'.join(each.name for each in candidates)}",
        specs=[candidate_spec(layout, each, kinds={"python"}) for each in candidates],
        can_subset=True,
        pool="training",
    )
    def train_in_child(
        context: dg.AssetExecutionContext,
        settings: SettingsResource,
        registry: ModelRegistryResource,
    ) -> Iterator[dg.MaterializeResult | dg.AssetObservation]:
        chosen = [each for key, each in by_key.items() if key in context.selected_asset_keys]
        command = training_command(
            [child_job(layout, settings, each) for each in chosen],
            dataset=layout.dataset_dir(settings),
            num_ranks=chosen[0].num_ranks,
        )
        follower = Follower(context=context, layout=layout, settings=settings, registry=registry)
        yield from follower.follow(command)

    return train_in_child


def candidate_spec(layout: ModelLayout, candidate: Candidate, *, kinds: set[str]) -> dg.AssetSpec:
    source = candidate.module or candidate.function
    return layout.spec(
        layout.candidate_key(candidate.name),
        deps=[layout.dataset_key],
        description=f"Candidate {candidate.name} of {layout.model}, trained by `{source}`.",
        kinds=set(candidate.kinds) or kinds,
        skippable=candidate.module is not None,
    )


def child_job(layout: ModelLayout, settings: SettingsResource, candidate: Candidate) -> ChildJob:
    assert candidate.module is not None
    return ChildJob(
        entry=candidate.module,
        output=layout.folder(settings, candidate.name),
        hyperparameters=candidate.hyperparameters,
    )


@dataclass(kw_only=True)
class Follower:
    """Turns a child's messages into Dagster events and MLflow metrics while it runs."""

    context: dg.AssetExecutionContext
    layout: ModelLayout
    settings: SettingsResource
    registry: ModelRegistryResource
    runs: CandidateRuns | None = None

    def follow(
        self, command: Sequence[str]
    ) -> Iterator[dg.MaterializeResult | dg.AssetObservation]:
        try:
            for message in run_training(self.context, command):
                yield from self.on_message(message)
        except TrainingFailed as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        finally:
            if self.runs is not None:
                self.runs.fail_unfinished()

    def on_message(
        self, message: Mapping[str, Any]
    ) -> Iterator[dg.MaterializeResult | dg.AssetObservation]:
        candidate, event = message["candidate"], message["event"]
        if self.runs is None:  # mlflow is imported while the child imports its own libraries
            self.runs = open_runs(self.layout, self.settings, self.registry)
        if event == "loading":
            self.runs.start(candidate, {"dagster/run_id": self.context.run.run_id})
        elif event == "started":
            self.runs.log_params(candidate, message["hyperparameters"])
        elif event == "metrics":
            self.runs.log_metrics(candidate, message["metrics"])
            key = self.layout.candidate_key(candidate)
            yield dg.AssetObservation(key, metadata=message["metrics"])
        elif event == "finished":
            run_id = self.runs.finish(candidate)
            figures = {name: message[name] for name in ("seconds", "peak_memory_mb")}
            yield trained(self.layout, self.settings, candidate, run_id, figures)


def open_runs(
    layout: ModelLayout, settings: SettingsResource, registry: ModelRegistryResource
) -> CandidateRuns:
    return CandidateRuns(
        registry.client(), model=layout.model, artifacts_dir=layout.artifacts_dir(settings)
    )


def trained(
    layout: ModelLayout,
    settings: SettingsResource,
    candidate: str,
    run_id: str,
    figures: Mapping[str, float],
) -> dg.MaterializeResult:
    """Note which MLflow run the files belong to, and describe them."""
    import pyarrow.parquet as pq

    folder = layout.folder(settings, candidate)
    (folder / "run.json").write_text(json.dumps({"mlflow_run_id": run_id, **figures}))
    predictions = folder / "predictions.parquet"
    return dg.MaterializeResult(
        asset_key=layout.candidate_key(candidate),
        metadata={
            "dagster/row_count": pq.read_metadata(predictions).num_rows,
            "predictions": dg.MetadataValue.path(predictions),
            "mlflow_run_id": run_id,
            **figures,
        },
    )


def spark_asset(layout: ModelLayout, candidate: Candidate) -> dg.AssetsDefinition:
    """One candidate that a function trains in the run's own Spark session."""

    @dg.multi_asset(
        name=f"train_{layout.model}_{candidate.name}",
        specs=[candidate_spec(layout, candidate, kinds={"spark"})],
        pool="spark",
    )
    def train_on_spark(
        context: dg.AssetExecutionContext,
        settings: SettingsResource,
        registry: ModelRegistryResource,
        spark: SparkResource,
    ) -> Iterator[dg.MaterializeResult]:
        train = load_function(candidate, model=layout.model)
        runs = open_runs(layout, settings, registry)
        runs.start(candidate.name, {"dagster/run_id": context.run.run_id})
        try:
            runs.log_params(candidate.name, candidate.hyperparameters)
            folder = layout.folder(settings, candidate.name)
            folder.mkdir(parents=True, exist_ok=True)
            started = time.perf_counter()
            with spark.step() as session:
                train(
                    spark=session,
                    dataset=layout.dataset_dir(settings),
                    output=folder,
                    report=partial(runs.log_metrics, candidate.name),
                    **candidate.hyperparameters,
                )
            figures = {"seconds": round(time.perf_counter() - started, 3)}
            run_id = runs.finish(candidate.name)
        finally:
            runs.fail_unfinished()
        yield trained(layout, settings, candidate.name, run_id, figures)

    return train_on_spark


def load_function(candidate: Candidate, *, model: str) -> Any:
    assert candidate.function is not None
    module, _, name = candidate.function.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ScaleError(
            f"candidate {candidate.name!r} of model {model!r}: function {candidate.function!r} "
            f"cannot be imported ({error}); give the dotted path of a function"
        ) from error


def prediction_paths(
    layout: ModelLayout, settings: SettingsResource, candidates: Sequence[Candidate]
) -> dict[str, Path]:
    return {
        each.name: layout.folder(settings, each.name) / "predictions.parquet" for each in candidates
    }


def run_id_of(layout: ModelLayout, settings: SettingsResource, candidate: str) -> str:
    """The MLflow run that made the candidate's present files."""
    path = layout.folder(settings, candidate) / "run.json"
    return str(json.loads(path.read_text())["mlflow_run_id"])
