"""A person goes out of a Redis too, and the check looks there."""

import dataclasses

import pytest

from scale_assets.erasure.forget import check
from scale_assets.features.reader import OnlineReader
from scale_assets.features.stores import open_backend
from tests.erasure.conftest import GONE, VIEW, Shop, push
from tests.features.conftest import empty_redis, redis_url  # noqa: F401


@pytest.fixture
def in_redis(shop: Shop, empty_redis: str) -> Shop:  # noqa: F811
    push(shop, ["north-4711", "south-4711", "north-4712", "north-9"], store=empty_redis)
    return dataclasses.replace(shop, redis_url=f"{empty_redis}?socket_timeout=5")


def test_their_values_go_and_others_stay(in_redis: Shop) -> None:
    statement = in_redis.forget()

    assert statement.checked.residues == ()
    assert any(place.startswith("redis://127.0.0.1") for place in statement.scope)
    with open_backend(in_redis.redis_url) as backend:
        found = OnlineReader(backend).read(VIEW.name, ["north-4711", "north-4712", "north-9"])
    assert [row is not None for row in found] == [False, True, True]


def test_what_came_back_is_found(in_redis: Shop) -> None:
    in_redis.forget()
    push(in_redis, ["north-4711"], store=in_redis.redis_url)

    checked = check(in_redis.scope, subject="user", ids=[str(GONE)])

    assert [each.where for each in checked.residues] == [f"view {VIEW.name}"]
