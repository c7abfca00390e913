"""A declared model is trained, compared, gated and registered, all through Dagster."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster.components.resolved.errors import ResolutionException
from pydantic import ValidationError

from scale_assets.components.model_tracking import CHALLENGER, CHAMPION
from scale_assets.components.trained_model import TrainedModel
from scale_assets.resources import resources
from scale_assets.settings import Settings
from tests.training.tabular_worlds import write_dataset

ROOT = Path(__file__).resolve().parents[2]
TOY = "tests.training.toy_candidate"
METRIC = "cancelled_within_28d/auc"
# mlflow and Dagster's Pipes warn about their own parts
pytestmark = [
    pytest.mark.filterwarnings("ignore::dagster.PreviewWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


def declared(**changes: Any) -> dict[str, Any]:
    return {
        "name": "toy",
        "description": "A toy.",
        "dataset": "training/toy/dataset",
        "candidates": [
            {"name": "good", "module": TOY, "hyperparameters": {"feature": 1, "sign": -1.0}},
            {"name": "bad", "module": TOY, "hyperparameters": {"feature": 1, "sign": 1.0}},
        ],
        "gate": {"metric": METRIC, "releasable": ["good", "bad"], "network": "bad"},
        **changes,
    }


def definitions(**changes: Any) -> dg.Definitions:
    component = TrainedModel.resolve_from_dict(declared(**changes))
    return component.build_defs(dg.ComponentTree.for_test().load_context)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_dataset(folder / "training" / "toy" / "dataset", num_students=100)
    os.environ |= {"SCALE_DATA_DIR": str(folder), "PYTHONPATH": str(ROOT)}
    return folder


def materialize(
    data_dir: Path, selection: list[str] | None = None, **changes: Any
) -> dg.ExecuteInProcessResult:
    assets = list(definitions(**changes).assets or [])
    return dg.materialize(
        assets,
        resources=resources(Settings(data_dir=data_dir)),
        selection=selection,
        raise_on_error=False,
    )


@pytest.fixture(scope="module")
def whole_run(data_dir: Path) -> dg.ExecuteInProcessResult:
    return materialize(data_dir)


def registry(data_dir: Path) -> Any:
    return resources(Settings(data_dir=data_dir))["registry"].client()


def metadata_of(result: dg.ExecuteInProcessResult, key: str) -> dict[str, Any]:
    (event,) = [
        each.materialization
        for each in result.get_asset_materialization_events()
        if each.materialization.asset_key == dg.AssetKey(key.split("/"))
    ]
    return {name: value.value for name, value in event.metadata.items()}


def test_metrics_arrive_as_observations_before_the_candidate_is_done(
    whole_run: dg.ExecuteInProcessResult,
) -> None:
    assert whole_run.success
    events = [
        (each.event_type_value, each.asset_key.path[-1])
        for each in whole_run.all_events
        if each.event_type_value in {"ASSET_OBSERVATION", "ASSET_MATERIALIZATION"}
    ]
    assert events[:6] == [
        ("ASSET_OBSERVATION", "good"),
        ("ASSET_OBSERVATION", "good"),
        ("ASSET_MATERIALIZATION", "good"),
        ("ASSET_OBSERVATION", "bad"),
        ("ASSET_OBSERVATION", "bad"),
        ("ASSET_MATERIALIZATION", "bad"),
    ]


def test_the_best_is_registered_with_metrics_and_versions_and_crowned(
    whole_run: dg.ExecuteInProcessResult, data_dir: Path
) -> None:
    client = registry(data_dir)

    version = client.get_model_version_by_alias("toy", CHAMPION)

    assert version.version == client.get_model_version_by_alias("toy", CHALLENGER).version
    assert version.tags["candidate"] == "good"
    assert json.loads(version.tags["delta_versions"]) == {"withdrawal_labels": 3}
    evaluation = json.loads(
        (data_dir / "training" / "toy" / "evaluation" / "evaluation.json").read_text()
    )
    value = evaluation["candidates"]["good"]["metrics"][METRIC]["value"]
    assert float(version.tags[METRIC]) == value
    folder = Path(version.source.removeprefix("file://"))
    for name in ("model.onnx", "signature.json", "dataset.json", "evaluation.json", "MLmodel"):
        assert (folder / name).exists()
    assert "probabilities" in (folder / "MLmodel").read_text()
    assert not [*folder.rglob("*.pkl")]


def test_each_candidate_has_an_mlflow_run_with_its_curve(
    whole_run: dg.ExecuteInProcessResult, data_dir: Path
) -> None:
    client = registry(data_dir)
    run = client.get_run(metadata_of(whole_run, "models/toy/good")["mlflow_run_id"])

    assert run.info.status == "FINISHED"
    assert run.data.params == {"feature": "1", "sign": "-1.0", "epochs": "2"}
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [(each.step, each.value) for each in history] == [(0, 1.0), (1, 0.5)]
    assert METRIC in run.data.metrics


def test_the_evaluation_says_plainly_that_the_network_lost(
    whole_run: dg.ExecuteInProcessResult,
) -> None:
    metadata = metadata_of(whole_run, "models/toy/evaluation")
    checks = {each.check_name: each for each in whole_run.get_asset_check_evaluations()}

    assert metadata["winner"] == "good"
    assert "The network lost: bad" in metadata["decision"]
    assert "| good |" in metadata["candidates"]
    assert checks["gate"].passed
    assert checks["no_leak"].passed
    assert not checks["network_won"].passed
    assert checks["network_won"].severity == dg.AssetCheckSeverity.WARN


def test_one_candidate_can_be_trained_alone(
    whole_run: dg.ExecuteInProcessResult, data_dir: Path
) -> None:
    result = materialize(data_dir, selection=["models/toy/bad"])

    assert result.success
    assert len(result.get_asset_materialization_events()) == 1


def test_a_later_version_that_is_no_better_stays_challenger(
    whole_run: dg.ExecuteInProcessResult, data_dir: Path
) -> None:
    result = materialize(data_dir, selection=["models/toy"])

    client = registry(data_dir)
    assert metadata_of(result, "models/toy")["champion"] is False
    challenger = client.get_model_version_by_alias("toy", CHALLENGER)
    champion = client.get_model_version_by_alias("toy", CHAMPION)
    assert int(challenger.version) == int(champion.version) + 1


@pytest.mark.parametrize(
    ("bounds", "check"),
    [
        pytest.param({"minimums": {METRIC: 0.999}}, "gate", id="too bad"),
        pytest.param({"maximums": {METRIC: 0.501}}, "no_leak", id="too good to be true"),
    ],
)
def test_nothing_is_registered_when_a_bound_is_broken(
    whole_run: dg.ExecuteInProcessResult, data_dir: Path, bounds: dict[str, Any], check: str
) -> None:
    before = registry(data_dir).get_model_version_by_alias("toy", CHALLENGER).version

    result = materialize(
        data_dir,
        selection=["models/toy/evaluation", "models/toy"],
        gate={"metric": METRIC, "releasable": ["good", "bad"], **bounds},
    )

    failed = [each.check_name for each in result.get_asset_check_evaluations() if not each.passed]
    assert not result.success
    assert failed == [check]
    assert registry(data_dir).get_model_version_by_alias("toy", CHALLENGER).version == before


@pytest.mark.parametrize(
    ("candidate", "message"),
    [
        pytest.param(
            {"module": TOY, "hyperparameters": {"epoch": 2}},
            "epoch: Extra inputs are not permitted",
            id="an unknown hyperparameter",
        ),
        pytest.param(
            {"module": f"{TOY}:fail"}, "RuntimeError: diverged", id="an error in training"
        ),
    ],
)
def test_a_failure_names_the_candidate_and_its_own_error(
    data_dir: Path, candidate: dict[str, Any], message: str
) -> None:
    result = materialize(
        data_dir,
        selection=["models/toy/broken"],
        candidates=[{"name": "broken", **candidate}],
        gate={"metric": METRIC, "releasable": ["broken"]},
    )

    assert not result.success
    (failure,) = result.get_step_failure_events()
    said = failure.step_failure_data.error_display_string
    assert "candidate 'broken': " in said
    assert message in said
    client = registry(data_dir)
    experiment_id = client.get_experiment_by_name("toy").experiment_id
    latest = client.search_runs([experiment_id], order_by=["start_time DESC"], max_results=1)[0]
    assert latest.info.status == "FAILED"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"gate": {"metric": METRIC, "releasable": ["netwrok"]}}, "netwrok", id="gate"),
        pytest.param(
            {"candidates": [{"name": "good", "module": "m", "function": "f"}]},
            "needs a module or a function",
            id="two sources",
        ),
        pytest.param(
            {"candidates": [{"name": "good", "module": "m"}] * 2}, r"\['good'\] twice", id="twice"
        ),
        pytest.param(
            {"candidates": [{"name": "evaluation", "module": "m"}]}, "evaluation", id="reserved"
        ),
    ],
)
def test_a_declaration_that_contradicts_itself_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    # Dagster wraps what a field's own validation says, so the whole chain is searched.
    with pytest.raises(
        (ValidationError, dg.DagsterError, ValueError, ResolutionException)
    ) as error:
        definitions(**changes)

    assert re.search(message, f"{error.value} {error.value.__cause__}")


def test_assets_carry_group_owners_kinds_and_a_schedule() -> None:
    defs = definitions(group="models", owners=["team:data-science"], schedule="0 4 * * 1")

    graph = dg.Definitions.merge(
        defs, dg.Definitions(resources=resources(Settings(data_dir=Path("unused"))))
    ).resolve_asset_graph()
    keys = {key.to_user_string() for key in graph.get_all_asset_keys()}
    assert {"models/toy", "models/toy/good", "models/toy/bad", "models/toy/evaluation"} <= keys
    node = graph.get(dg.AssetKey(["models", "toy", "good"]))
    assert node.group_name == "models"
    assert node.owners == ["team:data-science"]
    assert node.parent_keys == {dg.AssetKey(["training", "toy", "dataset"])}
    assert node.automation_condition is None  # never on each late event
    (schedule,) = defs.schedules or []
    assert schedule.cron_schedule == "0 4 * * 1"


def test_importing_the_component_loads_no_heavy_library() -> None:
    import subprocess

    code = "import sys, scale_assets.components.trained_model; print(sorted(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert "'dagster'" in loaded
    for name in ("torch", "mlflow", "pyspark", "sklearn"):
        assert f"'{name}'" not in loaded
