"""Monitor: planted drift fails the check that names it, a stale view the one of freshness."""

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pytest

from scale_assets.components.columns import READS, column_uses
from scale_assets.components.feature_views import FeatureViews, online_key
from scale_assets.components.monitor import CHECK, Monitor
from scale_assets.components.monitored import MonitorError
from scale_assets.lake import Lake
from scale_assets.resources import LakeResource, SettingsResource

pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.PydanticDeprecatedSince20"
)  # Dagster's own

START = datetime(2014, 1, 6, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
VIEWS = """
from feast import Entity, FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import Int64, String

user = Entity(name="user", join_keys=["user_id"])
visits = FeatureView(
    name="visits",
    entities=[user],
    schema=[Field(name="clicks", dtype=Int64), Field(name="plan", dtype=String)],
    source=FileSource(path="visits", file_format=DeltaFormat(), timestamp_field="at"),
)
"""
FEATURE_VIEWS = """
repo: feature_repo
clock: {table: raw/clicks, column: received_at}
max_age_days: {visits: 1}
"""
YAML = """
name: shop
feature_views: features
reference: {end: "2014-01-13"}
current: {start: "2014-01-13"}
owners: ["team:data"]
"""
OF_TABLE = """
name: tables
table: {name: visits, entity: [user_id], time: at}
reference: {end: "2014-01-13"}
current: {start: "2014-01-13"}
"""
KEY = dg.AssetKey(["monitoring", "shop", "visits"])


class Context:
    """What a component asks of Dagster while it loads."""

    def __init__(self, project_root: Path) -> None:
        self.project_root = project_root

    def load_component(self, path: str, of_type: type[FeatureViews]) -> FeatureViews:
        assert (path, of_type) == ("features", FeatureViews)
        return FeatureViews.resolve_from_yaml(FEATURE_VIEWS)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    repo = tmp_path / "feature_repo"
    repo.mkdir()
    (repo / "feature_store.yaml").touch()
    (repo / "visits.py").write_text(VIEWS)
    monkeypatch.setenv("SCALE_DATA_DIR", str(tmp_path / "data"))
    return tmp_path


@pytest.fixture
def lake(project: Path) -> Lake:
    return Lake(project / "data" / "lake")


def fill(
    lake: Lake, *, weeks: int = 2, size: int = 300, clock: datetime | None = None, **change: Any
) -> None:
    """Equal weeks, but for what ``change`` makes of a feature in the last of them."""
    rows = []
    for week in range(weeks):
        source = random.Random(week)
        for user in range(size):
            values = {"clicks": source.randrange(20), "plan": source.choice(["free", "paid"])}
            if week == weeks - 1:
                values |= {name: of(values[name]) for name, of in change.items()}
            rows.append(
                {"user_id": f"u{user}", "at": START + timedelta(days=7 * week + user % 7), **values}
            )
    kinds = [("user_id", pa.string()), ("at", TIME), ("clicks", pa.int64()), ("plan", pa.string())]
    lake.overwrite("visits", pa.Table.from_pylist(rows, pa.schema(kinds)))
    now = clock or START + timedelta(days=7 * weeks - 1)
    lake.overwrite("raw/clicks", pa.table({"received_at": pa.array([now], TIME)}))


def definitions(project: Path, yaml: str = YAML) -> dg.Definitions:
    return Monitor.resolve_from_yaml(yaml).build_defs(Context(project))


def run(project: Path, yaml: str = YAML) -> dg.ExecuteInProcessResult:
    defs = definitions(project, yaml)
    assets = [asset for asset in defs.assets if isinstance(asset, dg.AssetsDefinition)]
    return dg.materialize(
        assets,
        resources={"lake": LakeResource(root=str(project / "data" / "lake"))},
        raise_on_error=False,
    )


def checked(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (check,) = result.get_asset_check_evaluations()
    return check


def test_the_asset_follows_the_views_table_and_the_clock(project: Path) -> None:
    lake = dg.Definitions(resources={"lake": LakeResource(root="unused")})
    graph = dg.Definitions.merge(definitions(project), lake).resolve_asset_graph()

    assert graph.get(KEY).parent_keys == {dg.AssetKey("visits"), dg.AssetKey(["raw", "clicks"])}
    assert graph.get(KEY).automation_condition is not None
    assert graph.get(KEY).owners == ["team:data"]
    assert graph.get(KEY).group_name == "monitoring"
    assert [key.name for key in graph.asset_check_keys] == [CHECK]
    reads = {
        f"{use.asset.path[-1]}.{use.column}" for use in column_uses(graph.get(KEY).metadata, READS)
    }
    assert reads == {
        "visits.user_id",
        "visits.at",
        "visits.clicks",
        "visits.plan",
        "clicks.received_at",
    }


def test_equal_weeks_pass_and_leave_their_numbers(project: Path, lake: Lake) -> None:
    fill(lake)

    result = run(project)

    assert checked(result).passed
    assert checked(result).description == "No feature drifted in 2014-01-13 to 2014-01-20."
    (event,) = result.get_asset_materialization_events()
    numbers = {name: value.value for name, value in event.materialization.metadata.items()}
    assert (numbers["num_dates_computed"], numbers["num_windows_computed"]) == (14, 1)
    assert (numbers["num_drifted"], numbers["num_entities"], numbers["age_hours"]) == (0, 300, 0.0)
    assert -0.1 < numbers["max_psi_beyond_chance"] < 0.1
    assert {
        "monitoring/shop/statistics",
        "monitoring/shop/drift",
        "monitoring/shop/freshness",
    } <= set(lake.tables())


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"clicks": lambda value: value + 15}, ["clicks"]),
        ({"plan": lambda value: None if value == "paid" else value}, ["plan"]),
        ({"clicks": lambda _: 0, "plan": lambda _: "trial"}, ["plan", "clicks"]),
    ],
)
def test_planted_drift_is_named_and_warned_of(
    project: Path, lake: Lake, change: dict[str, Any], expected: list[str]
) -> None:
    fill(lake, **change)

    result = run(project)

    check = checked(result)
    assert result.success
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert sorted(check.metadata["drifted"].value) == sorted(expected)
    assert all(f"{name} " in (check.description or "") for name in expected)
    assert "| plan |" in str(check.metadata["features"].value)


def test_with_severity_error_a_failing_feature_fails_the_run(project: Path, lake: Lake) -> None:
    fill(lake, clicks=lambda value: value + 15)

    check = checked(run(project, YAML + "severity: error\n"))

    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert check.blocking


def test_with_severity_error_a_warned_feature_does_not(project: Path, lake: Lake) -> None:
    fill(lake, clicks=lambda value: value + 15)
    tolerant = "severity: error\npsi: {warn: 0.1, fail: 1000}\n"

    check = checked(run(project, YAML + tolerant))

    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)


@pytest.mark.parametrize(
    "declared",
    ["overrides: {'visits.cl*': {warn: 1000, fail: 1000}}", "unjudged: [visits.clicks]"],
)
def test_a_features_own_thresholds_count(project: Path, lake: Lake, declared: str) -> None:
    fill(lake, clicks=lambda value: value + 15)

    assert checked(run(project, f"{YAML}{declared}\n")).passed


def test_too_few_entities_are_no_verdict_and_the_check_says_so(project: Path, lake: Lake) -> None:
    fill(lake, size=199, clicks=lambda value: value + 15)

    check = checked(run(project))

    assert check.passed
    assert check.description is not None
    assert check.description.startswith("No verdict for 2014-01-13 to 2014-01-20: 199 entities")


def test_a_window_with_too_few_does_not_hide_the_one_before(project: Path, lake: Lake) -> None:
    fill(lake, clicks=lambda value: value + 15)
    extra = pa.table(
        {"user_id": ["u1"], "at": [START + timedelta(days=20)], "clicks": [3], "plan": ["free"]}
    )
    lake.append_once("visits", extra.cast(lake.schema("visits")), positions={"more": 1})

    assert checked(run(project)).metadata["drifted"].value == ["clicks"]


def test_a_table_can_be_watched(project: Path, lake: Lake) -> None:
    fill(lake, clicks=lambda value: value + 15)

    result = run(project, OF_TABLE)

    assert checked(result).metadata["drifted"].value == ["clicks"]
    assert not lake.exists("monitoring/tables/freshness")  # there is no clock to tell it by


def test_a_stale_view_fails_its_freshness_check(project: Path, lake: Lake) -> None:
    """By the online values in the check; by the table in what is kept for the plot."""
    fill(lake, clock=START + timedelta(days=15))
    views = FeatureViews.resolve_from_yaml(FEATURE_VIEWS).build_defs(Context(project))
    assets = [asset for asset in views.assets if isinstance(asset, dg.AssetsDefinition)]

    result = dg.materialize(
        [*assets, *views.asset_checks, dg.AssetSpec("visits")],
        selection=dg.AssetSelection.assets(online_key("visits")),
        resources={"lake": LakeResource(root=lake.root), "settings": SettingsResource()},
    )
    run(project)

    assert (checked(result).check_name, checked(result).passed) == ("is_fresh", False)
    newest = lake.read("monitoring/shop/freshness").to_pylist()[-1]
    assert (newest["age_hours"], newest["max_age_hours"]) == (48, 24)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (YAML + "views: [visit]\n", "'visit'"),
        (YAML + "unjudged: [visits.click]\n", "'visits.click'"),
        (YAML + "overrides: {clicks: {warn: 1, fail: 2}}\n", "'clicks'"),
    ],
)
def test_a_name_that_matches_nothing_is_told(project: Path, declared: str, said: str) -> None:
    with pytest.raises(MonitorError, match=said):
        definitions(project, declared)


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        (YAML + "table: {name: visits, entity: [user_id], time: at}\n", "feature_views or table"),
        ("name: shop\nreference: {end: '2014-01-13'}\n", "feature_views or table"),
        ("name: shop\nfeature_views: features\nreference: {}\n", "never drift"),
        (YAML + "psi: {warn: 0.3, fail: 0.2}\n", "at most fail"),
        (YAML.replace("2014-01-13", "13 January"), "isoformat"),
        (YAML + "treshold: 1\n", "treshold"),
    ],
)
def test_a_wrong_declaration_is_refused(declared: str, said: str) -> None:
    with pytest.raises(Exception, match=said):
        Monitor.resolve_from_yaml(declared)
