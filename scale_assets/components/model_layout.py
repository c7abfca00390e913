"""What a model is made of: its candidates, its gate, and where its assets and files lie."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import dagster as dg
from pydantic import Field, model_validator

from scale_assets.components.columns import PASSES_ON
from scale_assets.resources import SettingsResource


class Candidate(dg.Resolvable, dg.Model):
    """One way to make the model."""

    name: str = Field(description="Name of the candidate; its asset is models/<model>/<name>.")
    module: str | None = Field(
        default=None,
        description="MODULE or MODULE:FUNCTION that trains it in a child process, as "
        "`python -m training.run` does.",
        examples=["training.churn", "training.churn_baselines:logistic"],
    )
    function: str | None = Field(
        default=None,
        description="Dotted path of a function that trains it in the run's own Spark session: "
        "f(*, spark, dataset, output, report, **hyperparameters).",
        examples=["scale_assets.transforms.mllib.train_forest"],
    )
    process: str | None = Field(
        default=None,
        description="Candidates with the same word here share one child process; by default "
        "those of one module do.",
    )
    hyperparameters: dict[str, Any] = Field(
        default_factory=dict,
        description="By name; unknown names and values out of bounds are refused. `devices` above "
        "1 starts that many ranks with torchrun.",
    )
    kinds: list[str] = Field(
        default_factory=list, description="Badges in the UI.", examples=[["torch", "lightning"]]
    )

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        if (self.module is None) == (self.function is None):
            raise ValueError(f"candidate {self.name!r} needs a module or a function, and not both")
        return self

    @property
    def process_name(self) -> str:
        assert self.module is not None
        return self.process or self.module.partition(":")[0]

    @property
    def num_ranks(self) -> int:
        return int(self.hyperparameters.get("devices", 1))


class GateRule(dg.Resolvable, dg.Model):
    """Which candidate may be released."""

    metric: str = Field(
        description="The metric to rank candidates by, on the test split; higher is better.",
        examples=["cancelled_within_28d/auc", "all/ndcg_at_10"],
    )
    releasable: list[str] = Field(
        min_length=1, description="Candidates that may be released: those that write model.onnx."
    )
    minimums: dict[str, float] = Field(
        default_factory=dict, description="Metric: least value of a released candidate."
    )
    maximums: dict[str, float] = Field(
        default_factory=dict,
        description="Metric: value above which the future must have leaked in; stops every release.",
    )
    network: str | None = Field(
        default=None, description="The candidate whose defeat by a baseline is reported as such."
    )


@dataclass(frozen=True, kw_only=True)
class ModelLayout:
    """The asset keys and folders of one model, and what its assets have in common."""

    model: str
    dataset: str
    group: str | None
    owners: list[str]

    @property
    def key(self) -> dg.AssetKey:
        return dg.AssetKey(["models", self.model])

    @property
    def evaluation_key(self) -> dg.AssetKey:
        return self.candidate_key("evaluation")

    @property
    def dataset_key(self) -> dg.AssetKey:
        return dg.AssetKey(self.dataset.split("/"))

    def candidate_key(self, candidate: str) -> dg.AssetKey:
        return dg.AssetKey([*self.key.path, candidate])

    def dataset_dir(self, settings: SettingsResource) -> Path:
        return settings.values.data_dir / self.dataset

    def folder(self, settings: SettingsResource, candidate: str) -> Path:
        return settings.values.training_dir / self.model / candidate

    def artifacts_dir(self, settings: SettingsResource) -> Path:
        return settings.values.data_dir / "mlflow" / self.model

    def spec(
        self,
        key: dg.AssetKey,
        *,
        deps: list[dg.AssetKey],
        description: str,
        kinds: set[str],
        skippable: bool = False,
    ) -> dg.AssetSpec:
        return dg.AssetSpec(
            key,
            deps=deps,
            description=description,
            group_name=self.group,
            owners=self.owners,
            kinds=kinds,
            skippable=skippable,
            metadata={PASSES_ON: self.dataset} if key == self.key else {},
        )
