"""Feast's own calls on a view over a stream: history and now, by the same definition."""

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pytest

from scale_assets.features.asof import AsOfJoinError
from scale_assets.features.codec import CodecError
from scale_assets.features.offline_job import OfflineStoreError
from scale_assets.features.registry import apply_repo, open_store
from scale_assets.features.repo import read_repo
from scale_assets.features.stores import open_backend
from scale_assets.features.streaming.updater import Updater
from scale_assets.lake import Lake

if TYPE_CHECKING:
    from feast import FeatureStore

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own, on import and on every call

ROOT = Path(__file__).resolve().parents[3]
START = datetime(2013, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
STORE = """
project: shop
provider: local
registry: {{registry_type: sql, path: "sqlite:///{folder}/registry.db"}}
offline_store: {{type: scale_assets.features.offline.LakeOfflineStore, lake_root: "{folder}/lake"}}
online_store: {{type: scale_assets.features.online.PackedOnlineStore, address: "{folder}/online.db", clock: data}}
entity_key_serialization_version: 3
"""
VIEWS = """
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import DeltaFormat
from feast.types import Int64
from stream_views import stream_views

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
visits = FeatureView(
    name="visits",
    entities=[user],
    schema=[Field(name="level", dtype=Int64)],
    source=FileSource(
        name="visits_table", path="visits", file_format=DeltaFormat(), timestamp_field="at",
    ),
)
streams = stream_views("streams.yml", entities=[user])
globals().update(streams)
both_v1 = FeatureService(name="both_v1", features=[visits, streams["live"]])
"""
STREAMS = """
streams:
  - name: live
    table: raw/clicks
    entity: user
    key: "u{number}"
    event_time: event_time
    received_at: received_at
    features:
      - {name: clicks_1h, sum: clicks, window: 1h}
      - {name: events_1d, count: events, window: 1d}
      - {name: last_sites, last: site, limit: 2}
      - {name: seconds_since, recency: seconds}
"""
FEATURES = ["clicks_1h", "events_1d", "last_sites", "seconds_since"]


@dataclass(frozen=True)
class World:
    """A store over a lake with three clicks of u1, the second of which was received late."""

    lake: Lake
    store: "FeatureStore"
    folder: Path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    folder = tmp_path_factory.mktemp("feast")
    repo = folder / "repo"
    repo.mkdir()
    (repo / "feature_store.yaml").write_text(STORE.format(folder=folder))
    (repo / "views.py").write_text(VIEWS)
    (repo / "streams.yml").write_text(STREAMS)
    shutil.copy(ROOT / "feature_repo" / "stream_views.py", repo)
    lake = Lake(folder / "lake")
    times = pa.timestamp("us", tz="UTC")
    clicks = pa.table(
        {
            "number": pa.array([1, 1, 1], pa.int64()),
            "event_time": pa.array([START, START + 5 * MINUTE, START + 90 * MINUTE], times),
            "received_at": pa.array([START, START + 50 * MINUTE, START + 90 * MINUTE], times),
            "clicks": pa.array([1, 10, 100], pa.int64()),
            "site": pa.array([7, 8, 9], pa.int64()),
        }
    )
    lake.append_once("raw/clicks", clicks, positions={"s": 1})
    levels = pa.table({"user_id": ["u1"], "at": pa.array([START], times), "level": [3]})
    lake.append_once("visits", levels, positions={"s": 1})
    apply_repo(repo, read_repo(repo))
    return World(lake, open_store(repo), folder)


def asked(*minutes: int, user: str = "u1") -> pd.DataFrame:
    times = [START + minute * MINUTE for minute in minutes]
    return pd.DataFrame({"user_id": user, "event_timestamp": times})


def test_history_counts_what_had_been_received(world: World) -> None:
    job = world.store.get_historical_features(
        entity_df=asked(90, 49, 50, 89), features=[f"live:{name}" for name in FEATURES]
    )
    found = [[row[name] for name in FEATURES] for row in job.to_arrow().to_pylist()]
    assert found == [
        [100, 3, [8, 9], 0],
        [1, 1, [7], 49 * 60],  # the second click is not known yet
        [11, 2, [7, 8], 45 * 60],
        [0, 2, [7, 8], 84 * 60],
    ]


def test_a_service_of_both_kinds_tells_the_times_of_each(world: World) -> None:
    job = world.store.get_historical_features(
        entity_df=asked(50),
        features=world.store.get_feature_service("both_v1"),
        full_feature_names=True,
    )
    (row,) = job.to_arrow_with_times().to_pylist()
    assert (row["visits__level"], row["live__clicks_1h"]) == (3, 11)
    assert row["live__feature_time"] == START + 5 * MINUTE
    assert row["live__known_at"] == START + 50 * MINUTE


@pytest.mark.usefixtures("spark")
def test_beside_views_that_spark_joins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    service = world.store.get_feature_service("both_v1")
    expected = world.store.get_historical_features(asked(50, 10), service).to_arrow()
    monkeypatch.setattr(world.store.config.offline_store, "engine", "spark")

    found = world.store.get_historical_features(asked(50, 10), service).to_arrow()

    assert found.equals(expected)
    assert found["level"].to_pylist() == [3, 3]
    assert found["clicks_1h"].to_pylist() == [11, 1]


def test_a_range_of_times_is_refused(world: World) -> None:
    with pytest.raises(OfflineStoreError, match=r"'live'.*give entity_df"):
        world.store.get_historical_features(features=["live:clicks_1h"], start_date=START)


def test_online_is_equal_to_history_at_the_same_instant(world: World) -> None:
    view = read_repo(world.folder / "repo").views["live"].stream
    assert view is not None
    with open_backend(world.folder / "online.db") as backend:
        Updater(world.lake.open("raw/clicks"), view, backend).catch_up()
    now: dict[str, Any] = world.store.get_online_features(
        features=[f"live:{name}" for name in FEATURES],
        entity_rows=[{"user_id": "u1"}, {"user_id": "u2"}],
    ).to_dict()
    history = world.store.get_historical_features(
        entity_df=asked(90), features=[f"live:{name}" for name in FEATURES]
    ).to_arrow()
    assert {name: now[name][0] for name in FEATURES} == {
        name: history[name][0].as_py() for name in FEATURES
    }
    assert [now[name][1] for name in FEATURES] == [None] * 4  # an entity that nothing is known of


def test_nothing_can_be_pushed_to_it(world: World) -> None:
    frame = asked(90).assign(**dict.fromkeys(FEATURES, 1), received_at=START)
    frame = frame.rename(columns={"event_timestamp": "event_time"})
    frame["last_sites"] = [[1]]
    with pytest.raises(CodecError, match="add an event to live_events instead"):
        world.store.write_to_online_store("live", frame)


def test_names_that_meet_are_refused(world: World) -> None:
    job = world.store.get_historical_features(
        entity_df=asked(50).assign(clicks_1h=1), features=["live:clicks_1h"]
    )
    with pytest.raises(AsOfJoinError, match="two columns would be called 'clicks_1h'"):
        job.to_arrow()
