"""What Feast's universal retrieval tests cover, on our offline store and on Feast's own two.

Where a store of Feast's does something else, the test says what: docs/guides/features-offline.md has the list.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scale_assets.lake import Lake

if TYPE_CHECKING:
    import pandas as pd

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own, on import and on every call

HOUR = timedelta(hours=1)
START = datetime(2013, 3, 1, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
STORES = ["ours", "duckdb", "dask"]
TABLES = {
    "driver": pa.table(
        {
            "driver_id": pa.array([1, 1, 2, 1, 3], pa.int64()),
            "at": pa.array([START + h * HOUR for h in (1, 3, 2, 2, 0)], TIME),
            "created": pa.array(  # one late, one unknown
                [*(START + h * HOUR for h in (1, 3, 2, 8)), None], TIME
            ),
            "conv_rate": [0.1, 0.3, 0.2, 0.9, 0.4],
            "trips": pa.array([10, 30, 20, 90, 40], pa.int64()),
        }
    ),
    "place": pa.table(
        {
            "place_id": pa.array([7, 8], pa.int64()),
            "at": pa.array([START, START], TIME),
            "temp": [20.5, 30.5],
        }
    ),
    "world": pa.table({"at": pa.array([START, START + 4 * HOUR], TIME), "rides": [100, 200]}),
}


class Shop:
    """One repository on one offline store; its tables are Delta for ours, Parquet for Feast's."""

    def __init__(self, folder: Path, kind: str) -> None:
        from feast import FeatureStore, RepoConfig

        self.kind, self.folder = kind, folder
        settings: dict[str, Any] = {"type": kind}
        if kind == "ours":
            settings = {
                "type": "scale_assets.features.offline.LakeOfflineStore",
                "lake_root": str(folder / "lake"),
            }
        for name, table in TABLES.items():
            pq.write_table(table, folder / f"{name}.parquet")
            Lake(folder / "lake").overwrite(name, table)
        self.store = FeatureStore(
            config=RepoConfig(
                project="shop",
                provider="local",
                registry={"registry_type": "sql", "path": f"sqlite:///{folder / 'registry.db'}"},
                offline_store=settings,
                online_store={"type": "sqlite", "path": str(folder / "online.db")},
                entity_key_serialization_version=3,
            )
        )
        self._apply()

    def _source(self, name: str, **more: Any) -> Any:
        from feast import FileSource
        from feast.data_format import DeltaFormat, ParquetFormat

        ours = self.kind == "ours"
        return FileSource(
            name=f"{name}_table",
            path=name if ours else str(self.folder / f"{name}.parquet"),
            file_format=DeltaFormat() if ours else ParquetFormat(),
            timestamp_field="at",
            **more,
        )

    def _apply(self) -> None:
        import pandas as pd
        from feast import Entity, FeatureService, FeatureView, Field, RequestSource, ValueType
        from feast.on_demand_feature_view import on_demand_feature_view
        from feast.types import Float64, Int64

        driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.INT64)
        place = Entity(name="place", join_keys=["place_id"], value_type=ValueType.INT64)
        drivers = FeatureView(
            name="drivers",
            entities=[driver],
            ttl=6 * HOUR,
            schema=[Field(name="conv_rate", dtype=Float64), Field(name="trips", dtype=Int64)],
            source=self._source("driver", created_timestamp_column="created"),
        )
        places = FeatureView(
            name="places",
            entities=[place],
            schema=[Field(name="temperature", dtype=Float64)],
            source=self._source("place", field_mapping={"temp": "temperature"}),
        )
        world = FeatureView(
            name="world",
            entities=[],
            schema=[Field(name="rides", dtype=Int64)],
            source=self._source("world"),
        )
        asked = RequestSource(name="asked", schema=[Field(name="bonus", dtype=Int64)])

        @on_demand_feature_view(
            sources=[drivers, asked], schema=[Field(name="better", dtype=Float64)], mode="pandas"
        )
        def improved(inputs: pd.DataFrame) -> pd.DataFrame:
            return pd.DataFrame({"better": inputs["conv_rate"] + inputs["bonus"]})

        ride = FeatureService(
            name="ride",
            features=[
                places.with_name("origin").with_join_key_map({"place_id": "origin_id"}),
                places.with_name("goal").with_join_key_map({"place_id": "goal_id"}),
            ],
        )
        rated = FeatureService(name="rated", features=[drivers[["conv_rate"]], improved])
        self.store.apply([driver, place, drivers, places, world, improved, ride, rated])

    def get(self, frame: Any, features: Any, **options: Any) -> "pd.DataFrame":
        return self.store.get_historical_features(frame, features, **options).to_df()


@pytest.fixture(params=STORES, scope="module")
def shop(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return Shop(tmp_path_factory.mktemp("ours"), "ours")


def frame(hours: list[int], **columns: list[Any]) -> "pd.DataFrame":
    import pandas as pd

    times = [START + hour * HOUR for hour in hours]
    return pd.DataFrame({**columns, "event_timestamp": times})


def known(values: Any) -> list[Any]:
    import pandas as pd

    return [None if pd.isna(value) else value for value in values]


@pytest.mark.parametrize("full", [True, False], ids=["full names", "short names"])
def test_features_of_views_services_and_on_demand_views(shop: Shop, full: bool) -> None:
    asked = frame([3, 4], driver_id=[1, 2], bonus=[1, 2])
    prefix = ("drivers__", "improved__") if full else ("", "")

    by_name = shop.get(asked, ["drivers:trips", "improved:better"], full_feature_names=full)
    by_service = shop.get(asked, shop.store.get_feature_service("rated"), full_feature_names=full)

    by_name, by_service = by_name.sort_values("driver_id"), by_service.sort_values("driver_id")
    assert known(by_name[f"{prefix[0]}trips"]) == [30, 20]
    assert known(by_name[f"{prefix[1]}better"]) == [1.3, 2.2]
    assert known(by_service[f"{prefix[0]}conv_rate"]) == [0.3, 0.2]


def test_one_view_under_two_names_and_mapped_fields(shop: Shop) -> None:
    asked = frame([1, 2], origin_id=[7, 8], goal_id=[8, 9])

    found = shop.get(asked, shop.store.get_feature_service("ride"), full_feature_names=True)

    found = found.sort_values("origin_id")
    assert known(found["origin__temperature"]) == [20.5, 30.5]
    assert known(found["goal__temperature"]) == [30.5, None]


def test_a_view_about_everything(shop: Shop) -> None:
    assert known(shop.get(frame([1, 5], driver_id=[1, 2]), ["world:rides"])["rides"]) == [100, 200]


def test_a_row_of_each_entity_row_in_order(shop: Shop) -> None:
    """Unknown and expired entities, and repeats: ours keeps every row where it was."""
    asked = frame([3, 3, 12, 3, 1], driver_id=[2, 99, 1, 2, 1])

    found = shop.get(asked, ["drivers:trips"], filter_by_created_timestamp=True)

    if shop.kind == "ours":
        assert list(found["driver_id"]) == [2, 99, 1, 2, 1]
        assert known(found["trips"]) == [20, None, None, 20, 10]
    elif shop.kind == "duckdb":  # promises no order
        trips = known(found["trips"])
        assert sorted(value for value in trips if value is not None) == [10, 20, 20]
        assert trips.count(None) == 2
    else:  # the expired row is lost, and so is the repeated one
        found = found.sort_values("driver_id")
        assert list(found["driver_id"]) == [1, 2, 99]
        assert known(found["trips"]) == [10, 20, None]


def test_backfills_are_hidden_by_default(shop: Shop) -> None:
    """Hour 2 was written at hour 8: at hour 2 nobody knew."""
    asked = frame([2], driver_id=[1])

    default = known(shop.get(asked, ["drivers:trips"])["trips"])
    filtered = known(shop.get(asked, ["drivers:trips"], filter_by_created_timestamp=True)["trips"])

    assert default == ([10] if shop.kind == "ours" else [90])
    assert filtered == [10]


def test_a_row_that_was_created_nobody_knows_when(shop: Shop) -> None:
    found = known(shop.get(frame([1], driver_id=[3]), ["drivers:trips"])["trips"])

    assert found == ([None] if shop.kind == "ours" else [40])


def test_a_missing_join_key_is_named(shop: Shop) -> None:
    with pytest.raises(Exception, match="driver_id") as refused:
        shop.get(frame([2], driver=[1]), ["drivers:trips"])

    assert (
        type(refused.value).__name__
        == {
            "ours": "FeastEntityDFMissingColumnsError",
            "duckdb": "IbisTypeError",
            "dask": "KeyError",
        }[shop.kind]
    )


def test_missing_request_data_and_unknown_features_are_refused(shop: Shop) -> None:
    from feast.errors import RequestDataNotFoundInEntityDfException

    with pytest.raises(RequestDataNotFoundInEntityDfException, match="bonus"):
        shop.get(frame([2], driver_id=[1]), ["improved:better"])
    with pytest.raises(KeyError, match="nothing"):
        shop.get(frame([2], driver_id=[1]), ["drivers:nothing"])


def test_a_saved_dataset_is_the_result(shop: Shop, tmp_path: Path) -> None:
    from feast.errors import SavedDatasetLocationAlreadyExists
    from feast.infra.offline_stores.file_source import SavedDatasetFileStorage

    job = shop.store.get_historical_features(frame([3], driver_id=[1]), ["drivers:trips"])
    storage = SavedDatasetFileStorage(str(tmp_path / "saved.parquet"))

    saved = shop.store.create_saved_dataset(job, "saved", storage, allow_overwrite=True)

    assert known(saved.to_df()["trips"]) == [30]
    with pytest.raises(SavedDatasetLocationAlreadyExists):
        job.persist(storage)


def test_all_rows_and_latest_rows_of_a_range(shop: Shop) -> None:
    view = shop.store.get_feature_view("drivers")
    provider = shop.store._get_provider()
    arguments: dict[str, Any] = {
        "config": shop.store.config,
        "data_source": view.batch_source,
        "join_key_columns": ["driver_id"],
        "feature_name_columns": ["trips"],
        "timestamp_field": "at",
        "created_timestamp_column": "created",
        "start_date": START + HOUR,
        "end_date": START + 2 * HOUR,
    }

    every = provider.offline_store.pull_all_from_table_or_query(**arguments).to_df()
    latest = provider.offline_store.pull_latest_from_table_or_query(**arguments).to_df()

    assert sorted(every["trips"]) == [10, 20, 90]
    assert sorted(latest["trips"]) == [20, 90]


def test_a_range_of_times_instead_of_entity_rows(shop: Shop) -> None:
    """Ours has a row for each moment at which something became known."""
    bounds = {"start_date": START, "end_date": START + 9 * HOUR}
    if shop.kind == "duckdb":
        with pytest.raises(TypeError, match="start_date"):
            shop.get(None, ["drivers:trips"], **bounds)
        return

    found = shop.get(None, ["drivers:trips"], **bounds)

    hours = [(time - START) // HOUR for time in found["event_timestamp"]]
    rows = list(zip(found["driver_id"], hours, known(found["trips"]), strict=True))
    if shop.kind == "dask":  # at the end, what has not expired
        assert rows == [(1, 9, 30)]
        return
    assert rows == [
        (1, 1, 10),
        (1, 3, 30),
        (1, 8, 30),  # the late row came, and was not the newest
        (2, 2, 20),
    ]


def test_a_range_needs_common_keys(ours: Shop) -> None:
    from scale_assets.features.offline_job import OfflineStoreError

    with pytest.raises(OfflineStoreError, match="no entity rows in common"):
        ours.get(None, ["drivers:trips", "places:temperature"], end_date=START)


def test_the_result_says_whether_backfills_were_used(ours: Shop) -> None:
    job = ours.store.get_historical_features(frame([3], driver_id=[1]), ["drivers:trips"])

    assert job.metadata.backfills == "hidden"
    assert job.to_arrow().schema.metadata == {b"scale.backfills": b"hidden"}


def test_tensors(ours: Shop) -> None:
    job = ours.store.get_historical_features(frame([3, 4], driver_id=[1, 2]), ["drivers:trips"])

    assert job.to_tensor()["trips"].tolist() == [30, 20]
