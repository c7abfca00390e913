"""FeatureViews: assets from a repository that is read, not run; loads and checks that tell the truth."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pyarrow as pa
import pytest

from scale_assets.components.feature_views import REGISTRY, FeatureViews, online_key
from scale_assets.features.reader import OnlineReader
from scale_assets.features.repo import FeatureRepoError
from scale_assets.lake import Lake
from scale_assets.resources import LakeResource, SettingsResource

pytestmark = pytest.mark.filterwarnings(
    "ignore::pydantic.PydanticDeprecatedSince20"
)  # Dagster's own

START = datetime(2013, 3, 1, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
YAML = """
repo: feature_repo
clock: {table: raw/clicks, column: received_at}
max_age_days: {visits: 1}
owners: ["team:data"]
"""
VIEWS = """
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import DeltaFormat
from feast.types import Int64

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
visits = FeatureView(
    name="visits",
    entities=[user],
    schema=[Field(name="clicks", dtype=Int64)],
    source=FileSource(
        path="visits", file_format=DeltaFormat(), timestamp_field="at", created_timestamp_column="known_at"
    ),
)
visits_v1 = FeatureService(name="visits_v1", features=[visits])
"""
STORE = """
project: shop
provider: local
registry: {registry_type: sql, path: "sqlite:///${SCALE_FEATURE_REGISTRY_PATH}"}
offline_store: {type: scale_assets.features.offline.LakeOfflineStore, lake_root: "${SCALE_LAKE_ROOT}"}
online_store: {type: scale_assets.features.online.PackedOnlineStore, address: "${SCALE_ONLINE_STORE}"}
entity_key_serialization_version: 3
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    repo = tmp_path / "feature_repo"
    repo.mkdir()
    (repo / "feature_store.yaml").write_text(STORE)
    (repo / "visits.py").write_text(VIEWS)
    monkeypatch.setenv("SCALE_DATA_DIR", str(tmp_path / "data"))
    for name in ("SCALE_LAKE_ROOT", "SCALE_ONLINE_STORE", "SCALE_FEATURE_REGISTRY_PATH"):
        monkeypatch.setenv(name, "")  # set by Settings.apply; put back after the test
        monkeypatch.delenv(name)
    return tmp_path


def definitions(project: Path, yaml: str = YAML) -> dg.Definitions:
    component = FeatureViews.resolve_from_yaml(yaml)
    beside = dg.Definitions(assets=[dg.AssetSpec("visits")], resources=resources(project))
    return dg.Definitions.merge(component.build_defs(SimpleNamespace(project_root=project)), beside)


def resources(project: Path) -> dict[str, dg.ConfigurableResource]:
    return {
        "lake": LakeResource(root=str(project / "data" / "lake")),
        "settings": SettingsResource(),
    }


def fill(lake: Lake, *, day: int, clock_day: int) -> None:
    at = START + timedelta(days=day)
    rows = {"user_id": ["a", "b"], "at": [START, at], "known_at": [START, at], "clicks": [1, day]}
    kinds = [("user_id", pa.string()), ("at", TIME), ("known_at", TIME), ("clicks", pa.int64())]
    lake.overwrite("visits", pa.table(rows, schema=pa.schema(kinds)))
    clock = {"received_at": [START + timedelta(days=clock_day)]}
    lake.overwrite("raw/clicks", pa.table(clock, schema=pa.schema([("received_at", TIME)])))


def materialize(defs: dg.Definitions, project: Path, key: dg.AssetKey) -> dg.ExecuteInProcessResult:
    assets = [asset for asset in defs.assets if isinstance(asset, dg.AssetsDefinition)]
    return dg.materialize(
        [*assets, *defs.asset_checks, dg.AssetSpec("visits")],
        selection=dg.AssetSelection.assets(key),
        resources=resources(project),
    )


def test_assets_keys_and_lineage(project: Path) -> None:
    defs = definitions(project)
    graph = defs.resolve_asset_graph()
    online = online_key("visits")

    assert {REGISTRY, online} <= graph.get_all_asset_keys()
    assert graph.get(online).parent_keys == {REGISTRY, dg.AssetKey("visits")}
    assert graph.get(REGISTRY).parent_keys == {dg.AssetKey("visits")}
    lineage = graph.get(online).metadata["dagster/column_lineage"]
    assert lineage.deps_by_column["clicks"] == [
        dg.TableColumnDep(asset_key=dg.AssetKey("visits"), column_name="clicks")
    ]
    assert [key.name for key in graph.asset_check_keys] == ["is_fresh"]


@pytest.mark.parametrize(("clock_day", "fresh"), [(3, True), (4, True), (5, False)])
def test_load_and_freshness_by_the_worlds_clock(project: Path, clock_day: int, fresh: bool) -> None:
    fill(Lake(project / "data" / "lake"), day=3, clock_day=clock_day)

    result = materialize(definitions(project), project, online_key("visits"))

    (event,) = result.asset_materializations_for_node("online__visits")
    assert event.metadata["num_considered"].value == 2
    assert event.metadata["num_written"].value == 2
    (check,) = result.get_asset_check_evaluations()
    assert check.passed is fresh
    assert check.metadata["age_hours"].value == (clock_day - 3) * 24
    reader = OnlineReader(project / "data" / "online.db")
    assert [row.values["clicks"] for row in reader.read("visits", ["a", "b"])] == [1, 3]
    assert reader.clock() == START + timedelta(days=clock_day)


def test_the_second_load_writes_only_what_changed(project: Path) -> None:
    lake = Lake(project / "data" / "lake")
    defs = definitions(project)
    fill(lake, day=3, clock_day=3)
    materialize(defs, project, online_key("visits"))
    fill(lake, day=4, clock_day=4)

    result = materialize(defs, project, online_key("visits"))

    (event,) = result.asset_materializations_for_node("online__visits")
    assert (event.metadata["num_written"].value, event.metadata["num_removed"].value) == (1, 0)


@pytest.mark.filterwarnings("ignore")  # Feast's own
def test_the_registry_asset_applies_the_repository(project: Path) -> None:
    fill(Lake(project / "data" / "lake"), day=3, clock_day=3)

    result = materialize(definitions(project), project, REGISTRY)

    (event,) = result.asset_materializations_for_node("feature_registry")
    assert event.metadata["views"].value == {"visits": 1}
    assert (project / "data" / "feast_registry.db").is_file()


def test_an_unknown_view_in_max_age_days_is_named(project: Path) -> None:
    with pytest.raises(FeatureRepoError, match="'visit'"):
        definitions(project, YAML.replace("visits: 1", "visit: 1"))


def test_unknown_yaml_keys_are_refused() -> None:
    with pytest.raises(Exception, match="ttl"):
        FeatureViews.resolve_from_yaml(YAML + "ttl: 3\n")
