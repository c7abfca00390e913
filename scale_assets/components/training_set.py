"""A training set declared in YAML: which labels or events, which features, which split."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import dagster as dg
from pydantic import Field, model_validator

from scale_assets.components.feature_views import REGISTRY, table_key
from scale_assets.components.training_columns import sequence_columns, tabular_columns
from scale_assets.features.repo import ViewDeclaration, read_repo
from scale_assets.resources import LakeResource, SettingsResource, SparkResource
from scale_assets.settings import load_settings

if TYPE_CHECKING:
    from scale_assets.features.dataset import Check
    from scale_assets.features.tabular import Built

_TABULAR_CHECKS = {
    "nothing_from_the_future": "No feature row describes, or became known at, a time after its label.",
    "every_label_once": "Rows in = rows out: each label row exactly once, in order.",
    "carried_columns_agree": "A label column that is also a feature has the feature's value.",
    "no_forbidden_columns": "No column that the declaration forbids.",
    "no_feature_tells_the_label": "No single feature predicts a label beyond the declared AUC.",
}
_SEQUENCE_CHECKS = {
    "every_event_once": "Each distinct entity, item and day of the events is one step.",
    "every_item_is_known": "The catalogue has every item that was opened.",
    "no_forbidden_columns": "No column that the declaration forbids.",
}


class Tabular(dg.Resolvable, dg.Model):
    """Label rows, each with the features that were known at its time."""

    table: str = Field(description="Lake table of labels, one row per entity and time.")
    entity: str = Field(description="Its entity column: the service's join key.")
    time: str = Field(description="Its time column (UTC): features are joined as known then.")
    labels: list[str] = Field(
        min_length=1, description="Boolean columns to predict; null is unknown."
    )
    carry: list[str] = Field(
        default_factory=list, description="Its other columns that the dataset keeps."
    )
    where: str | None = Field(
        default=None,
        description="SQL condition on its columns; rows that fail it are left out.",
        examples=["churned is not null"],
    )
    split_column: str = Field(description="Its column that says which split a row belongs to.")
    # Passed through: Dagster's templates would read "2013J" as an imaginary number.
    splits: Annotated[
        dict[str, list[str]],
        dg.Resolver.passthrough(
            description="Split: values of split_column. The first one is what models learn from.",
            examples=[{"train": ["2025"], "test": ["2026"]}],
        ),
    ] = Field(min_length=1)
    max_single_feature_auc: float = Field(
        gt=0.5,
        le=1,
        description="Highest AUC that any one feature may reach alone on the first split.",
    )

    @model_validator(mode="after")
    def _splits_are_disjoint(self) -> "Tabular":
        values = [value for chosen in self.splits.values() for value in chosen]
        doubled = sorted({value for value in values if values.count(value) > 1})
        if doubled:
            raise ValueError(f"splits: {doubled[0]!r} is in two splits; a row belongs to one")
        return self


class Sequence(dg.Resolvable, dg.Model):
    """What each entity opened, in order: one step per item and day."""

    events: str = Field(description="Lake table with one row or more per entity, item and date.")
    entities: str = Field(description="Lake table with one row per entity and its day zero.")
    join: list[str] = Field(min_length=1, description="Columns that join events to entities.")
    entity: str = Field(description="Identifier of an entity, in the table of entities.")
    carry: list[str] = Field(
        default_factory=list, description="Other columns of the entity that the dataset keeps."
    )
    day_zero: str = Field(description="Date column of the entity from which days are counted.")
    item: str = Field(description="Item column, of events and items alike.")
    date: str = Field(description="Date column of events.")
    order: str = Field(description="Column of events that orders the items of one day.")
    needs_day: int | None = Field(
        default=None, description="Made only once some entity has an event on or after this day."
    )
    items: str = Field(description="Lake table of the catalogue; its name is the file's.")
    item_columns: list[str] = Field(min_length=1, description="Its columns that the dataset keeps.")


class TrainingSet(dg.Component, dg.Resolvable, dg.Model):
    """One dataset folder, training/<name>/dataset, and the blocking checks that it passed.

    The folder replaces the former one only after every check has passed.
    """

    name: str = Field(description="Model that it is for; names the asset and the folder.")
    feature_service: str = Field(description="Feast service whose features the model reads.")
    repo: str = Field(
        default="feature_repo",
        description="Folder of the Feast repository, from the project's root.",
    )
    tabular: Tabular | None = Field(default=None, description="Labels and features in rows.")
    sequence: Sequence | None = Field(default=None, description="Items in order, per entity.")
    forbidden: list[str] = Field(
        default_factory=list,
        description="Patterns of columns that would give the label away.",
        examples=[["closed_*", "refund_*"]],
    )
    evaluation: dict[str, Any] = Field(
        default_factory=dict, description="Passed to the evaluation as it is."
    )
    group: str = Field(default="training", description="Group of the asset in the UI.")
    owners: list[str] = Field(default_factory=list, description="Users or teams.")
    description: str = Field(default="", description="Shown in the UI.")

    @model_validator(mode="after")
    def _has_one_kind(self) -> "TrainingSet":
        if (self.tabular is None) == (self.sequence is None):
            raise ValueError(f"training set {self.name!r} needs either tabular or sequence")
        return self

    @property
    def key(self) -> dg.AssetKey:
        """training/<name>/dataset, as its folder."""
        return dg.AssetKey(["training", self.name, "dataset"])

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        repo_folder = context.project_root / self.repo
        views = read_repo(repo_folder).service(self.feature_service)
        checks = _TABULAR_CHECKS if self.tabular else _SEQUENCE_CHECKS
        on_spark = self.tabular is not None and load_settings().feature_engine == "spark"

        @dg.multi_asset(
            name="__".join(self.key.path),
            specs=[self._spec(views)],
            check_specs=[
                dg.AssetCheckSpec(name, asset=self.key, blocking=True, description=description)
                for name, description in checks.items()
            ],
            pool="spark" if on_spark else None,
        )
        def training_set(
            context: dg.AssetExecutionContext,
            lake: LakeResource,
            settings: SettingsResource,
            spark: SparkResource,
        ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
            from scale_assets.features.dataset import NotEnoughHistory, replaced_folder

            settings.values.apply()
            folder = settings.values.training_dir / self.name / "dataset"
            try:
                with (
                    spark.step() if on_spark else nullcontext(),  # which the offline store finds
                    replaced_folder(folder) as staged,
                ):
                    built = self._build(lake, repo_folder, views, staged)
                    for check in built.checks:
                        yield _result(check, self.key)
                    _refuse_failed(self.name, built.checks, kept=folder)
            except NotEnoughHistory as early:
                context.log.warning(str(early))
                yield from (_not_yet(name, self.key, str(early)) for name in checks)
                return  # nothing made: whatever follows is skipped, and due again later
            yield dg.MaterializeResult(asset_key=self.key, metadata=_metadata(built, folder))

        return dg.Definitions(assets=[training_set])

    def _spec(self, views: tuple[ViewDeclaration, ...]) -> dg.AssetSpec:
        if self.tabular:
            tables = [self.tabular.table, *(view.source.table for view in views)]
            deps = [REGISTRY, *map(table_key, tables)]
            columns = tabular_columns(self.tabular, views, self.feature_service)
        else:
            assert self.sequence is not None
            tables = [self.sequence.events, self.sequence.entities, self.sequence.items]
            deps = list(map(table_key, tables))
            columns = sequence_columns(self.sequence, self.feature_service)
        return dg.AssetSpec(
            self.key,
            deps=deps,
            group_name=self.group,
            owners=self.owners,
            description=self.description or None,
            skippable=True,
            kinds={"feast", "parquet"} if self.tabular else {"duckdb", "parquet"},
            metadata=columns,
        )

    def _build(
        self,
        lake: LakeResource,
        repo_folder: Path,
        views: tuple[ViewDeclaration, ...],
        staged: Path,
    ) -> "Built":
        from scale_assets.features.sequences import SequenceSet, build_sequences
        from scale_assets.features.tabular import TabularSet, build_tabular

        common: dict[str, Any] = {
            "name": self.name,
            "feature_service": self.feature_service,
            "evaluation": self.evaluation,
            "forbidden": self.forbidden,
        }
        if self.sequence:
            declared = SequenceSet(**common, **self.sequence.model_dump())
            return build_sequences(declared, lake=lake.lake(), folder=staged)
        from scale_assets.features.registry import open_store

        assert self.tabular is not None
        return build_tabular(
            TabularSet(**common, **self.tabular.model_dump()),
            lake=lake.lake(),
            store=open_store(repo_folder),
            views=views,
            folder=staged,
        )


def _refuse_failed(name: str, checks: Any, *, kept: Path) -> None:
    from scale_assets.features.dataset import DatasetError

    failed = [check for check in checks if not check.passed]
    if failed:
        raise DatasetError(
            f"training set {name!r} failed {failed[0].name}: {dict(failed[0].found)}; "
            f"{kept} keeps what it had"
        )


def _result(check: "Check", key: dg.AssetKey) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key, check_name=check.name, passed=check.passed, metadata=dict(check.found)
    )


def _not_yet(name: str, key: dg.AssetKey, why: str) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=name,
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"not checked yet": why},
    )


def _metadata(built: "Built", folder: Path) -> dict[str, Any]:
    schema = dg.TableSchema(columns=[dg.TableColumn(*column) for column in built.columns.items()])
    return {
        "dagster/row_count": sum(built.num_rows.values()),
        "dagster/column_schema": schema,
        "num_rows": dict(built.num_rows),
        "delta_versions": dict(built.delta_versions),
        "folder": dg.MetadataValue.path(str(folder)),
    }
