"""A view without entities has one value for all: offline, loaded, and in Feast's own calls."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest

from scale_assets.features.loading import LoadReport, load_view
from scale_assets.features.reader import OnlineReader
from scale_assets.features.registry import apply_repo, open_store
from scale_assets.features.repo import read_repo
from scale_assets.features.stores import open_backend
from scale_assets.lake import Lake

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own, on import and on every call

HOUR = timedelta(hours=1)
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
VIEWS = """
from feast import FeatureService, FeatureView, Field, FileSource
from feast.data_format import DeltaFormat
from feast.types import Int64

world = FeatureView(
    name="world",
    entities=[],
    schema=[Field(name="rides", dtype=Int64)],
    source=FileSource(
        name="world_table", path="world", file_format=DeltaFormat(),
        timestamp_field="at", created_timestamp_column="known_at",
    ),
)
world_v1 = FeatureService(name="world_v1", features=[world])
"""


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(tmp_path / "lake")
    append(lake, (0, 0, 100), (4, 5, 200), (4, 6, 300), (9, None, 400))
    return lake


def append(lake: Lake, *rows: tuple[int, int | None, int]) -> None:
    table = pa.table(
        {
            "at": pa.array([START + at * HOUR for at, _, _ in rows], TIME),
            "known_at": pa.array(
                [None if known is None else START + known * HOUR for _, known, _ in rows], TIME
            ),
            "rides": pa.array([rides for _, _, rides in rows], pa.int64()),
        }
    )
    lake.append_once("world", table, positions={"test": rows[-1][-1]})


@pytest.fixture
def repo(tmp_path: Path, lake: Lake, address: str) -> Path:
    folder = tmp_path / "repo"
    folder.mkdir()
    (folder / "feature_store.yaml").write_text(STORE.format(folder=tmp_path, address=address))
    (folder / "views.py").write_text(VIEWS)
    apply_repo(folder, read_repo(folder))
    return folder


def load(lake: Lake, repo: Path, address: str, *, full: bool = False) -> LoadReport:
    with open_backend(address) as backend:
        return load_view(lake, read_repo(repo).views["world"], backend, full=full)


def rides(repo: Path) -> list[int]:
    """Feast's answer, for whomever it is asked."""
    store = open_store(repo)
    rows = [{"anybody": 1}, {"anybody": 2}]
    found: list[int] = store.get_online_features(["world:rides"], rows).to_dict()["rides"]
    return found


def test_loads_give_what_feast_gives(lake: Lake, repo: Path, address: str) -> None:
    first = load(lake, repo, address)
    assert (first.num_considered, first.num_written, first.num_unknown) == (1, 1, 1)
    assert rides(repo) == [300, 300]

    append(lake, (5, 7, 500), (1, 8, 600))
    assert load(lake, repo, address).num_written == 1
    assert load(lake, repo, address, full=True).num_written == 0
    assert rides(repo) == [500, 500]
    with open_backend(address) as backend:
        assert list(backend.keys("world")) == [[""]]
        (row,) = OnlineReader(backend).read("world", [""])
    assert row is not None
    assert (row.values, row.feature_time) == ({"rides": 500}, START + 5 * HOUR)

    lake.overwrite("world", lake.read("world").slice(0, 0))
    assert load(lake, repo, address).num_removed == 1
    assert rides(repo) == [None, None]


def test_feasts_materialize_and_history_agree(lake: Lake, repo: Path) -> None:
    store = open_store(repo)
    store.materialize(START - HOUR, START + 99 * HOUR)
    asked = "select 7 as anybody, timestamptz '2013-03-01 05:30Z' + interval (i) hour as t from range(5) as r(i)"
    history = store.get_historical_features(asked, ["world:rides"]).to_arrow()

    assert rides(repo) == [300, 300]
    assert history["rides"].to_pylist() == [200, 300, 300, 300, 300]
