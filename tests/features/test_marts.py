"""Feature views in a dbt project's yml: what is read, what is refused, and that Feast agrees."""

import shutil
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from scale_assets.features.marts import MartError, mart_views
from scale_assets.features.repo import FeatureRepoError, read_repo
from scale_assets.lake import Lake

PROJECT_DIR = Path(__file__).resolve().parents[2]
MODELS = """
models:
  - name: visits
    description: One row per user and day.
    config:
      meta:
        feature_view: {entity: user, feature_time: at, known_at: known_at, ttl: {hours: 36}, exclude: [day]}
    columns:
      - {name: user_id, data_type: varchar}
      - {name: at, data_type: timestamptz}
      - {name: known_at, data_type: timestamptz}
      - {name: day, data_type: date}
      - {name: clicks, data_type: bigint, description: Clicks.}
      - {name: score, data_type: double}
      - {name: share, data_type: float}
      - {name: is_new, data_type: boolean}
      - {name: pages, data_type: "bigint[]"}
      - {name: kinds, data_type: "array<string>"}
      - {name: seen, data_type: timestamp with time zone}
  - name: labels
    columns: [{name: user_id, data_type: varchar}]
"""
VIEWS = """
from dbt_views import dbt_views
from feast import Entity, FeatureService, ValueType

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
views = dbt_views("../warehouse", entities=[user])
globals().update(views)
visits_v1 = FeatureService(name="visits_v1", features=[views["visits"][["clicks", "pages"]]])
"""
STORE = """
project: shop
provider: local
registry: {{registry_type: sql, path: "sqlite:///{folder}/registry.db"}}
offline_store: {{type: scale_assets.features.offline.LakeOfflineStore, lake_root: "{folder}/lake"}}
online_store: {{type: scale_assets.features.online.PackedOnlineStore, address: "{folder}/online.db"}}
entity_key_serialization_version: 3
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A dbt project, and beside it a repository that reads it."""
    (tmp_path / "warehouse" / "models" / "marts").mkdir(parents=True)
    (tmp_path / "warehouse" / "dbt_project.yml").write_text("name: warehouse\n")
    (tmp_path / "repo").mkdir()
    shutil.copy(PROJECT_DIR / "feature_repo" / "dbt_views.py", tmp_path / "repo")
    (tmp_path / "repo" / "features.py").write_text(VIEWS)
    (tmp_path / "repo" / "feature_store.yaml").write_text(STORE.format(folder=tmp_path))
    declare(tmp_path, MODELS)
    return tmp_path


def declare(project: Path, models: str) -> None:
    (project / "warehouse" / "models" / "marts" / "marts.yml").write_text(models)


def test_a_view_is_its_models_columns(project: Path) -> None:
    (view,) = read_repo(project / "repo").views.values()

    assert view.name == view.source.table == "visits"
    assert view.join_keys == ("user_id",)
    assert view.ttl == timedelta(hours=36)
    assert (view.source.feature_time, view.source.known_at) == ("at", "known_at")
    assert view.declared_in == project / "warehouse" / "models" / "marts" / "marts.yml"
    assert dict(view.columns) == {
        "clicks": "int64",
        "score": "float64",
        "share": "float32",
        "is_new": "bool",
        "pages": "list<int64>",
        "kinds": "list<string>",
        "seen": "timestamp",
    }


def test_a_service_picks_its_columns(project: Path) -> None:
    (view,) = read_repo(project / "repo").service("visits_v1")

    assert view.columns == (("clicks", "int64"), ("pages", "list<int64>"))


@pytest.mark.filterwarnings("ignore")  # Feast's own
def test_feast_loads_what_was_read(project: Path) -> None:
    from scale_assets.features.registry import apply_repo

    columns = ("user_id", "at", "known_at")
    Lake(project / "lake").overwrite("visits", pa.table({name: ["x"] for name in columns}))
    applied = apply_repo(project / "repo", read_repo(project / "repo"))

    assert (applied.num_entities, applied.num_views, applied.num_services) == (1, 1, 1)


def test_a_renamed_column_is_the_features_name_at_once(project: Path) -> None:
    assert "score" in dict(read_repo(project / "repo").views["visits"].columns)

    declare(project, MODELS.replace("name: score", "name: rating"))

    assert "rating" in dict(read_repo(project / "repo").views["visits"].columns)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("entity: user,", "", "model visits: feature_view lacks 'entity'"),
        ("entity:", "entities: [], entity:", "no key 'entities'"),
        (
            "feature_time: at",
            "feature_time: moment",
            "names 'moment', which is none of the columns",
        ),
        ("exclude: [day]", "exclude: []", "column day has data_type 'date'.*exclude"),
        ("exclude: [day]", "exclude: [days]", "names 'days'"),
        ("{hours: 36}", "36h", r"ttl is '36h'; write it as ttl: \{days: 7\}"),
        ("name: labels", "name: visits\n    config: {meta: {feature_view: {}}}", "lacks 'entity'"),
    ],
)
def test_what_a_model_lacks_is_named_with_its_file(
    project: Path, old: str, new: str, message: str
) -> None:
    declare(project, MODELS.replace(old, new))

    with pytest.raises(MartError, match=rf"marts\.yml: .*{message}"):
        mart_views(project / "warehouse")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("entity: user", "entity: usr", "entity 'usr' is not declared in .*did you mean user?"),
        ("name: user_id", "name: user_ids", "no column 'user_id', the join key of 'user'"),
    ],
)
def test_what_the_repository_lacks_is_named_with_the_models_file(
    project: Path, old: str, new: str, message: str
) -> None:
    declare(project, MODELS.replace(old, new))

    with pytest.raises(FeatureRepoError, match=rf"marts\.yml: .*{message}"):
        read_repo(project / "repo")


def test_a_view_that_is_not_declared_is_named_with_its_line(project: Path) -> None:
    (project / "repo" / "features.py").write_text(
        VIEWS.replace('views["visits"]', 'views["vists"]')
    )

    with pytest.raises(FeatureRepoError, match=r"features\.py:8: .*'vists'.*did you mean visits"):
        read_repo(project / "repo")


def test_a_folder_that_is_no_dbt_project_is_named(tmp_path: Path) -> None:
    with pytest.raises(MartError, match=r"no dbt_project\.yml"):
        mart_views(tmp_path)
