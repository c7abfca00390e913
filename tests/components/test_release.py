"""A release: the folder that serving watches, swapped only while what is served agrees."""

import json
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pyarrow.compute as pc
import pytest

from scale_assets.components.release import Release, ReleaseError
from scale_assets.components.release_skew import CHECK
from scale_assets.features.stores import open_backend
from scale_assets.resources import LakeResource, ModelRegistryResource, SettingsResource
from tests.features.skew.world import (
    ACTIVITY,
    NUMERIC,
    START,
    USERS,
    World,
    activity,
    world_in,
)

pytestmark = pytest.mark.filterwarnings("ignore::pydantic.PydanticDeprecatedSince20")

YAML = """
name: churn
feature_service: churn_v1
fallback: [fresh, default]
skew: {budget: 0.001}
"""
REPO = """
from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import DeltaFormat
from feast.types import Bool, Float64, Int64, String
from stream_views import stream_views

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
activity = FeatureView(
    name="activity",
    entities=[user],
    ttl=timedelta(days=7),
    schema=[
        Field(name="clicks_7d", dtype=Int64),
        Field(name="clicks_28d", dtype=Int64),
        Field(name="seconds", dtype=Float64),
        Field(name="score", dtype=Float64),
        Field(name="is_member", dtype=Bool),
        Field(name="plan", dtype=String),
    ],
    source=FileSource(
        path="activity",
        file_format=DeltaFormat(),
        timestamp_field="feature_time",
        created_timestamp_column="known_at",
    ),
)
streams = stream_views("streams.yml", entities=[user])
churn_v1 = FeatureService(name="churn_v1", features=[activity, streams["visits"][["visits_1d"]]])
"""
STREAMS = """
streams:
  - name: visits
    table: raw/visits
    entity: user
    key: "{user_id}"
    event_time: event_time
    received_at: received_at
    features:
      - {name: visits_1d, count: events, window: 1d}
      - {name: last_sites, last: site_id, limit: 3}
      - {name: seconds_since_visit, recency: seconds}
"""


class OneModel(ModelRegistryResource):
    """A registry of one model, whose champion is the version that is asked for."""

    version: int
    artifacts: str

    def client(self) -> Any:
        champion = SimpleNamespace(
            version=self.version, run_id="run", tags={"candidate": "network"}
        )
        return SimpleNamespace(
            get_model_version_by_alias=lambda *_: champion,
            download_artifacts=lambda *_: self.artifacts,
        )


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    world = world_in(tmp_path / "data")
    repo = tmp_path / "feature_repo"
    repo.mkdir()
    (repo / "feature_store.yaml").touch()
    (repo / "views.py").write_text(REPO)
    (repo / "streams.yml").write_text(STREAMS)
    artifacts = tmp_path / "artifacts"
    artifacts.mkdir()
    shutil.copy(world.root / "releases" / "churn" / "1" / "model.onnx", artifacts)
    shutil.rmtree(world.root / "releases" / "churn")
    dataset = {"kind": "tabular", "numeric": NUMERIC, "categorical": ["plan"]}
    dataset |= {"labels": ["churned"], "delta_versions": {}, "contract_versions": {}}
    evaluation = {"candidates": {"network": {"metrics": {"auc": {"value": 0.7}}}}}
    for name, said in (("dataset", dataset), ("evaluation", evaluation), ("signature", {})):
        (artifacts / f"{name}.json").write_text(json.dumps(said))
    monkeypatch.setenv("SCALE_DATA_DIR", str(world.root))
    for name in ("SCALE_LAKE_ROOT", "SCALE_ONLINE_STORE"):
        monkeypatch.setenv(name, "")  # set by Settings.apply; put back after the test
        monkeypatch.delenv(name)
    return world


def release(world: World, *, version: int, yaml: str = YAML) -> dg.ExecuteInProcessResult:
    project = world.root.parent
    component = Release.resolve_from_yaml(yaml)
    defs = component.build_defs(SimpleNamespace(project_root=project))
    return dg.materialize(
        list(defs.assets or []),
        resources={
            "lake": LakeResource(root=world.lake.root),
            "settings": SettingsResource(),
            "registry": OneModel(
                uri="unused", version=version, artifacts=str(project / "artifacts")
            ),
        },
        raise_on_error=False,
    )


def released(world: World) -> str:
    return (world.root / "releases" / "churn" / "current").resolve().name


def skew_check(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (found,) = [each for each in result.get_asset_check_evaluations() if each.check_name == CHECK]
    return found


def refusal(result: dg.ExecuteInProcessResult) -> str:
    assert not result.success
    (failure,) = result.get_step_failure_events()
    assert failure.step_failure_data.error is not None
    return failure.step_failure_data.error.cause.message


def in_milliseconds(world: World) -> None:
    """The online store has another unit than the lake."""
    rows = activity(2)
    at = rows.column_names.index("seconds")
    wrong = rows.set_column(at, "seconds", pc.multiply(rows["seconds"], 1000))
    world.load_as(wrong, ACTIVITY, day=2)


def test_the_first_release_has_nothing_to_compare_and_says_so(world: World) -> None:
    result = release(world, version=1)

    assert result.success
    assert released(world) == "1"
    check = skew_check(result)
    assert check.passed
    assert check.metadata["num_vectors"].value == 0
    assert "no vector was logged" in check.metadata["nothing to compare"].value


def test_a_new_version_follows_while_what_is_served_agrees(world: World) -> None:
    release(world, version=1)
    world.serve()

    result = release(world, version=2)

    assert result.success
    assert released(world) == "2"
    metadata = skew_check(result).metadata
    assert metadata["num_vectors"].value == 30
    assert metadata["num_values"].value == 30 * 9
    assert metadata["worst_share"].value == 0
    assert "features" not in metadata


def test_above_the_budget_nothing_is_released(world: World) -> None:
    release(world, version=1)
    in_milliseconds(world)
    world.serve()

    result = release(world, version=2)

    said = refusal(result)
    assert released(world) == "1"
    assert not (world.root / "releases" / "churn" / "2").exists()
    assert (
        "churn 2 is not released, the present release goes on serving: in 30 served vectors 1 of 9 "
        "features disagree with the lake beyond the budget of 0.10%: activity.seconds 100.00% "
        "(30 different of 30)."
    ) in said
    assert "scale load --rebuild" in said
    check = skew_check(result)
    assert not check.passed
    assert check.blocking
    (row,) = check.metadata["features"].records
    assert row.data["feature"] == "activity.seconds"
    assert row.data["different"] == 30
    examples = [record.data for record in check.metadata["examples"].records]
    assert len(examples) == 3
    assert float(examples[0]["served (texts and lists masked)"]) == pytest.approx(
        1000 * float(examples[0]["lake"]), rel=1e-6
    )
    assert not any(user in str(check.metadata) for user in USERS)


def test_the_way_out_that_the_refusal_names(world: World) -> None:
    release(world, version=1)
    in_milliseconds(world)
    world.serve()
    said = refusal(release(world, version=2))

    found = re.search(r'skew\.since: "([^"]+)"', said)
    assert found is not None
    world.load_as(activity(2), ACTIVITY, day=2)
    world.serve(USERS[:3])
    yaml = YAML.replace("budget: 0.001", f'budget: 0.001, since: "{found[1]}"')
    result = release(world, version=2, yaml=yaml)

    assert result.success
    assert released(world) == "2"


def test_within_the_budget_it_is_released_and_the_features_are_shown(world: World) -> None:
    release(world, version=1)
    with open_backend(world.root / "online.db") as backend:
        backend.forget("activity", USERS[1:2])
    world.serve()

    result = release(world, version=2, yaml=YAML.replace("0.001", "0.04"))

    assert result.success
    assert released(world) == "2"
    features = {
        record.data["feature"]: record.data["missing"]
        for record in skew_check(result).metadata["features"].records
    }
    assert features["activity.clicks_7d"] == 1
    assert 0.03 < skew_check(result).metadata["worst_share"].value < 0.04


def test_without_a_budget_nothing_is_compared(world: World) -> None:
    in_milliseconds(world)
    yaml = YAML.replace("skew: {budget: 0.001}\n", "")
    release(world, version=1, yaml=yaml)
    world.serve()

    result = release(world, version=2, yaml=yaml)

    assert result.success
    names = [each.check_name for each in result.get_asset_check_evaluations()]
    assert names == ["answers_a_request"]


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("budget: 1", "less than 1"),
        ('budget: 0, since: "2026-11-27T22:00:00"', "which time zone"),
        ('budget: 0, since: "yesterday"', "Invalid isoformat"),
        ("budget: 0, hours: 3", "hours"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused(written: str, says: str) -> None:
    with pytest.raises(Exception) as error:  # noqa: PT011 Dagster wraps what a field says
        Release.resolve_from_yaml(YAML.replace("budget: 0.001", written))

    assert says in f"{error.value} {error.value.__cause__}"


@pytest.mark.parametrize(
    ("entities", "keys"),
    [
        pytest.param("[]", r"\[\]", id="about everything"),
        pytest.param("[user, shop]", r"\['user_id', 'shop_id'\]", id="two keys"),
        pytest.param("[shop]", r"\['shop_id'\]", id="another entity"),
    ],
)
def test_a_view_that_serving_would_find_nothing_in_is_refused(
    world: World, entities: str, keys: str
) -> None:
    views = world.root.parent / "feature_repo" / "views.py"
    declared = f"""
shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.STRING)
season = FeatureView(
    name="season",
    entities={entities},
    schema=[Field(name="rides", dtype=Int64)],
    source=FileSource(path="season", file_format=DeltaFormat(), timestamp_field="feature_time"),
)
churn_v1 = FeatureService(name="churn_v1", features=[activity, season])
"""
    views.write_text(REPO.rpartition("churn_v1 =")[0] + declared)

    with pytest.raises(ReleaseError, match=rf"'churn_v1': view 'season' is keyed by {keys}"):
        release(world, version=1)


def test_the_window_begins_with_the_later_of_both() -> None:
    (skew,) = [
        Release.resolve_from_yaml(
            YAML.replace("budget: 0.001", 'budget: 0, days: 2, since: "2014-03-01T00:00:00+00:00"')
        ).skew
    ]
    assert skew is not None
    assert skew.start(START.replace(day=2)) == START
    assert skew.start(datetime(2014, 3, 9, tzinfo=UTC)) == datetime(2014, 3, 7, tzinfo=UTC)
