"""The reference repository: its columns are the marts', and nothing tells the label."""

import os
import sqlite3
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

from scale_assets.features.repo import FeatureRepo, read_repo

PROJECT_DIR = Path(__file__).resolve().parents[2]
MARTS = PROJECT_DIR / "dbt_project" / "models" / "marts"
CODEC_TYPES = {
    "varchar": "string",
    "bigint": "int64",
    "integer": "int32",
    "double": "float64",
    "boolean": "bool",
    "bigint[]": "list<int64>",
    "varchar[]": "list<string>",
}


@pytest.fixture(scope="module")
def repo() -> FeatureRepo:
    return read_repo(PROJECT_DIR / "feature_repo")


@pytest.mark.parametrize(
    "view",
    [
        "registration_activity",
        "registration_assessments",
        "registration_profile",
        "registration_history",
        "presentation_sites",
    ],
)
def test_columns_are_those_of_the_mart(repo: FeatureRepo, view: str) -> None:
    (mart,) = yaml.safe_load((MARTS / f"{view}.yml").read_text())["models"]
    declared = repo.views[view]
    excluded = mart["config"]["meta"]["feature_view"].get("exclude", ())
    times = (declared.source.feature_time, declared.source.known_at)
    beside = {*declared.join_keys, *times, *excluded}

    assert declared.source.table == mart["name"]
    assert dict(declared.columns) == {
        column["name"]: CODEC_TYPES[column["data_type"]]
        for column in mart["columns"]
        if column["name"] not in beside
    }


@pytest.mark.timeout(300)
def test_a_user_of_feast_applies_it_where_it_stands(repo: FeatureRepo, tmp_path: Path) -> None:
    """`cd feature_repo && feast apply`: Feast's own command, which loads what our reader reads."""
    feast = Path(sys.executable).with_name("feast")
    settings = {
        "SCALE_LAKE_ROOT": str(tmp_path / "lake"),
        "SCALE_LAKE_S3": "",
        "SCALE_ONLINE_STORE": str(tmp_path / "online.db"),
        "SCALE_ONLINE_STORE_CLOCK": "data",
        "SCALE_FEATURE_ENGINE": "duckdb",
        "SCALE_FEATURE_REGISTRY_PATH": str(tmp_path / "registry.db"),
    }
    done = subprocess.run(
        [feast, "apply", "--skip-source-validation"],
        cwd=PROJECT_DIR / "feature_repo",
        env={**os.environ, **settings, "FEAST_USAGE": "False"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with sqlite3.connect(tmp_path / "registry.db") as registry:
        views = registry.execute("select feature_view_name from feature_views").fetchall()
        services = registry.execute("select feature_service_name from feature_services").fetchall()

    assert {name for (name,) in views} == repo.views.keys()
    assert {name for (name,) in services} == repo.services.keys()


def test_services(repo: FeatureRepo) -> None:
    withdrawal = [view.name for view in repo.service("withdrawal_v1")]
    next_site = [view.name for view in repo.service("next_site_v1")]

    assert withdrawal == [
        "registration_activity",
        "registration_assessments",
        "registration_profile",
    ]
    assert next_site == ["registration_history", "presentation_sites"]


def test_no_feature_is_the_outcome(repo: FeatureRepo) -> None:
    names = [name for view in repo.views.values() for name, _ in view.columns]
    patterns = ("final_result", "*unregistered*", "*withdraw*", "*cancel*")

    assert not [name for name in names if any(fnmatchcase(name, p) for p in patterns)]


def test_imports_only_feast_and_what_reads_yaml() -> None:
    for path in (PROJECT_DIR / "feature_repo").glob("*.py"):
        imported = [
            line.split()[1].split(".")[0]
            for line in path.read_text().splitlines()
            if line.startswith(("import ", "from "))
        ]
        own = {file.stem for file in path.parent.glob("*.py")}
        assert set(imported) <= {"feast", "datetime", "json", "pathlib", "typing", "yaml"} | own, (
            path.name
        )
