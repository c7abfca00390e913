"""Online stores to test on, each empty: a file, a Redis, a Redis Cluster."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis import Redis
from redis.cluster import RedisCluster

from tests.features.redis_servers import redis_cluster, redis_server, wait_until


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as port, Redis(port=port) as client:
        wait_until(client.ping)
        yield f"redis://127.0.0.1:{port}/0"


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as ports:
        yield f"redis+cluster://127.0.0.1:{ports[0]}"


@pytest.fixture
def empty_redis(redis_url: str) -> str:
    with Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url


@pytest.fixture
def empty_cluster(cluster_url: str) -> str:
    with RedisCluster.from_url(cluster_url.replace("redis+cluster", "redis")) as client:
        client.flushall(target_nodes="primaries")
    return cluster_url


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty online store, one kind after another."""
    if request.param == "sqlite":
        return str(tmp_path / "deeper" / "online.db")
    return str(request.getfixturevalue(f"empty_{request.param}"))
