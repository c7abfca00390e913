"""TrainingSet: the folder, its checks, and that a failed check leaves the former folder."""

import hashlib
import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scale_assets.components.training_set import TrainingSet
from scale_assets.lake import Lake
from scale_assets.resources import LakeResource, SettingsResource, SparkResource

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own

START = datetime(2013, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)
TIME = pa.timestamp("us", tz="UTC")
KEY = dg.AssetKey(["training", "churn", "dataset"])
TABULAR = """
name: churn
feature_service: churn_v1
tabular:
  table: labels
  entity: user_id
  time: label_time
  labels: [churned, churned_later]
  carry: [day]
  where: churned is not null
  split_column: term
  splits: {train: [2013J], test: [2014B]}
  max_single_feature_auc: 0.9
forbidden: ["outcome*"]
evaluation: {churned_later: {column: day, first: 0, every: 2}}
"""
SEQUENCE = """
name: churn
feature_service: churn_v1
sequence:
  events: opened
  entities: users
  join: [shop, number]
  entity: user_id
  carry: [shop]
  day_zero: starts_on
  item: page
  date: opened_on
  order: first_order
  items: raw/pages
  item_columns: [page, kind]
evaluation: {cut_day: 3}
"""
VIEWS = """
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import DeltaFormat
from feast.types import Bool, Float64, Int32, String

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
visits = FeatureView(
    name="visits",
    entities=[user],
    ttl=timedelta(days=3),
    schema=[
        Field(name="day", dtype=Int32),
        Field(name="score", dtype=Float64),
        Field(name="city", dtype=String),
        Field(name="paying", dtype=Bool),
    ],
    source=FileSource(
        path="visits", file_format=DeltaFormat(), timestamp_field="at", created_timestamp_column="known_at"
    ),
)
churn_v1 = FeatureService(name="churn_v1", features=[visits])
"""
STORE = """
project: shop
provider: local
registry: {registry_type: sql, path: "sqlite:///${SCALE_FEATURE_REGISTRY_PATH}"}
offline_store: {type: scale_assets.features.offline.LakeOfflineStore, lake_root: "${SCALE_LAKE_ROOT}", engine: "${SCALE_FEATURE_ENGINE}"}
online_store: {type: scale_assets.features.online.PackedOnlineStore, address: "${SCALE_ONLINE_STORE}"}
entity_key_serialization_version: 3
"""


class Project:
    """A project folder with a repository, a lake, and one function to build the dataset."""

    def __init__(self, root: Path) -> None:
        self.root = root
        repo = root / "feature_repo"
        repo.mkdir()
        (repo / "feature_store.yaml").write_text(STORE)
        (repo / "visits.py").write_text(VIEWS)
        self.lake = Lake(root / "data" / "lake")
        self.folder = root / "data" / "training" / "churn" / "dataset"

    def fill(self, *, day_shift: int = 0, leak: bool = False) -> None:
        users = [f"u{i:02}" for i in range(40)]
        days = range(5)
        visits = [
            {
                "user_id": user,
                "day": day + day_shift,
                "score": float(-100 if leak and left(user) else (i * 7) % 5),
                "city": "ab"[i % 2],
                "paying": None if i % 3 == 0 else i % 3 == 1,
                "at": START + day * DAY,
                "known_at": START + day * DAY,
            }
            for i, user in enumerate(users)
            for day in days
        ]
        labels = [
            {
                "user_id": user,
                "label_time": START + day * DAY,
                "day": day,
                "term": "2013J" if i < 30 else "2014B",
                "churned": None if day == 4 else left(user),
                "churned_later": None if day >= 3 else left(user),
                "outcome": "gone",
            }
            for i, user in enumerate(users)
            for day in days
        ]
        self.write("visits", visits, day=pa.int32(), paying=pa.bool_())
        self.write("labels", labels, day=pa.int32())

    def fill_sequences(self) -> None:
        opened = [
            ("x", 1, 7, 0, 5, date(2013, 3, 2)),
            ("x", 1, 7, 9, 6, date(2013, 3, 2)),  # the same page and day, arrived later
            ("x", 1, 8, 0, 2, date(2013, 3, 2)),
            ("x", 1, 7, 0, 1, date(2013, 3, 1)),
            ("y", 1, 9, 0, 3, date(2013, 4, 1)),
        ]
        names = ("shop", "number", "page", "arrived", "first_order", "opened_on")
        self.write("opened", [dict(zip(names, row, strict=True)) for row in opened])
        users = [
            ("x", 1, "x-1", date(2013, 3, 1)),
            ("y", 1, "y-1", date(2013, 3, 31)),
            ("y", 2, "y-2", date(2013, 3, 31)),
        ]
        names = ("shop", "number", "user_id", "starts_on")
        self.write("users", [dict(zip(names, row, strict=True)) for row in users])
        self.write("raw/pages", [{"page": page, "kind": "quiz", "more": 1} for page in (9, 8, 7)])

    def write(self, table: str, rows: list[dict[str, Any]], **kinds: pa.DataType) -> None:
        found = pa.Table.from_pylist(rows)
        fields = [
            pa.field(
                field.name,
                kinds.get(field.name, TIME if pa.types.is_timestamp(field.type) else field.type),
            )
            for field in found.schema
        ]
        self.lake.overwrite(table, found.cast(pa.schema(fields)))

    def apply(self) -> None:
        from scale_assets.features.registry import apply_repo
        from scale_assets.features.repo import read_repo

        SettingsResource().values.apply()
        apply_repo(self.root / "feature_repo", read_repo(self.root / "feature_repo"))

    def build(self, yaml: str) -> dg.ExecuteInProcessResult:
        defs = TrainingSet.resolve_from_yaml(yaml).build_defs(
            SimpleNamespace(project_root=self.root)
        )
        return dg.materialize(
            list(defs.assets),
            resources={
                "lake": LakeResource(root=self.lake.root),
                "settings": SettingsResource(),
                "spark": SparkResource(
                    master="local[2]", driver_memory="1g", scratch_dir=str(self.root / "spark")
                ),
            },
            raise_on_error=False,
        )

    def bytes(self) -> dict[str, str]:
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
        }


def left(user: str) -> bool:
    return int(user[1:]) % 4 == 0


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("SCALE_DATA_DIR", str(tmp_path / "data"))
    for name in ("SCALE_LAKE_ROOT", "SCALE_ONLINE_STORE", "SCALE_FEATURE_REGISTRY_PATH"):
        monkeypatch.setenv(name, "")  # set by Settings.apply; put back after the test
        monkeypatch.delenv(name)
    return Project(tmp_path)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, bool]:
    return {check.check_name: check.passed for check in result.get_asset_check_evaluations()}


def test_a_tabular_set(project: Project) -> None:
    project.fill()
    project.apply()

    result = project.build(TABULAR)

    assert result.success
    assert all(checks(result).values())
    assert len(checks(result)) == 5
    manifest = json.loads((project.folder / "dataset.json").read_text())
    assert manifest["numeric"] == ["day", "score", "paying"]
    assert manifest["categorical"] == ["city"]
    assert manifest["labels"] == ["churned", "churned_later"]
    assert manifest["delta_versions"] == {
        name: project.lake.version(name) for name in ("labels", "visits")
    }
    assert manifest["evaluation"] == {"churned_later": {"column": "day", "first": 0, "every": 2}}
    train = pq.read_table(project.folder / manifest["splits"]["train"][0])
    test = pq.read_table(project.folder / manifest["splits"]["test"][0])
    assert (train.num_rows, test.num_rows) == (30 * 4, 10 * 4)
    assert set(train.column_names) == {
        "user_id",
        "label_time",
        "day",
        "churned",
        "churned_later",
        "score",
        "city",
        "paying",
    }
    first = train.slice(0, 2).to_pylist()
    assert [(row["user_id"], row["day"], row["score"], row["paying"]) for row in first] == [
        ("u00", 0, 0.0, None),
        ("u00", 1, 0.0, None),
    ]
    (event,) = result.asset_materializations_for_node("training__churn__dataset")
    assert event.metadata["dagster/row_count"].value == 160


def test_two_runs_are_equal_byte_for_byte(project: Project) -> None:
    project.fill()
    project.apply()
    project.build(TABULAR)
    first = project.bytes()

    assert project.build(TABULAR).success
    assert project.bytes() == first
    assert list(project.folder.parent.iterdir()) == [project.folder]


@pytest.mark.usefixtures("spark")
def test_spark_joins_it_to_the_same_bytes(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    from scale_assets.features.spark_asof import SparkHistories

    joined = []
    matches = SparkHistories.matches
    monkeypatch.setattr(
        SparkHistories,
        "matches",
        lambda self, view, *rows, **how: (
            joined.append(view.name) or matches(self, view, *rows, **how)
        ),
    )
    project.fill()
    project.apply()
    project.build(TABULAR)
    first = project.bytes()
    assert joined == []

    monkeypatch.setenv("SCALE_FEATURE_ENGINE", "spark")

    assert project.build(TABULAR).success
    assert project.bytes() == first
    assert joined == ["visits"]


@pytest.mark.parametrize(
    ("broken", "yaml", "failed"),
    [
        ({"leak": True}, TABULAR, "no_feature_tells_the_label"),
        ({"day_shift": 1}, TABULAR, "carried_columns_agree"),
        ({}, TABULAR.replace("carry: [day]", "carry: [day, outcome]"), "no_forbidden_columns"),
    ],
)
def test_a_failed_check_keeps_the_former_folder(
    project: Project, broken: dict[str, Any], yaml: str, failed: str
) -> None:
    project.fill()
    project.apply()
    project.build(TABULAR)
    before = project.bytes()
    project.fill(**broken)

    result = project.build(yaml)

    assert not result.success
    assert [name for name, passed in checks(result).items() if not passed] == [failed]
    assert project.bytes() == before
    assert not result.asset_materializations_for_node("training__churn__dataset")


def test_a_sequence_set(project: Project) -> None:
    project.fill_sequences()

    result = project.build(SEQUENCE)

    assert result.success
    assert all(checks(result).values())
    assert pq.read_table(project.folder / "sequences.parquet").to_pylist() == [
        {"user_id": "x-1", "shop": "x", "pages": [7, 8, 7], "days": [0, 1, 1]},
        {"user_id": "y-1", "shop": "y", "pages": [9], "days": [1]},
    ]
    assert pq.read_table(project.folder / "pages.parquet").to_pydict() == {
        "page": [7, 8, 9],
        "kind": ["quiz"] * 3,
    }
    manifest = json.loads((project.folder / "dataset.json").read_text())
    assert manifest["kind"] == "sequence"
    assert manifest["evaluation"] == {"cut_day": 3}


def test_an_item_outside_the_catalogue_blocks(project: Project) -> None:
    project.fill_sequences()
    project.write("raw/pages", [{"page": 7, "kind": "quiz"}])

    result = project.build(SEQUENCE)

    assert checks(result)["every_item_is_known"] is False
    assert not project.folder.exists()


def test_one_kind_and_disjoint_splits_are_asked_for() -> None:
    with pytest.raises(Exception, match="either tabular or sequence"):
        TrainingSet.resolve_from_yaml("name: churn\nfeature_service: churn_v1\n")
    with pytest.raises(Exception, match="2013J"):
        TrainingSet.resolve_from_yaml(TABULAR.replace("test: [2014B]", "test: [2013J]"))


def test_a_split_whose_time_has_not_come_makes_nothing_and_is_no_failure(project: Project) -> None:
    project.fill()
    project.apply()

    result = project.build(TABULAR.replace("[2014B]", "[2015B]"))

    assert result.success
    assert result.asset_materializations_for_node("training__withdrawal__dataset") == []
    checks = result.get_asset_check_evaluations()
    assert checks
    assert not any(check.passed for check in checks)
    assert "'test'" in str(checks[0].metadata["not checked yet"].value)
