"""The dbt project built on the tiny lake, once per session."""

import os
import shutil
import subprocess
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from scale_assets.components.dbt_runs import dbt_executable
from scale_assets.lake import Lake
from scale_assets.lake.source_views import SourceView, connect, create_source_views
from tests.dbt_project.tiny_lake import write_lake

PROJECT = Path(__file__).resolve().parents[2] / "dbt_project"
TABLES = [
    "interaction_counts",
    "sessions",
    "registrations",
    "registrations_history",
    "students",
    "students_history",
    "raw/submissions",
    "raw/sites",
    "raw/assessments",
    "raw/presentations",
]
# In the middle of the presentations, with clicks still on their way.
EARLIER = datetime(2013, 3, 25, tzinfo=UTC)

Build = Callable[..., Path]


def shared_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder in which all warehouse tests run dbt.

    The warehouse's path is part of dbt's profile: a path of its own would cost every run a parse.
    """
    return tmp_path_factory.getbasetemp() / "warehouse_home"


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """Run dbt on a lake and return a folder with the warehouse file and the run's results."""
    home = shared_home(tmp_path_factory)
    path, target = home / "warehouse.duckdb", home / "dbt"

    def run(lake: Lake, *arguments: str) -> Path:
        path.unlink(missing_ok=True)
        views = [SourceView(table=name, name=name.replace("/", "__")) for name in TABLES]
        with closing(connect(path, read_only=False)) as connection:
            create_source_views(lake, connection, views, schema="lake")
        environment = os.environ | {
            "SCALE_WAREHOUSE_PATH": str(path),
            "DBT_TARGET_PATH": str(target),
            "DBT_LOG_PATH": str(target),
            "DBT_LOG_LEVEL_FILE": "none",
            "DBT_PROFILES_DIR": str(PROJECT),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        }
        command = [dbt_executable(), *(arguments or ("build",)), "--quiet"]
        done = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        folder = tmp_path_factory.mktemp("warehouse")
        for made in (path, target / "run_results.json"):
            shutil.move(made, folder / made.name)
        return folder

    return run


@pytest.fixture(scope="session")
def built(build: Build, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything built from everything: models, data tests and unit tests."""
    return build(write_lake(str(tmp_path_factory.mktemp("lake"))))


@pytest.fixture(scope="session")
def warehouse(built: Path) -> duckdb.DuckDBPyConnection:
    return connect(built / "warehouse.duckdb", read_only=True)


@pytest.fixture(scope="session")
def earlier(build: Build, tmp_path_factory: pytest.TempPathFactory) -> duckdb.DuckDBPyConnection:
    """The same models built from what had been received at EARLIER."""
    lake = write_lake(str(tmp_path_factory.mktemp("earlier")), until=EARLIER)
    return connect(build(lake, "run") / "warehouse.duckdb", read_only=True)
