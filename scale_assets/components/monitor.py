"""Statistics and drift of feature views, or of a table: kept, checked and plotted."""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

import dagster as dg
from pydantic import Field, model_validator

from scale_assets.components.automation import when_inputs_passed_their_checks
from scale_assets.components.columns import ColumnUse, uses_metadata
from scale_assets.components.feature_views import FeatureViews, table_key
from scale_assets.components.monitored import (
    Alignment,
    MonitorError,
    Rows,
    Target,
    Threshold,
    WatchedTable,
)
from scale_assets.features.repo import read_repo
from scale_assets.resources import LakeResource

if TYPE_CHECKING:
    from scale_assets.lake import Lake
    from scale_assets.monitoring.drift import Limits
    from scale_assets.monitoring.findings import Findings
    from scale_assets.monitoring.freshness import Age
    from scale_assets.monitoring.kept import Update
    from scale_assets.monitoring.population import Comparison
    from scale_assets.monitoring.watched import Watched

CHECK = "has_not_drifted"


class Monitor(dg.Component, dg.Resolvable, dg.Model):
    """Keeps statistics per feature and date, and compares each window of dates with a reference.

    One asset `monitoring/<name>/<view>` per view brings three tables of the lake up to date,
    `monitoring/<name>/statistics`, `.../drift` and `.../freshness`, from what commits changed; its
    check names the features that drifted in the newest window.
    """

    name: str = Field(description="Asset key and folder of the tables.", examples=["features"])
    feature_views: str | None = Field(
        default=None,
        description="Path of the FeatureViews whose views are watched, from the defs folder.",
        examples=["features/features"],
    )
    views: list[str] = Field(
        default_factory=list, description="Which of its views; none means all."
    )
    table: WatchedTable | None = Field(default=None, description="A table, in place of views.")
    reference: Rows = Field(description="What is compared with, as the rows a model learned from.")
    current: Rows = Field(
        default_factory=Rows, description="What is compared; by default all rows."
    )
    window_days: int = Field(
        default=7, gt=0, description="Days that are compared at a time; 7 start on Mondays."
    )
    aligned_by: Alignment | None = Field(default=None, description="Compare like with like.")
    min_entities: int = Field(
        default=200, gt=0, description="With fewer entities on either side there is no verdict."
    )
    psi: Threshold = Field(
        default_factory=lambda: Threshold(warn=0.1, fail=0.25),
        description="Of the population stability index, beyond what chance gives on average.",
    )
    null_share: Threshold = Field(
        default_factory=lambda: Threshold(warn=0.05, fail=0.2),
        description="Of the change of the share of nulls, 0 to 1.",
    )
    overrides: dict[str, Threshold] = Field(
        default_factory=dict,
        description="view.feature, with * for any: its own thresholds of the index; the first counts.",
        examples=[{"user_activity.clicks_*": {"warn": 0.2, "fail": 0.5}}],
    )
    unjudged: list[str] = Field(
        default_factory=list,
        description="view.feature, with * for any: measured, and never found to have drifted.",
    )
    severity: Literal["warn", "error"] = Field(
        default="warn",
        description="error: beyond `fail` the run fails, and what depends on the asset waits.",
    )
    group: str = Field(default="monitoring", description="Group of the assets in the UI.")
    owners: list[str] = Field(
        default_factory=list, description="Users or teams.", examples=[["team:data"]]
    )

    @model_validator(mode="after")
    def _says_what_and_against_what(self) -> "Monitor":
        if (self.feature_views is None) == (self.table is None):
            raise ValueError(f"monitor {self.name!r}: give either feature_views or table")
        if not (self.reference.start or self.reference.end or self.reference.where):
            raise ValueError(
                f"monitor {self.name!r}: reference has no start, end or where; all rows compared "
                "with all rows never drift"
            )
        return self

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        targets = self._targets(context)
        self._refuse_unknown_features(targets)
        return dg.Definitions(assets=[self._asset(target) for target in targets])

    # ------------------------------------------------------------- what is watched

    def _targets(self, context: dg.ComponentLoadContext) -> list[Target]:
        if self.table is not None:
            return [Target(self.table.name, self.table.name, None, None, None)]
        assert self.feature_views is not None
        declared = context.load_component(self.feature_views, FeatureViews)
        views = read_repo(context.project_root / declared.repo).views
        for name in self.views:
            if name not in views:
                raise MonitorError(
                    f"monitor {self.name!r} names view {name!r}; {declared.repo} has {sorted(views)}"
                )
        return [
            Target(name, view.source.table, view, declared.clock, _days(declared, name))
            for name, view in views.items()
            if not self.views or name in self.views
        ]

    def _refuse_unknown_features(self, targets: list[Target]) -> None:
        """A pattern that matches nothing is a slip of the pen; of a table the columns come later."""
        known = [
            f"{target.name}.{column}"
            for target in targets
            if target.view is not None
            for column, _ in target.view.columns
        ]
        for pattern in [*self.overrides, *self.unjudged] if known else []:
            if not any(fnmatchcase(name, pattern) for name in known):
                raise MonitorError(
                    f"monitor {self.name!r}: {pattern!r} matches no view.feature, such as {known[0]}"
                )

    def _limits(self, watched: "Watched") -> "dict[str, Limits]":
        """How each feature is judged; those that are not are absent."""
        from scale_assets.monitoring.drift import Bounds, Limits

        nulls = Bounds(**self.null_share.model_dump())
        limits = {}
        for feature in watched.features:
            name = f"{watched.name}.{feature.name}"
            if any(fnmatchcase(name, pattern) for pattern in self.unjudged):
                continue
            own = (each for pattern, each in self.overrides.items() if fnmatchcase(name, pattern))
            psi = Bounds(**next(own, self.psi).model_dump())
            limits[feature.name] = Limits(psi=psi, null_share=nulls)
        return limits

    def _comparison(self) -> "Comparison":
        from scale_assets.monitoring.population import Alignment as Aligned
        from scale_assets.monitoring.population import Comparison, Slice

        def chosen(rows: Rows) -> Slice:
            return Slice(
                start=date.fromisoformat(rows.start) if rows.start else None,
                end=date.fromisoformat(rows.end) if rows.end else None,
                where=rows.where,
            )

        return Comparison(
            reference=chosen(self.reference),
            current=chosen(self.current),
            window_days=self.window_days,
            alignment=Aligned(**self.aligned_by.model_dump()) if self.aligned_by else None,
            min_entities=self.min_entities,
        )

    def _watched(self, target: Target, lake: "Lake") -> "Watched":
        from scale_assets.monitoring.watched import watched_table, watched_view

        if target.view is not None:
            return watched_view(target.view)
        assert self.table is not None
        return watched_table(
            self.table.name,
            lake.schema(self.table.name),
            entity=tuple(self.table.entity),
            time=self.table.time,
        )

    def _reads(self, target: Target) -> list[ColumnUse]:
        """Columns by name, so that lineage tells whom a change reaches."""
        view, table = target.view, self.table
        if view is not None and view.stream is not None:
            names = [name for each in view.stream.sources.values() for name in each]
        elif view is not None:
            names = [*view.join_keys, view.source.feature_time, *(name for name, _ in view.columns)]
        else:
            assert table is not None
            names = [*table.entity, table.time]
        reads = [ColumnUse(table_key(target.table), name, "") for name in dict.fromkeys(names)]
        if target.clock is not None:
            reads.append(ColumnUse(table_key(target.clock.table), target.clock.column, ""))
        return reads

    # ------------------------------------------------------------- the asset

    def _asset(self, target: Target) -> dg.AssetsDefinition:
        key = dg.AssetKey(["monitoring", self.name, *target.name.split("/")])
        tables = [target.table, *([target.clock.table] if target.clock else [])]
        spec = dg.AssetSpec(
            key,
            deps=[table_key(table) for table in dict.fromkeys(tables)],
            group_name=self.group,
            owners=self.owners,
            kinds={"duckdb"},
            automation_condition=when_inputs_passed_their_checks(),
            description=(
                f"Statistics of {target.name} per feature and date, its drift per {self.window_days} "
                "days, its freshness. Reads the dates that commits changed since the last time."
            ),
            metadata=uses_metadata(reads=self._reads(target)),
        )

        @dg.multi_asset(
            name="__".join(key.path),
            specs=[spec],
            check_specs=[
                dg.AssetCheckSpec(
                    CHECK,
                    asset=key,
                    blocking=self.severity == "error",
                    description="In the newest window no feature moved beyond its thresholds.",
                )
            ],
        )
        def monitoring(lake: LakeResource) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
            from scale_assets.monitoring.findings import newest_findings
            from scale_assets.monitoring.kept import Tables, bring_up_to_date

            tables = Tables.of(self.name)
            watched = self._watched(target, lake.lake())
            update = bring_up_to_date(
                lake.lake(), watched, self._comparison(), self._limits(watched), tables
            )
            age = _keep_freshness(lake.lake(), tables.freshness, watched, target)
            found = newest_findings(lake.lake(), tables.drift, watched.name)
            yield dg.MaterializeResult(asset_key=key, metadata=_metadata(update, age, found))
            yield self._result(key, found)

        return monitoring

    def _result(self, key: dg.AssetKey, found: "Findings") -> dg.AssetCheckResult:
        from scale_assets.monitoring.drift import Verdict

        is_error = self.severity == "error" and found.worst is Verdict.FAIL
        return dg.AssetCheckResult(
            asset_key=key,
            check_name=CHECK,
            passed=not found.drifted,
            severity=dg.AssetCheckSeverity.ERROR if is_error else dg.AssetCheckSeverity.WARN,
            description=found.sentence,
            metadata={
                "drifted": [each.feature for each in found.drifted],
                "features": dg.MetadataValue.md(found.markdown()),
                **found.numbers(),
            },
        )


def _days(declared: FeatureViews, view: str) -> timedelta | None:
    days = declared.max_age_days.get(view)
    return None if days is None else timedelta(days=days)


def _keep_freshness(lake: "Lake", table: str, watched: "Watched", target: Target) -> "Age | None":
    """How old the newest value is by the world's clock, where one is declared."""
    from scale_assets.features.asof import connect
    from scale_assets.features.loading import newest
    from scale_assets.monitoring.freshness import ages, keep_ages

    if target.clock is None:
        return None
    clock = newest(lake, target.clock.table, target.clock.column)
    with connect() as connection:
        found = ages(connection, watched, lake.duckdb_relation_sql(watched.table), clock)
    keep_ages(lake, table, watched.name, found, max_age=target.max_age)
    return found[-1] if found else None


def _metadata(update: "Update", age: "Age | None", found: "Findings") -> Mapping[str, Any]:
    """Numbers that the UI plots over the asset's runs, and where they are from."""
    return {
        "num_dates_computed": update.num_dates,
        "num_windows_computed": update.num_windows,
        "is_full": update.is_full,
        "delta_version": update.delta_version,
        "previous_delta_version": update.previous_version,
        **({"age_hours": age.hours} if age else {}),
        **found.numbers(),
    }
