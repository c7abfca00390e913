"""A date-partitioned Delta table, declared in YAML and made by one PySpark function."""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import TYPE_CHECKING, Annotated, Any

import dagster as dg
from pydantic import ConfigDict, Field

from scale_assets.components.automation import DAILY, when_dates_passed_their_checks
from scale_assets.components.calendar import Calendar
from scale_assets.resources import LakeResource, SparkResource
from scale_assets.transforms.tables import DateRange, TransformError

if TYPE_CHECKING:
    from scale_assets.transforms.materialize import Published

CHECK = "grain_is_unique"


class SparkTable(dg.Component, dg.Resolvable, dg.Model):
    """One daily-partitioned Delta table, made by a PySpark function.

    The function takes each input as a Snapshot under its own name, `dates` (the DateRange to make)
    and the params; it returns rows for exactly those dates, or a Rewrite when neighbouring dates
    change too (see scale_assets.transforms.tables). A run makes any range of dates and publishes
    them in one commit that replaces whole partitions, so repeating it changes nothing.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)  # for the condition

    table: str = Field(description="Asset key and folder in the lake.", examples=["daily_views"])
    function: str = Field(
        description="Dotted path of the function that makes the rows.",
        examples=["scale_assets.transforms.interactions.interaction_counts", "shop.views.daily"],
    )
    inputs: dict[str, str] = Field(
        description="Parameter of the function: asset key of the lake table that it reads.",
        examples=[{"events": "raw/clicks"}],
    )
    params: dict[str, Any] = Field(
        default_factory=dict, description="The function's other parameters, by name."
    )
    grain: str = Field(
        description="What a row is, in words.", examples=["One row per user and day."]
    )
    key: list[str] = Field(
        min_length=1,
        description="Columns that identify a row; a repeated key fails the run before it publishes.",
    )
    partition_by: str = Field(
        description="Date column (UTC) of the rows that partitions the table.",
        examples=["event_date"],
    )
    calendar: Calendar = Field(description="The dates that the table can have.")
    description: str = Field(default="", description="Shown in the UI, before the grain.")
    group: str | None = Field(default=None, description="Group of the asset in the UI.")
    owners: list[str] = Field(
        default_factory=list, description="Users or teams.", examples=[["team:data"]]
    )
    automation_condition: Annotated[
        dg.AutomationCondition | None,
        dg.Resolver.default(
            model_field_type=str | None,
            description="When to run by itself; by default as soon as inputs passed their checks.",
        ),
    ] = None

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:  # noqa: ARG002
        transform = self._load_function()
        spec = self._spec(transform)

        @dg.multi_asset(
            name=self.table.replace("/", "__"),
            specs=[spec],
            check_specs=[
                dg.AssetCheckSpec(
                    CHECK,
                    asset=spec.key,
                    blocking=True,
                    description=f"No two rows share {self.key}.",
                )
            ],
            backfill_policy=dg.BackfillPolicy.single_run(),
            pool="spark",
        )
        def spark_table(
            context: dg.AssetExecutionContext, lake: LakeResource, spark: SparkResource
        ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
            from scale_assets.transforms.materialize import GrainBroken, materialize

            keys = context.partition_key_range
            asked = DateRange(date.fromisoformat(keys.start), date.fromisoformat(keys.end))
            present = self._dates_present(lake)
            try:
                with spark.step() as session:
                    published = materialize(
                        transform,
                        spark=session,
                        lake=lake.lake(),
                        table=self.table,
                        inputs=self.inputs,
                        params=self.params,
                        dates=asked,
                        partition_by=self.partition_by,
                        key=self.key,
                    )
            except GrainBroken as error:
                yield dg.AssetCheckResult(
                    check_name=CHECK,
                    asset_key=spec.key,
                    passed=False,
                    metadata={"num_repeated_keys": error.num_keys, "example": error.example},
                )
                raise dg.Failure(str(error), allow_retries=False) from error
            self._describe_partitions(context, asked, published, present)
            yield dg.MaterializeResult(
                asset_key=spec.key,
                metadata=self._run_metadata(published),
                check_results=[dg.AssetCheckResult(check_name=CHECK, passed=True)],
            )

        return dg.Definitions(assets=[spark_table])

    def _load_function(self) -> Callable[..., Any]:
        """The declared function, refused at load time if it cannot take what is declared."""
        module, _, name = self.function.rpartition(".")
        try:
            transform: Callable[..., Any] = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise TransformError(
                f"table {self.table}: function {self.function!r} cannot be imported ({error}); "
                "give the dotted path of a function in an installed module"
            ) from error
        try:
            inspect.signature(transform).bind(**self.inputs, dates=None, **self.params)
        except TypeError as error:
            raise TransformError(
                f"table {self.table}: {self.function}{inspect.signature(transform)} does not take "
                f"the declared inputs {sorted(self.inputs)} and params {sorted(self.params)}: {error}"
            ) from error
        return transform

    def _spec(self, transform: Callable[..., Any]) -> dg.AssetSpec:
        return dg.AssetSpec(
            dg.AssetKey(self.table.split("/")),
            deps=[dg.AssetKey(source.split("/")) for source in self.inputs.values()],
            description=f"{self.description}\n\n{self.grain}".strip(),
            group_name=self.group,
            owners=self.owners,
            kinds={"spark", "deltalake"},
            tags=DAILY,
            partitions_def=self.calendar.partitions(),
            automation_condition=self.automation_condition or when_dates_passed_their_checks(),
            metadata={"grain": self.grain, "function": self.function, **self._lineage(transform)},
        )

    def _lineage(self, transform: Callable[..., Any]) -> Mapping[str, Any]:
        declared = getattr(transform, "lineage", None)
        if declared is None:
            return {}
        columns = {
            column: [
                dg.TableColumnDep(dg.AssetKey(self.inputs[name].split("/")), column_name=source)
                for name, source in sources
            ]
            for column, sources in declared(**self.params).items()
        }
        return {"dagster/column_lineage": dg.TableColumnLineage(columns)}

    def _dates_present(self, lake: LakeResource) -> set[str]:
        tables = lake.lake()
        if not tables.exists(self.table):
            return set()
        return {values[self.partition_by] for values in tables.open(self.table).partitions()}

    def _describe_partitions(
        self,
        context: dg.AssetExecutionContext,
        asked: DateRange,
        published: "Published",
        present: set[str],
    ) -> None:
        """Row counts for each date asked for; an event for each other date that was rewritten."""
        key = dg.AssetKey(self.table.split("/"))
        calendar = self.calendar.partitions()
        for day in published.dates.days():
            num_rows = published.rows_per_date.get(day, 0)
            metadata = {"dagster/partition_row_count": num_rows}
            if day in asked:
                context.add_asset_metadata(metadata, key, partition_key=day.isoformat())
            elif (num_rows or day.isoformat() in present) and calendar.has_partition_key(
                day.isoformat()
            ):
                context.log_event(
                    dg.AssetMaterialization(
                        key,
                        partition=day.isoformat(),
                        description="Rewritten because rows of a neighbouring date changed.",
                        metadata={**metadata, "delta_version": published.version},
                    )
                )

    def _run_metadata(self, published: "Published") -> dict[str, Any]:
        columns = [dg.TableColumn(field.name, type=str(field.type)) for field in published.schema]
        return {
            "dagster/column_schema": dg.TableSchema(columns),
            "delta_version": published.version,
            "input_versions": published.input_versions,
            "num_rows": published.num_rows,
            "replaced": f"{published.dates.first} to {published.dates.last}",
            "spark_seconds": round(published.spark_seconds, 3),
            "publish_seconds": round(published.publish_seconds, 3),
        }
