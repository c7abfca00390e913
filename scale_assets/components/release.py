"""A release declared in YAML: which registered version serves, from which online features."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from scale_assets.components.columns import FEATURE_SERVICE, LINEAGE, ROUTE
from scale_assets.components.feature_views import online_key
from scale_assets.components.release_skew import Skew, check_result, check_spec, measure, refusal
from scale_assets.errors import ScaleError
from scale_assets.features.repo import FeatureRepo, ViewDeclaration, read_repo
from scale_assets.handover import online_store_options
from scale_assets.resources import LakeResource, ModelRegistryResource, SettingsResource

if TYPE_CHECKING:
    from scale_assets.features.skew.report import SkewReport
    from scale_assets.lake import Lake

KINDS = {"tabular": "tabular", "sequence": "ranking"}
RELEASE_FILES = ("model.onnx", "signature.json")


class ReleaseError(ScaleError):
    """A registered version that cannot be served as declared."""


class Release(dg.Component, dg.Resolvable, dg.Model):
    """Turns the registered version that an alias names into the folder that serving watches.

    Yields `release/<model>`. The folder becomes current only after serving's own loader has
    answered a request from it, and only while what is served agrees with the lake.
    """

    name: str = Field(description="Registered model, declared by a TrainedModel of that name.")
    alias: str = Field(default="champion", description="Registry alias of the version to serve.")
    feature_service: str = Field(description="Feast service whose features the model reads.")
    repo: str = Field(
        default="feature_repo",
        description="Folder of the Feast repository, from the project's root.",
    )
    inputs: dict[str, str] = Field(
        default_factory=dict,
        description="Ranking models: graph input: view.feature that it is filled from.",
        examples=[{"history_item_ids": "user_history.item_ids"}],
    )
    fallback: list[str] = Field(
        description="What may answer, best first: fresh features; default (unknown features, which "
        "the graph imputes); popular (rank by recent popularity without a history).",
        examples=[["fresh", "default"]],
    )
    skew: Skew | None = Field(
        default=None,
        description="Budget of training-serving skew; above it nothing is released. Without one "
        "served vectors are not compared with the lake.",
        examples=[{"budget": 0.001}],
    )
    group: str = Field(default="releases", description="Group of the asset in the UI.")
    owners: list[str] = Field(default_factory=list, description="Users or teams.")
    schedule: str | None = Field(
        default=None,
        description="Cron expression (UTC) on which the alias is looked up again.",
        examples=["30 4 * * 1"],
    )

    @property
    def key(self) -> dg.AssetKey:
        return dg.AssetKey(["release", self.name])

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        repo = read_repo(context.project_root / self.repo)
        schedules = []
        if self.schedule:
            schedules.append(
                dg.ScheduleDefinition(
                    name=f"release_{self.name}",
                    target=dg.AssetSelection.assets(self.key),
                    cron_schedule=self.schedule,
                    execution_timezone="UTC",
                    description=f"Serves the version of {self.name} that the alias names then.",
                )
            )
        return dg.Definitions(assets=[self._asset(repo)], schedules=schedules)

    def _asset(self, repo: FeatureRepo) -> dg.AssetsDefinition:
        views = repo.service(self.feature_service)
        refuse_unservable(views, service=self.feature_service, are_mapped=bool(self.inputs))
        answers = dg.AssetCheckSpec(
            "answers_a_request",
            asset=self.key,
            blocking=True,
            description="Serving's own loader answers from the folder, in its own process.",
        )

        @dg.multi_asset(
            name="__".join(self.key.path),
            specs=[self._spec(views)],
            check_specs=[answers, *([check_spec(self.key, self.skew)] if self.skew else [])],
        )
        def release(
            settings: SettingsResource, lake: LakeResource, registry: ModelRegistryResource
        ) -> Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]:
            client = registry.client()
            registered = client.get_model_version_by_alias(self.name, self.alias)
            if self.skew is not None:
                served = tuple(repo.views[view.name] for view in views)
                report = self._measured(self.skew, lake.lake(), settings, views, served)
                yield check_result(self.key, self.skew, report)
                if report.over(self.skew.budget):
                    raise ReleaseError(
                        refusal(
                            self.skew,
                            report,
                            model=self.name,
                            version=str(registered.version),
                            folder=str(settings.values.vectors_dir),
                        )
                    )
            source = Path(client.download_artifacts(registered.run_id, "model"))
            yield self._release(settings, lake.lake(), registered, source, views)

        return release

    def _spec(self, views: tuple[ViewDeclaration, ...]) -> dg.AssetSpec:
        return dg.AssetSpec(
            self.key,
            deps=[dg.AssetKey(["models", self.name]), *(online_key(view.name) for view in views)],
            description=f"The folder of {self.name} that serving loads: the version with "
            f"alias {self.alias}, its features and its fallbacks.",
            group_name=self.group,
            owners=self.owners,
            kinds={"onnx"},
            metadata=self._columns(views),
        )

    def _measured(
        self,
        skew: Skew,
        lake: "Lake",
        settings: SettingsResource,
        views: tuple[ViewDeclaration, ...],
        served: tuple[ViewDeclaration, ...],
    ) -> "SkewReport":
        """Each input is what it was trained on, whatever the present release maps it to."""
        if self.inputs:
            declared = {name: feature_source(path, views) for name, path in self.inputs.items()}
        else:
            names = [name for view in views for name, _ in view.columns]
            declared = {name: owner(name, views) for name in names}
        inputs = {name: (each["view"], each["feature"]) for name, each in declared.items()}
        return measure(skew, lake, settings.values, model=self.name, views=served, inputs=inputs)

    def _columns(self, views: tuple[ViewDeclaration, ...]) -> dict[str, Any]:
        """Each input of the model, and the online feature that fills it."""
        model = dg.AssetKey(["models", self.name])
        if self.inputs:
            filled = {name: path.partition(".")[::2] for name, path in self.inputs.items()}
            deps = {
                name: [dg.TableColumnDep(online_key(view), feature)]
                for name, (view, feature) in filled.items()
            }
        else:
            deps = {
                name: [
                    dg.TableColumnDep(model, name),
                    dg.TableColumnDep(online_key(view.name), name),
                ]
                for view in views
                for name, _ in view.columns
            }
        return {
            LINEAGE: dg.TableColumnLineage(deps),
            FEATURE_SERVICE: self.feature_service,
            ROUTE: "POST /v1/recommend" if self.inputs else f"POST /v1/predict/{self.name}",
        }

    def _release(
        self,
        settings: SettingsResource,
        lake: "Lake",
        registered: Any,
        source: Path,
        views: tuple[ViewDeclaration, ...],
    ) -> dg.MaterializeResult[Any]:
        root = settings.values.releases_dir / self.name
        folder = root / str(registered.version)
        staged = root / f".{registered.version}.part"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir(parents=True)
        for name in RELEASE_FILES:
            shutil.copyfile(source / name, staged / name)
        manifest = self._manifest(registered, source, views)
        (staged / "release.json").write_text(json.dumps(manifest, indent=1))
        answer = ask_serving(staged, settings, key=any_key(lake, views[0]))
        shutil.rmtree(folder, ignore_errors=True)
        staged.rename(folder)
        make_current(root, folder)
        return dg.MaterializeResult(
            asset_key=self.key,
            metadata={
                "folder": dg.MetadataValue.path(folder),
                "version": str(registered.version),
                "candidate": manifest["candidate"],
                "smoke answer": dg.MetadataValue.json(answer),
                **manifest["metrics"],
            },
            data_version=dg.DataVersion(str(registered.version)),
            check_results=[
                dg.AssetCheckResult(
                    asset_key=self.key,
                    check_name="answers_a_request",
                    passed=True,
                    metadata={"answer": dg.MetadataValue.json(answer)},
                )
            ],
        )

    def _manifest(
        self, registered: Any, source: Path, views: tuple[ViewDeclaration, ...]
    ) -> dict[str, Any]:
        """Everything that serving acts on, and where the version came from."""
        dataset = json.loads((source / "dataset.json").read_text())
        evaluation = json.loads((source / "evaluation.json").read_text())
        candidate = registered.tags["candidate"]
        metrics = evaluation["candidates"][candidate]["metrics"]
        return {
            "format": 1,
            "model": self.name,
            "version": str(registered.version),
            "kind": KINDS[dataset["kind"]],
            "candidate": candidate,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "feature_service": self.feature_service,
            "views": {view.name: view_use(view) for view in views},
            "numeric": sources(dataset.get("numeric", []), views),
            "categorical": sources(dataset.get("categorical", []), views),
            "inputs": [
                {"name": name, **feature_source(path, views)} for name, path in self.inputs.items()
            ],
            "outputs": dataset.get("labels", []),
            "fallback": self.fallback,
            "signature": json.loads((source / "signature.json").read_text()),
            "delta_versions": dataset["delta_versions"],
            "contract_versions": dataset["contract_versions"],
            "git_commit": git_commit(),
            "metrics": {name: metric["value"] for name, metric in metrics.items()},
        }


def view_use(view: ViewDeclaration) -> dict[str, Any]:
    return {
        "features": [name for name, _ in view.columns],
        "max_age_seconds": int(view.ttl.total_seconds()) if view.ttl else None,
    }


def refuse_unservable(
    views: tuple[ViewDeclaration, ...], *, service: str, are_mapped: bool
) -> None:
    """Serving asks each view about one entity, by one key; without ``inputs`` all by the same.

    Raises:
        ReleaseError: Serving would find no value of a view, though the model was trained on it.
    """
    keys = {view.name: view.join_keys for view in views}
    for name, of_view in keys.items():
        expected = of_view[:1] if are_mapped else views[0].join_keys[:1]
        if len(of_view) != 1 or of_view != expected:
            raise ReleaseError(
                f"feature service {service!r}: view {name!r} is keyed by {list(of_view)}, and serving "
                f"asks a release's views about one entity by one key; all have {keys}. Leave it out of "
                "the service, or bring its columns into a view of that entity"
            )


def sources(names: list[str], views: tuple[ViewDeclaration, ...]) -> list[dict[str, str]]:
    """Where each model input comes from, in the order that the graph expects."""
    return [{"name": name, **owner(name, views)} for name in names]


def owner(feature: str, views: tuple[ViewDeclaration, ...]) -> dict[str, str]:
    for view in views:
        if feature in {name for name, _ in view.columns}:
            return {"view": view.name, "feature": feature}
    raise ReleaseError(
        f"the model reads {feature!r}, which no view of its feature service has; train it anew"
    )


def feature_source(path: str, views: tuple[ViewDeclaration, ...]) -> dict[str, str]:
    view_name, _, feature = path.partition(".")
    for view in views:
        if view.name == view_name and feature in {name for name, _ in view.columns}:
            return {"view": view_name, "feature": feature}
    raise ReleaseError(
        f"inputs: {path!r} is no view.feature of the service; its views are "
        f"{ {view.name: [name for name, _ in view.columns] for view in views} }"
    )


def any_key(lake: "Lake", view: ViewDeclaration) -> str:
    """An entity that has features, to ask about."""
    import duckdb

    (column,) = view.join_keys
    with duckdb.connect() as connection:
        rows = connection.execute(
            f"select {column} from ({lake.duckdb_relation_sql(view.source.table)}) limit 1"
        ).fetchall()
    if not rows:
        raise ReleaseError(f"table {view.source.table} is empty: there is nothing to serve yet")
    return str(rows[0][0])


def ask_serving(folder: Path, settings: SettingsResource, *, key: str) -> Mapping[str, Any]:
    """One answer from serving's own code, which this process does not import."""
    command = [
        *(sys.executable, "-m", "serving.check", "--release", str(folder)),
        *online_store_options(settings.values),
        *("--key", key),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, close_fds=False)
    if done.returncode != 0:
        raise ReleaseError(f"serving cannot answer from {folder}: {done.stderr.strip()[-1500:]}")
    answer: Mapping[str, Any] = json.loads(done.stdout)
    return answer


def make_current(root: Path, folder: Path) -> None:
    """Swap the link in one step, so that serving sees the old or the new folder."""
    link = root / ".current.part"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(root / "current")


def git_commit() -> str | None:
    """The commit of the code, where the project is a git checkout."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()
