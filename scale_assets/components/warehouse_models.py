"""The models of a dbt project as assets, their tests as checks, their marts in the lake."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import dagster as dg
import msgspec
from dagster_dbt import DbtProject
from pydantic import Field

from scale_assets.components.calendar import Calendar
from scale_assets.components.columns import LINEAGE
from scale_assets.components.dbt_columns import spec_metadata
from scale_assets.components.dbt_lineage import prepared_lineage
from scale_assets.components.dbt_runs import prepare_manifest
from scale_assets.components.dbt_specs import ALL, asset_specs, selected_ids, with_tests
from scale_assets.components.dbt_translator import WarehouseTranslator
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
    select: str = Field(default=ALL, description="dbt selection of the models that become assets.")
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
        project = prepare_manifest(load_settings(), Path(context.project_root, self.project))
        manifest = msgspec.json.decode(project.manifest_path.read_bytes())
        selected = selected_ids(self.select, manifest=manifest, project=project)
        tagged = {each for each in selected if self.daily_tag in manifest["nodes"][each]["tags"]}
        daily = selected & with_tests(tagged, manifest=manifest)
        columns = self._columns(project, manifest)
        assets = [self._assets(project, manifest, columns, selected - daily, is_daily=False)]
        if daily:
            assets.append(self._assets(project, manifest, columns, daily, is_daily=True))
        return dg.Definitions(assets=assets)

    def _assets(
        self,
        project: DbtProject,
        manifest: Mapping[str, Any],
        columns: Mapping[str, Mapping[str, Any]],
        ids: AbstractSet[str],
        *,
        is_daily: bool,
    ) -> dg.AssetsDefinition:
        """One step for all models of ``ids``; dbt gets the same selection in its own words."""
        specs, checks = asset_specs(
            ids,
            manifest=manifest,
            project=project,
            translator=self._translator(is_daily=is_daily),
            columns=columns,
        )
        lineage = {each: said[LINEAGE] for each, said in columns.items() if LINEAGE in said}
        daily = f"tag:{self.daily_tag}"
        selection = (
            {"dagster_dbt/select": f"{self.select},{daily}"}
            if is_daily
            else {"dagster_dbt/select": self.select, "dagster_dbt/exclude": daily}
        )

        @dg.multi_asset(
            name=f"{project.name}_{'daily' if is_daily else 'models'}",
            specs=specs,
            check_specs=checks,
            can_subset=True,
            allow_arbitrary_check_specs=True,
            op_tags=selection,
            partitions_def=self._partitions() if is_daily else None,
            backfill_policy=dg.BackfillPolicy.single_run() if is_daily else None,
            pool="duckdb",
        )
        def models(
            context: dg.AssetExecutionContext, lake: LakeResource, settings: SettingsResource
        ) -> Iterator[Any]:
            from scale_assets.components.warehouse_run import WarehouseRun

            run = WarehouseRun(
                project=project,
                manifest=manifest,
                lineage=lineage,
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

    def _translator(self, *, is_daily: bool) -> WarehouseTranslator:
        return WarehouseTranslator(groups=self.groups, owners=self.owners, is_daily=is_daily)

    def _columns(
        self, project: DbtProject, manifest: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """What the models' assets say of their columns, by unique id."""
        translator = self._translator(is_daily=False)  # for keys, which are the same
        nodes = {**manifest["nodes"], **manifest["sources"]}

        @cache
        def key_of(unique_id: str) -> dg.AssetKey:
            key: dg.AssetKey = translator.get_asset_key(nodes[unique_id])
            return key

        return {
            unique_id: spec_metadata(
                unique_id, lineage, manifest=manifest, key_of=key_of, folder=self.project
            )
            for unique_id, lineage in prepared_lineage(project.target_path).items()
        }

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
