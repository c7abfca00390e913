"""Feast's online calls on our store and on its own: the same answers, or a deviation with a reason.

The reasons are in docs/guides/features.md, "Where it differs from Feast's stores".
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.filterwarnings("ignore")  # Feast's own

NOW = datetime.now(UTC).replace(microsecond=0)
HOUR = timedelta(hours=1)
STORES = {
    "ours in a file": "{{type: scale_assets.features.online.PackedOnlineStore, address: '{folder}/online.db'}}",
    "ours in Redis": "{{type: scale_assets.features.online.PackedOnlineStore, address: '{redis}'}}",
    "Feast's SQLite": "{{type: sqlite, path: '{folder}/feast.db'}}",
    "Feast's Redis": "{{type: redis, connection_string: '{host}'}}",
}
OURS = ["ours in a file", "ours in Redis"]


class Shop:
    """A repository applied to one store."""

    def __init__(self, folder: Path, store: str, redis: str) -> None:
        from feast import Entity, FeatureStore, FeatureView, Field, PushSource, ValueType
        from feast.infra.offline_stores.file_source import FileSource
        from feast.types import Array, Bool, Float64, Int64, String

        host = redis.removeprefix("redis://").removesuffix("/0")
        online = STORES[store].format(folder=folder, redis=redis, host=host)
        (folder / "feature_store.yaml").write_text(
            f"project: p{folder.name.replace('-', '_')}\nprovider: local\n"
            f"registry: {{path: '{folder}/registry.pb', cache_ttl_seconds: 0}}\n"
            f"online_store: {online}\nentity_key_serialization_version: 3\n"
        )
        user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.STRING)
        batch = FileSource(name="rows", path=str(folder / "rows.parquet"), timestamp_field="at")
        self.view = FeatureView(
            name="visits",
            entities=[user],
            ttl=2 * HOUR,
            schema=[
                Field(name="clicks", dtype=Int64),
                Field(name="score", dtype=Float64),
                Field(name="paying", dtype=Bool),
                Field(name="city", dtype=String),
                Field(name="sites", dtype=Array(Int64)),
            ],
            source=PushSource(name="push", batch_source=batch),
        )
        self.store = FeatureStore(repo_path=str(folder))
        self.store.apply([user, self.view])

    def write(self, *rows: dict[str, Any]) -> None:
        import pandas as pd

        self.store.write_to_online_store("visits", pd.DataFrame(list(rows)))

    def status(self, user: str, feature: str = "clicks") -> tuple[str, Any]:
        from feast.protos.feast.serving.ServingService_pb2 import FieldStatus

        found = self.store.get_online_features([f"visits:{feature}"], [{"user_id": user}])
        at = list(found.proto.metadata.feature_names.val).index(feature)
        return FieldStatus.Name(found.proto.results[at].statuses[0]), found.to_dict()[feature][0]


def visit(user: str, at: datetime, clicks: int | None = 3) -> dict[str, Any]:
    values = {"score": 0.5, "paying": True, "city": "Zürich", "sites": [1, 2]}
    return {"user_id": user, "at": at, "clicks": clicks, **values}


@pytest.fixture(params=list(STORES))
def any_store(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def shop(any_store: str, tmp_path: Path, empty_redis: str) -> Shop:
    return Shop(tmp_path, any_store, empty_redis)


def test_values_of_every_type_in_the_order_asked(shop: Shop) -> None:
    shop.write(visit("a", NOW), visit("b", NOW, 4))
    names = ["clicks", "score", "paying", "city", "sites"]

    found = shop.store.get_online_features(
        [f"visits:{name}" for name in names],
        [{"user_id": user} for user in ("b", "nobody", "a", "b")],
    ).to_dict()

    assert found["clicks"] == [4, None, 3, 4]
    assert found["city"] == ["Zürich", None, "Zürich", "Zürich"]
    assert (found["sites"][0], found["paying"][2], found["score"][3]) == ([1, 2], True, 0.5)


def test_full_names_and_event_times(shop: Shop) -> None:
    shop.write(visit("a", NOW))

    found = shop.store.get_online_features(
        ["visits:clicks"], [{"user_id": "a"}], full_feature_names=True
    ).to_dict(include_event_timestamps=True)

    assert found["visits__clicks"] == [3]
    assert found["visits__clicks__ts"] == [int(NOW.timestamp())]


def test_a_push_is_read(shop: Shop) -> None:
    import pandas as pd

    shop.store.push("push", pd.DataFrame([visit("a", NOW, 9)]))

    assert shop.status("a") == ("PRESENT", 9)


def test_a_value_that_is_not_there(any_store: str, shop: Shop) -> None:
    shop.write(visit("a", NOW))

    expected = "PRESENT" if any_store == "Feast's Redis" else "NOT_FOUND"
    assert shop.status("nobody") == (expected, None)


def test_expired_values(any_store: str, shop: Shop) -> None:
    shop.write(visit("a", NOW - 3 * HOUR))

    expected = ("OUTSIDE_MAX_AGE", None) if any_store in OURS else ("PRESENT", 3)
    assert shop.status("a") == expected


def test_null_values(any_store: str, shop: Shop) -> None:
    shop.write(visit("a", NOW) | {"city": None})

    assert shop.status("a", "city") == ("NULL_VALUE" if any_store in OURS else "PRESENT", None)


def test_a_late_push(any_store: str, shop: Shop) -> None:
    shop.write(visit("a", NOW, 1))
    shop.write(visit("a", NOW - HOUR, 2))

    assert shop.status("a")[1] == (2 if any_store == "Feast's SQLite" else 1)


def test_a_deleted_view_takes_its_values(any_store: str, shop: Shop) -> None:
    shop.write(visit("a", NOW))

    shop.store.apply([], objects_to_delete=[shop.view], partial=False)
    shop.store.apply([shop.view])

    assert shop.status("a")[1] is None
