"""The models of a dbt project as assets, their tests as checks, their marts in the lake."""

import json
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
from dagster_dbt import DbtProject, dbt_assets
from pydantic import Field

from scale_assets.components.calendar import Calendar
from scale_assets.components.dbt_runs import open_project, prepare_manifest
from scale_assets.components.dbt_translator import WarehouseTranslator
from scale_assets.components.warehouse_run import WarehouseRun
from scale_assets.errors import ScaleError
from scale_assets.resources import LakeResource, SettingsResource
from scale_assets.settings import load_settings


class CalendarMissing(ScaleError):
    """Models go by date, and no dates are declared."""


class WarehouseModels(dg.Component, dg.Resolvable, dg.Model):
    """A dbt project on DuckDB: its models as assets, its data tests as checks.

    Sources are lake tables (their asset keys stand in the sources' meta), read as of one Delta
    version each. Models with the daily tag are partitioned by date: a run sees only the dates of
    its own range in sources that declare a date_column. Models with the published tag go to the
    lake under their own name, one commit each, once all their tests have passed.
    """

    project: str = Field(description="Folder of the dbt project, from the project's root.")
    select: str = Field(
        default="fqn:*", description="dbt selection of the models that become assets."
    )
    calendar: Calendar | None = Field(
        default=None, description="The dates of the daily models; needed if there are any."
    )
    daily_tag: str = Field(default="daily", description="dbt tag of the models that go by date.")
    published_tag: str = Field(default="mart", description="dbt tag of the models for the lake.")
    source_schema: str = Field(
        default="lake", description="Schema in which the sources' views are made."
    )
    groups: dict[str, str] = Field(
        default_factory=dict,
        description="Asset group by the model's folder; other models go to the group `warehouse`.",
        examples=[{"staging": "warehouse_staging", "marts": "warehouse_marts"}],
    )
    owners: list[str] = Field(
        default_factory=list, description="Users or teams.", examples=[["team:data"]]
    )

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        settings = load_settings()
        folder = Path(context.project_root, self.project)
        prepare_manifest(settings, folder)
        project = open_project(folder, target_dir=settings.dbt_target_dir)
        manifest = json.loads(project.manifest_path.read_bytes())
        assets = [self._assets(project, manifest, is_daily=False)]
        if any(self.daily_tag in node["tags"] for node in manifest["nodes"].values()):
            assets.append(self._assets(project, manifest, is_daily=True))
        return dg.Definitions(assets=assets)

    def _assets(
        self, project: DbtProject, manifest: Mapping[str, Any], *, is_daily: bool
    ) -> dg.AssetsDefinition:
        daily = f"tag:{self.daily_tag}"

        @dbt_assets(
            manifest=manifest,
            project=project,
            name=f"{project.name}_{'daily' if is_daily else 'models'}",
            select=f"{self.select},{daily}" if is_daily else self.select,
            exclude=None if is_daily else daily,
            partitions_def=self._partitions() if is_daily else None,
            backfill_policy=dg.BackfillPolicy.single_run() if is_daily else None,
            dagster_dbt_translator=WarehouseTranslator(groups=self.groups, owners=self.owners),
            pool="duckdb",
        )
        def models(
            context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
        ) -> Iterator[Any]:
            run = WarehouseRun(
                project=project,
                manifest=manifest,
                source_schema=self.source_schema,
                published_tag=self.published_tag,
                daily_tag=self.daily_tag,
                lake=lake.lake(),
                path=settings.values.warehouse_path,
                dates=_dates(context) if is_daily else None,
            )
            yield from run.events(context)

        built: dg.AssetsDefinition = models
        return built

    def _partitions(self) -> dg.PartitionsDefinition:
        if self.calendar is None:
            raise CalendarMissing(
                f"models tagged {self.daily_tag!r} go by date, but `calendar` is missing; "
                "declare its first day, such as calendar: {start: 2012-01-01}"
            )
        return self.calendar.partitions()


def _dates(context: dg.AssetExecutionContext) -> tuple[date, date]:
    keys = context.partition_key_range
    return date.fromisoformat(keys.start), date.fromisoformat(keys.end)
