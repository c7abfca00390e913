"""Many processes apply one repository and load its views at once: all agree at the end."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pytest

from scale_assets.features.loading import load_view
from scale_assets.features.registry import apply_repo, open_store
from scale_assets.features.repo import read_repo
from scale_assets.features.stores import open_backend
from scale_assets.lake import Lake

pytestmark = [pytest.mark.fault, pytest.mark.filterwarnings("ignore")]  # Feast's own warnings

NUM_PROCESSES = 4
START = datetime(2013, 3, 1, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
STORE = """
project: shop
provider: local
registry: {{registry_type: sql, path: "sqlite:///{folder}/registry.db"}}
offline_store: {{type: scale_assets.features.offline.LakeOfflineStore, lake_root: "{folder}/lake"}}
online_store: {{type: scale_assets.features.online.PackedOnlineStore, address: "{address}", clock: data}}
entity_key_serialization_version: 3
"""
VIEW = """
{name} = FeatureView(
    name="{name}",
    entities=[{entity}],
    schema=[Field(name="clicks", dtype=Int64)],
    source=FileSource(
        name="{name}_table", path="{name}", file_format=DeltaFormat(),
        timestamp_field="feature_time", created_timestamp_column="known_at",
    ),
)
{name}_v1 = FeatureService(name="{name}_v1", features=[{name}])
"""
HEAD = """
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import DeltaFormat
from feast.types import Int64

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
"""
TABLES = ("visits", "sales", "former")
PROGRAM = """
import sys
from tests.features.test_concurrent_applies import work
work(*sys.argv[1:])
"""


def work(folder: str, address: str, user: str) -> None:
    """Apply, add a row, load and read, as often as a line of stdin says."""
    import feast  # noqa: F401 # before anybody starts

    lake = Lake(Path(folder) / "lake")
    number = 0
    print("ready", flush=True)
    with open_backend(address) as backend:
        for line in sys.stdin:
            name, rounds = line.split()
            repo = Path(folder) / name
            for _ in range(int(rounds)):
                number += 1
                apply_repo(repo, read_repo(repo))
                for view in read_repo(repo).views.values():
                    lake.append_once(view.name, rows((user, number)), positions={user: number})
                    load_view(lake, view, backend)
                    assert read_online(repo, view.name, [user]) == [number]
            print("done", flush=True)


def rows(*found: tuple[str, int]) -> pa.Table:
    """One row per user and number, which is also its hour."""
    times = pa.array([START + timedelta(hours=number) for _, number in found], TIME)
    return pa.table(
        {
            "user_id": pa.array([user for user, _ in found], pa.string()),
            "feature_time": times,
            "known_at": times,
            "clicks": pa.array([number for _, number in found], pa.int64()),
        }
    )


def read_online(repo: Path, view: str, users: list[str]) -> list[int | None]:
    store = open_store(repo)
    found = store.get_online_features(
        features=store.get_feature_service(f"{view}_v1"),
        entity_rows=[{"user_id": user} for user in users],
    )
    answer: list[int | None] = found.to_dict()["clicks"]
    return answer


def declare(folder: Path, address: str, name: str, views: tuple[str, ...], more: str = "") -> Path:
    repo = folder / name
    repo.mkdir()
    (repo / "feature_store.yaml").write_text(STORE.format(folder=folder, address=address))
    declared = [VIEW.format(name=view, entity="user") for view in views]
    (repo / "views.py").write_text(HEAD + "".join(declared) + more)
    return repo


class Workers:
    """Processes that do the same at once; each says by a line when it is done."""

    def __init__(self, processes: list["subprocess.Popen[str]"]) -> None:
        self.processes = processes
        self._all_say("ready")

    def do(self, line: str) -> None:
        for process in self.processes:
            _pipe(process.stdin).write(f"{line}\n")
            _pipe(process.stdin).flush()
        self._all_say("done")

    def _all_say(self, word: str) -> None:
        said = [_pipe(process.stdout).readline() for process in self.processes]
        assert said == [f"{word}\n"] * len(said), self.errors()

    def errors(self) -> list[str]:
        """What each said on stderr; ends them."""
        return [process.communicate()[1] for process in self.processes]


@contextmanager
def started(folder: Path, address: str) -> Iterator[Workers]:
    with ExitStack() as stack:
        processes = []
        for number in range(NUM_PROCESSES):
            process = subprocess.Popen(
                [sys.executable, "-W", "ignore", "-c", PROGRAM, folder, address, f"user-{number}"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            processes.append(process)
        yield Workers(processes)


def _pipe(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


@pytest.mark.parametrize("rounds", [3, pytest.param(25, marks=pytest.mark.slow)], ids=str)
@pytest.mark.parametrize("kind", ["sqlite", "redis"])
def test_applies_and_loads_at_once(
    tmp_path: Path, kind: str, rounds: int, request: pytest.FixtureRequest
) -> None:
    """From nothing, then to a repository that lacks a view and a service of the former one."""
    address = str(tmp_path / "online.db")
    if kind == "redis":
        address = request.getfixturevalue("empty_redis")
    lake = Lake(tmp_path / "lake")
    for table in TABLES:
        lake.overwrite(table, rows(("nobody", 0)))
    declare(tmp_path, address, "former", TABLES)
    repo = declare(tmp_path, address, "current", TABLES[:2])

    with started(tmp_path, address) as workers:
        workers.do("former 1")
        workers.do(f"current {rounds}")
        assert workers.errors() == [""] * NUM_PROCESSES

    assert_registry_is(repo)
    users = [f"user-{number}" for number in range(NUM_PROCESSES)]
    for view in TABLES[:2]:
        assert read_online(repo, view, [*users, "nobody"]) == [rounds + 1] * NUM_PROCESSES + [0]


def assert_registry_is(repo: Path) -> None:
    """What the repository declares is there and nothing else; every object can be read."""
    store, declared = open_store(repo), read_repo(repo)
    names: dict[str, Any] = {
        "views": {view.name for view in store.list_feature_views()},
        "services": {service.name for service in store.list_feature_services()},
        "sources": {source.name for source in store.list_data_sources()},
        "entities": {entity.name for entity in store.list_entities()},
        "projects": {project.name for project in store.list_projects()},
    }
    assert names == {
        "views": declared.views.keys(),
        "services": declared.services.keys(),
        "sources": {f"{view}_table" for view in declared.views},
        "entities": {"user"},
        "projects": {"shop"},
    }
    for service in store.list_feature_services():
        (projection,) = service.feature_view_projections
        assert [feature.name for feature in projection.features] == ["clicks"]
