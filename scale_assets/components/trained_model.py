"""A model declared in YAML: its candidates, how they are compared, and which one is registered."""

from collections import defaultdict
from typing import Self

import dagster as dg
from pydantic import Field, model_validator

from scale_assets.components.model_evaluation import evaluation_asset, registered_asset
from scale_assets.components.model_layout import Candidate, GateRule, ModelLayout
from scale_assets.components.model_training import child_asset, spark_asset


class TrainedModel(dg.Component, dg.Resolvable, dg.Model):
    """Trains every candidate, scores all from their predictions alone, registers the best.

    Yields `models/<name>/<candidate>` for each candidate, `models/<name>/evaluation` with the
    gate as its checks, and `models/<name>`, the version registered in MLflow.
    """

    name: str = Field(
        description="Name of the model, of its MLflow experiment and of its registry entry.",
        examples=["churn"],
    )
    description: str = Field(default="", description="What the model answers; shown in the UI.")
    dataset: str = Field(
        description="Asset key of the training set, which is also its folder under the data folder.",
        examples=["training/churn/dataset"],
    )
    candidates: list[Candidate] = Field(min_length=1, description="What is trained and compared.")
    gate: GateRule = Field(description="Which candidate may be released.")
    group: str | None = Field(default=None, description="Group of the assets in the UI.")
    owners: list[str] = Field(
        default_factory=list, description="Users or teams.", examples=[["team:data-science"]]
    )
    schedule: str | None = Field(
        default=None,
        description="Cron expression (UTC) on which the model is trained anew; without one it is "
        "trained on request only, never by each late event.",
        examples=["0 4 * * 1"],
    )

    @model_validator(mode="after")
    def _names_are_sound(self) -> Self:
        names = [candidate.name for candidate in self.candidates]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"model {self.name!r} declares the candidates {repeated} twice")
        if "evaluation" in names:
            raise ValueError(
                f"model {self.name!r}: no candidate can be called 'evaluation', "
                f"because models/{self.name}/evaluation compares them"
            )
        named = {*self.gate.releasable, *([self.gate.network] if self.gate.network else [])}
        if not named <= set(names):
            raise ValueError(
                f"gate of model {self.name!r} names {sorted(named - set(names))}, "
                f"which are not among its candidates {names}"
            )
        return self

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002
        layout = ModelLayout(
            model=self.name, dataset=self.dataset, group=self.group, owners=self.owners
        )
        assets = [
            *(child_asset(layout, group) for group in self._processes()),
            *(spark_asset(layout, each) for each in self.candidates if each.function),
            evaluation_asset(layout, self.candidates, self.gate),
            registered_asset(layout, self.gate, self.description),
        ]
        return dg.Definitions(assets=assets, schedules=self._schedules(assets))

    def _processes(self) -> list[list[Candidate]]:
        """Candidates that share a process name and a number of ranks are trained together."""
        groups: dict[tuple[str, int], list[Candidate]] = defaultdict(list)
        for candidate in self.candidates:
            if candidate.module is not None:
                groups[candidate.process_name, candidate.num_ranks].append(candidate)
        return list(groups.values())

    def _schedules(self, assets: list[dg.AssetsDefinition]) -> list[dg.ScheduleDefinition]:
        if self.schedule is None:
            return []
        dataset = dg.AssetKey(self.dataset.split("/"))
        keys = [dataset, *(key for asset in assets for key in asset.keys)]
        return [
            dg.ScheduleDefinition(
                name=f"train_{self.name}",
                target=dg.AssetSelection.assets(*keys),
                cron_schedule=self.schedule,
                execution_timezone="UTC",
                description=f"Makes the training set of {self.name}, trains every candidate, registers the best.",
            )
        ]
