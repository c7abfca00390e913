"""Redis asks for its password and keeps its port and password across restarts."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from scale_assets.servers.errors import ServerUnavailable
from scale_assets.servers.redis import Redis, find_program
from scale_assets.servers.server import Server
from tests.servers.fixtures import started


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with started(Redis(tmp_path / "redis", any_port=True)) as server:
        yield server


def test_it_asks_for_its_password_and_keeps_it(server: Server) -> None:
    first = server.start()
    with redis.Redis(port=server.port) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    server.stop()
    assert server.start().address == first.address


def test_without_a_program_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("scale_assets.servers.redis.find_spec", lambda _: None)
    with pytest.raises(ServerUnavailable, match="apt-get install redis-server"):
        find_program()
