"""Feast's own calls on our two stores: same answers as the thin path, by the documented API."""

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from scale_assets.features.codec import Layout
from scale_assets.features.loading import load_view
from scale_assets.features.reader import OnlineReader
from scale_assets.features.repo import FeatureRepo, FeatureRepoError, read_repo
from scale_assets.features.stores import open_backend
from scale_assets.lake import Lake

if TYPE_CHECKING:
    from feast import FeatureStore

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own, on import and on every call

HOUR = timedelta(hours=1)
START = datetime(2013, 3, 1, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")

STORE = """
project: shop
provider: local
registry: {{registry_type: sql, path: "sqlite:///{folder}/registry.db"}}
offline_store: {{type: scale_assets.features.offline.LakeOfflineStore, lake_root: "{folder}/lake", backfills: {backfills}}}
online_store: {{type: scale_assets.features.online.PackedOnlineStore, address: "{folder}/online.db", clock: data}}
entity_key_serialization_version: 3
"""
VIEWS = """
from datetime import timedelta
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.data_format import DeltaFormat
from feast.types import Array, Bool, Float64, Int32, Int64, String, UnixTimestamp

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
shop = Entity(name="shop", join_keys=["shop_id"], value_type=ValueType.INT64)
visits = FeatureView(
    name="visits",
    entities=[user],
    ttl=timedelta(hours=6),
    schema=[
        Field(name="clicks", dtype=Int64),
        Field(name="score", dtype=Float64),
        Field(name="level", dtype=Int32),
        Field(name="paying", dtype=Bool),
        Field(name="city", dtype=String),
        Field(name="seen", dtype=UnixTimestamp),
        Field(name="sites", dtype=Array(Int64)),
        Field(name="names", dtype=Array(String)),
    ],
    source=FileSource(
        name="visits_table", path="visits", file_format=DeltaFormat(),
        timestamp_field="feature_time", created_timestamp_column="known_at",
    ),
)
sales = FeatureView(
    name="sales",
    entities=[user, shop],
    schema=[Field(name="amount", dtype=Float64)],
    source=FileSource(
        name="sales_table", path="shop/sales", file_format=DeltaFormat(), timestamp_field="at",
    ),
)
everything = FeatureService(name="everything", features=[visits, sales])
"""
VISITS = pa.schema(
    [
        ("user_id", pa.string()),
        ("feature_time", TIME),
        ("known_at", TIME),
        ("clicks", pa.int64()),
        ("score", pa.float64()),
        ("level", pa.int32()),
        ("paying", pa.bool_()),
        ("city", pa.string()),
        ("seen", TIME),
        ("sites", pa.list_(pa.int64())),
        ("names", pa.list_(pa.string())),
    ]
)


def visit(user: str, hour: int, known: int | None, clicks: int) -> dict[str, Any]:
    return {
        "user_id": user,
        "feature_time": START + hour * HOUR,
        "known_at": None if known is None else START + known * HOUR,
        "clicks": clicks,
        "score": clicks / 4,
        "level": -clicks,
        "paying": clicks % 2 == 0,
        "city": f"Zürich {clicks}",
        "seen": START + clicks * HOUR,
        "sites": list(range(clicks)),
        "names": [f"n{i}" for i in range(clicks)],
    }


ROWS = [
    visit("a", 1, 1, 1),
    visit("a", 2, 5, 2),  # known three hours later
    visit("a", 3, 3, 3),
    visit("b", 1, 1, 4),
    visit("b", 9, 9, 5),
    visit("b", 10, None, 6),  # nobody knows since when
    visit("z", 1, None, 7),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> "World":
    return World(tmp_path_factory.mktemp("shop"))


class World:
    """A repository, a lake, and what was applied once for all tests of this file."""

    def __init__(self, folder: Path) -> None:
        from scale_assets.features.registry import apply_repo, open_store

        self.folder = folder
        self.repo_folder = folder / "repo"
        self.repo_folder.mkdir()
        (self.repo_folder / "views.py").write_text(VIEWS)
        self.lake = Lake(folder / "lake")
        self.lake.overwrite("visits", pa.Table.from_pylist(ROWS, VISITS))
        sales = [
            {"user_id": "a", "shop_id": 7, "at": START, "amount": 1.5},
            {"user_id": "a", "shop_id": 8, "at": START, "amount": 2.5},
        ]
        kinds = [
            ("user_id", pa.string()),
            ("shop_id", pa.int64()),
            ("at", TIME),
            ("amount", pa.float64()),
        ]
        self.lake.overwrite("shop/sales", pa.Table.from_pylist(sales, pa.schema(kinds)))
        self.configure()
        self.applied = apply_repo(self.repo_folder, self.repo)
        self.backend = open_backend(self.online)
        self.store = open_store(self.repo_folder)

    @property
    def repo(self) -> FeatureRepo:
        return read_repo(self.repo_folder)

    @property
    def online(self) -> Path:
        return self.folder / "online.db"

    def configure(self, *, backfills: str = "hidden") -> None:
        text = STORE.format(folder=self.folder, backfills=backfills)
        (self.repo_folder / "feature_store.yaml").write_text(text)

    def load(self) -> None:
        for view in self.repo.views.values():
            load_view(self.lake, view, self.backend)

    def packed(self, view: str) -> dict[str, bytes]:
        """Values by key, without the mark of who wrote them."""
        keys = [key for batch in self.backend.keys(view) for key in batch]
        values = self.backend.get({view: keys}).values[view]
        return {key: value[1:] for key, value in zip(keys, values, strict=True)}

    def empty(self) -> None:
        for view in self.repo.views.values():
            self.backend.drop(view.name)
            self.backend.declare(view.name, Layout(view.columns), ttl=view.ttl)
        with sqlite3.connect(self.online) as connection:
            connection.execute("delete from scale_clock")


def test_apply_registers_everything_and_again_changes_nothing(world: World) -> None:
    from scale_assets.features.registry import apply_repo

    assert (world.applied.num_entities, world.applied.num_views) == (2, 2)
    assert world.applied.deleted == ()
    assert apply_repo(world.repo_folder, world.repo) == world.applied
    assert {view.name for view in world.store.list_feature_views()} == {"visits", "sales"}


def test_apply_refuses_what_was_read_otherwise(world: World) -> None:
    from scale_assets.features.registry import apply_repo

    other = FeatureRepo(views={}, services=world.repo.services)
    with pytest.raises(FeatureRepoError, match="sales"):
        apply_repo(world.repo_folder, other)


def test_history_as_known_at_each_row_in_the_callers_order(world: World) -> None:
    import pandas as pd

    hours = [4, 9, 2, 5, 2, 16, 0]
    users = ["a", "a", "a", "b", "a", "b", "a"]
    frame = pd.DataFrame({"user_id": users, "when": [START + hour * HOUR for hour in hours]})

    job = world.store.get_historical_features(frame, ["visits:clicks", "visits:sites"])
    found = job.to_df()

    assert list(found["user_id"]) == users
    assert [None if pd.isna(v) else int(v) for v in found["clicks"]] == [3, 3, 1, 4, 1, None, None]
    assert job.delta_versions == {"visits": world.lake.version("visits")}
    assert job.metadata.max_event_timestamp == START + 16 * HOUR


def test_entities_as_sql_stay_in_arrow(world: World) -> None:
    query = (
        "select 'a' as user_id, 7 + i::bigint as shop_id, timestamptz '2013-03-01 04:00Z' as at_time"
        " from range(3) as t(i)"
    )
    job = world.store.get_historical_features(
        query, world.store.get_feature_service("everything"), full_feature_names=True
    )

    found = job.to_arrow_with_times()

    assert found["visits__clicks"].to_pylist() == [3, 3, 3]
    assert found["sales__amount"].to_pylist() == [1.5, 2.5, None]
    assert found["visits__known_at"].to_pylist() == [START + 3 * HOUR] * 3


@pytest.mark.parametrize(
    ("backfills", "filtered", "clicks"),
    [("visible", False, 2), ("visible", True, 1), ("hidden", False, 1)],
)
def test_backfills_are_hidden_unless_asked_for(
    world: World, backfills: str, filtered: bool, clicks: int
) -> None:
    from scale_assets.features.registry import open_store

    world.configure(backfills=backfills)
    store = open_store(world.repo_folder)
    world.configure()

    job = store.get_historical_features(
        "select 'a' as user_id, timestamptz '2013-03-01 02:30Z' as t",
        ["visits:clicks"],
        filter_by_created_timestamp=filtered,
    )

    assert job.to_arrow()["clicks"].to_pylist() == [clicks]


def test_entity_rows_without_one_time_are_refused(world: World) -> None:
    from scale_assets.features.offline import OfflineStoreError

    with pytest.raises(OfflineStoreError, match="one time column"):
        world.store.get_historical_features("select 'a' as user_id", ["visits:clicks"])


def test_a_saved_dataset_comes_back(world: World) -> None:
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    job = world.store.get_historical_features(
        "select 'a' as user_id, timestamptz '2013-03-01 04:00Z' as event_timestamp",
        ["visits:clicks"],
    )
    storage = SavedDatasetFileStorage(str(world.folder / "saved.parquet"))
    saved = world.store.create_saved_dataset(job, "saved", storage)

    assert list(saved.to_df()["clicks"]) == [3]


def test_materialize_equals_the_fast_load(world: World) -> None:
    """The same bytes for every entity, by Feast's way and by ours."""
    world.empty()
    world.store.materialize(START - HOUR, START + 100 * HOUR)
    by_feast = {view: world.packed(view) for view in world.repo.views}
    world.empty()
    world.load()

    by_us = {view: world.packed(view) for view in world.repo.views}
    assert by_feast == by_us
    assert set(by_us["visits"]) == {"a", "b"}  # and not "z", of which nobody knows since when
    assert len(by_us["sales"]) == 2


def test_online_features_are_the_lakes_latest_values(world: World) -> None:
    world.empty()
    world.load()

    found = world.store.get_online_features(
        [
            "visits:clicks",
            "visits:score",
            "visits:level",
            "visits:paying",
            "visits:city",
            "visits:sites",
            "visits:names",
            "sales:amount",
        ],
        [
            {"user_id": "b", "shop_id": 7},
            {"user_id": "nobody", "shop_id": 8},
            {"user_id": "b", "shop_id": 9},
        ],
    ).to_dict()

    expected = {name: value for name, value in ROWS[4].items() if name in found}
    assert {name: values[0] for name, values in found.items() if name in expected} == expected
    assert found["clicks"] == [5, None, 5]
    assert found["amount"] == [None, None, None]
    (row,) = OnlineReader(world.online).read("visits", ["b"])
    assert (row.values["clicks"], list(row.values["sites"])) == (5, expected["sites"])


def test_a_row_that_says_not_when_it_became_known_is_used_on_neither_side(world: World) -> None:
    world.empty()
    world.load()

    rows = "select k as user_id, timestamptz '2013-03-01 10:00Z' as t from (values ('b'), ('z')) as v(k)"
    history = world.store.get_historical_features(rows, ["visits:clicks"]).to_arrow()

    assert history["clicks"].to_pylist() == [5, None]
    assert [_online(world.store, user) for user in "bz"] == [("PRESENT", 5), ("NOT_FOUND", None)]


def test_a_pushed_row_without_a_known_at_is_known_at_its_feature_time(world: World) -> None:
    world.empty()
    world.store.write_to_online_store("visits", _frame(visit("c", 3, 3, 1), visit("d", 4, None, 8)))

    (row,) = OnlineReader(world.online).read("visits", ["d"])
    assert (row.values["clicks"], row.known_at) == (8, START + 4 * HOUR)


def test_an_expired_value_says_so_and_is_not_served(world: World) -> None:
    """The clock is the newest known time, hour 9: "a" was last seen at hour 3, its ttl is 6."""
    world.empty()
    world.load()
    assert _online(world.store, "a") == ("PRESENT", 3)

    world.store.write_to_online_store("visits", _frame(visit("c", 10, 10, 6)))

    assert _online(world.store, "a") == ("OUTSIDE_MAX_AGE", None)
    assert _online(world.store, "c") == ("PRESENT", 6)
    assert _online(world.store, "nobody") == ("NOT_FOUND", None)


def test_a_late_push_never_overwrites_a_newer_value(world: World) -> None:
    world.empty()
    world.load()

    world.store.write_to_online_store("visits", _frame(visit("b", 8, 12, 9)))
    assert _online(world.store, "b") == ("PRESENT", 5)

    world.store.write_to_online_store("visits", _frame(visit("b", 9, 10, 7)))
    assert _online(world.store, "b") == ("PRESENT", 7)


def test_asynchronous_reads_give_the_same(world: World) -> None:
    world.empty()
    world.load()
    rows = [{"user_id": "b"}, {"user_id": "nobody"}]

    waited = asyncio.run(world.store.get_online_features_async(["visits:clicks"], rows))

    assert waited.to_dict() == world.store.get_online_features(["visits:clicks"], rows).to_dict()


def test_a_view_that_is_no_longer_declared_is_taken_out(tmp_path: Path) -> None:
    from scale_assets.features.registry import apply_repo

    world = World(tmp_path)
    text = VIEWS.replace(
        'everything = FeatureService(name="everything", features=[visits, sales])', ""
    )
    (world.repo_folder / "views.py").write_text(text[: text.index("sales = ")])

    applied = apply_repo(world.repo_folder, world.repo)

    assert set(applied.deleted) == {"sales", "sales_table", "everything"}
    assert list(OnlineReader(world.online).views()) == ["visits"]


def _frame(*rows: dict[str, Any]) -> Any:
    return pa.Table.from_pylist(list(rows), VISITS).to_pandas()


def _online(store: "FeatureStore", user: str) -> tuple[str, int | None]:
    from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

    response = store.get_online_features(["visits:clicks"], [{"user_id": user}])
    position = list(response.proto.metadata.feature_names.val).index("clicks")
    status = response.proto.results[position].statuses[0]
    return FieldStatus.Name(status), response.to_dict()["clicks"][0]
