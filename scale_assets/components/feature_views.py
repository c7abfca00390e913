"""The views of a Feast repository as assets: the registry, and one online load per view."""

from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field, PrivateAttr

from scale_assets.components.automation import when_inputs_passed_their_checks
from scale_assets.components.columns import ColumnUse, uses_metadata
from scale_assets.components.stream_views import stream_asset
from scale_assets.features.repo import FeatureRepo, FeatureRepoError, ViewDeclaration, read_repo
from scale_assets.resources import LakeResource, SettingsResource

if TYPE_CHECKING:
    from scale_assets.features.stores import Backend

REGISTRY = dg.AssetKey("feature_registry")


def online_key(view: str) -> dg.AssetKey:
    """The asset of a view's online values."""
    return dg.AssetKey(["online", view])


class Clock(dg.Resolvable, dg.Model):
    """What "now" is: the newest time in a column, so that a replayed world has its own."""

    table: str = Field(description="Lake table that grows with time.", examples=["raw/clicks"])
    column: str = Field(description="Its time of arrival.", examples=["received_at"])


class FeatureViews(dg.Component, dg.Resolvable, dg.Model):
    """One asset for Feast's registry and one per view for the online store.

    The repository's files are read, not run, while definitions load (Feast takes long to import),
    so views, fields and services must be literal; the registry asset checks that Feast agrees.
    """

    repo: str = Field(
        description="Folder of the Feast repository, from the project's root.",
        examples=["feature_repo"],
    )
    clock: Clock = Field(description="What the age of a view's newest value is measured against.")
    max_age_days: dict[str, float] = Field(
        default_factory=dict,
        description="View: how old its newest feature_time may be, in days; others have no check.",
        examples=[{"user_activity": 1}],
    )
    group: str = Field(default="features", description="Group of the assets in the UI.")
    owners: list[str] = Field(
        default_factory=list, description="Users or teams.", examples=[["team:data"]]
    )

    _views: list[ViewDeclaration] = PrivateAttr()

    def declared_views(self) -> list[ViewDeclaration]:
        """The repository's views; known once the definitions are built."""
        return self._views

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        folder = context.project_root / self.repo
        repo = read_repo(folder)
        self._views = list(repo.views.values())
        unknown = sorted(set(self.max_age_days) - repo.views.keys())
        if unknown:
            raise FeatureRepoError(
                f"max_age_days names view {unknown[0]!r}, which {self.repo} does not declare; "
                f"it has {sorted(repo.views)}"
            )
        return dg.Definitions(
            assets=[
                self._registry(folder, repo),
                *(self._kept_online(view, _picks(repo, view)) for view in repo.views.values()),
            ],
            asset_checks=[
                self._freshness(repo.views[name], timedelta(days=days))
                for name, days in self.max_age_days.items()
            ],
        )

    def _registry(self, folder: Path, repo: FeatureRepo) -> dg.AssetsDefinition:
        @dg.asset(
            key=REGISTRY,
            deps=[table_key(view.source.table) for view in repo.views.values()],
            group_name=self.group,
            owners=self.owners,
            kinds={"feast", "sqlite"},
            automation_condition=when_inputs_passed_their_checks(),
            description="Entities, feature views and services, as Feast knows them.",
        )
        def feature_registry(settings: SettingsResource) -> dg.MaterializeResult[Any]:
            from scale_assets.features.registry import apply_repo

            settings.values.apply()
            applied = apply_repo(folder, repo)
            return dg.MaterializeResult(
                metadata={
                    "dagster/row_count": applied.num_views,
                    "num_entities": applied.num_entities,
                    "num_services": applied.num_services,
                    "views": {view.name: len(view.columns) for view in repo.views.values()},
                    "deleted": list(applied.deleted),
                }
            )

        return feature_registry

    def _kept_online(self, view: ViewDeclaration, picks: list[ColumnUse]) -> dg.AssetsDefinition:
        if view.stream is None:
            return self._online(view, picks)
        return stream_asset(
            view,
            key=online_key(view.name),
            deps=[table_key(view.source.table), REGISTRY],
            group_name=self.group,
            owners=self.owners,
            metadata={
                "dagster/column_schema": _column_schema(view),
                "dagster/column_lineage": view_lineage(view),
                **uses_metadata(names=picks),
            },
        )

    def _online(self, view: ViewDeclaration, picks: list[ColumnUse]) -> dg.AssetsDefinition:
        clock = self.clock

        @dg.asset(
            key=online_key(view.name),
            deps=[table_key(view.source.table), REGISTRY],
            group_name=self.group,
            owners=self.owners,
            kinds={"feast"},
            automation_condition=when_inputs_passed_their_checks(),
            description=(
                f"Latest {view.source.table}{_of_each(view)}, packed for serving. "
                "Reads what commits changed since the version that the store equals."
            ),
            metadata={
                "dagster/column_schema": _column_schema(view),
                "dagster/column_lineage": view_lineage(view),
                **uses_metadata(names=picks),
            },
        )
        def online(lake: LakeResource, settings: SettingsResource) -> dg.MaterializeResult[Any]:
            from scale_assets.features.codec import to_micros
            from scale_assets.features.loading import load_view, newest

            now = newest(lake.lake(), clock.table, clock.column)
            with online_backend(settings) as backend:
                report = load_view(lake.lake(), view, backend, clock=to_micros(now))
            return dg.MaterializeResult(
                metadata={
                    "num_considered": report.num_considered,
                    "num_without_known_at": report.num_unknown,
                    "num_written": report.num_written,
                    "num_removed": report.num_removed,
                    "is_full": report.is_full,
                    "delta_version": report.delta_version,
                    "previous_delta_version": report.previous_version,
                    "clock": dg.MetadataValue.timestamp(now),
                }
            )

        return online

    def _freshness(self, view: ViewDeclaration, max_age: timedelta) -> dg.AssetChecksDefinition:
        clock = self.clock

        @dg.asset_check(
            asset=online_key(view.name),
            name="is_fresh",
            description=f"The newest feature_time is at most {max_age / timedelta(days=1):g} days "
            f"before the newest {clock.column} of {clock.table}.",
        )
        def is_fresh(lake: LakeResource, settings: SettingsResource) -> dg.AssetCheckResult:
            from scale_assets.features.loading import newest
            from scale_assets.features.reader import OnlineReader

            now = newest(lake.lake(), clock.table, clock.column)
            with online_backend(settings) as backend:
                found = OnlineReader(backend).newest_feature_time(view.name)
            metadata: dict[str, Any] = {
                "clock": dg.MetadataValue.timestamp(now),
                "max_age_hours": max_age / timedelta(hours=1),
            }
            if found is None:
                return dg.AssetCheckResult(passed=False, metadata=metadata | {"num_entities": 0})
            age = now - found
            return dg.AssetCheckResult(
                passed=age <= max_age,
                metadata=metadata
                | {
                    "newest_feature_time": dg.MetadataValue.timestamp(found),
                    "age_hours": age / timedelta(hours=1),
                },
            )

        return is_fresh


def online_backend(settings: SettingsResource) -> "Backend":
    """The online store that the settings name."""
    from scale_assets.features.stores import open_backend

    values = settings.values
    return open_backend(values.online_store, clock=values.online_store_clock)


def table_key(table: str) -> dg.AssetKey:
    """The asset that writes a lake table: its key is the table's path."""
    return dg.AssetKey(table.split("/"))


def view_lineage(view: ViewDeclaration) -> dg.TableColumnLineage:
    """Each column comes from that of its name in the view's table, or is made of events there."""
    table = table_key(view.source.table)
    names = [*view.join_keys, *(name for name, _ in view.columns)]
    sources = {name: [name] for name in names} if view.stream is None else view.stream.sources
    return dg.TableColumnLineage(
        {name: [dg.TableColumnDep(table, source) for source in sources[name]] for name in names}
    )


def _picks(repo: FeatureRepo, view: ViewDeclaration) -> list[ColumnUse]:
    """The view's columns that services name, and what the view itself reads besides features."""
    table, key = table_key(view.source.table), online_key(view.name)
    read = [view.source.feature_time, *([view.source.known_at] if view.source.known_at else [])]
    if view.stream is not None:
        read = list(dict.fromkeys(name for each in view.stream.sources.values() for name in each))
    return [
        *(ColumnUse(table, name, str(view.declared_in)) for name in read),
        *(
            ColumnUse(key, pick.column, f"{pick.file}:{pick.line}")
            for views in repo.services.values()
            for each in views
            if each.name == view.name
            for pick in each.picked
        ),
    ]


def _of_each(view: ViewDeclaration) -> str:
    """Nothing for a view about everything, which has one row."""
    return f" of every {' and '.join(view.join_keys)}" if view.join_keys else ""


def _column_schema(view: ViewDeclaration) -> dg.TableSchema:
    keys = [dg.TableColumn(name, "string") for name in view.join_keys]
    return dg.TableSchema(columns=[*keys, *(dg.TableColumn(*column) for column in view.columns)])
