"""`scale up` starts what can be had and says how to get the rest."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scale_assets.errors import ScaleError
from scale_assets.servers.catalog import all_servers, chosen, start_all, write_env_file
from scale_assets.servers.errors import ServerUnavailable
from scale_assets.servers.process import Running
from tests.servers.test_process import Echo


class Missing(Echo):
    name = "missing"

    def start(self) -> Running:
        raise ServerUnavailable("missing", why="there is none", way_out="install one")


@contextmanager
def quietly(_: str) -> Iterator[None]:
    yield


def test_one_that_cannot_be_had_keeps_none_from_starting(tmp_path: Path) -> None:
    echo = Echo(tmp_path / "echo", any_port=True)
    try:
        started = start_all([Missing(tmp_path / "missing"), echo], working=quietly)
        assert started.addresses == {"echo": f"127.0.0.1:{echo.port}"}
        assert started.failures == ["missing cannot start: there is none; install one"]
    finally:
        echo.stop(hard=True)


def test_servers_are_chosen_in_starting_order(tmp_path: Path) -> None:
    names = [server.name for server in chosen(tmp_path, ["connect", "kafka"])]
    assert names == ["kafka", "connect"]
    assert [server.name for server in chosen(tmp_path, [])] == list(all_servers(tmp_path))
    with pytest.raises(ScaleError, match="no server mysql; there are postgres"):
        chosen(tmp_path, ["mysql"])


def test_connect_needs_a_broker(tmp_path: Path) -> None:
    with pytest.raises(ServerUnavailable, match="start kafka as well"):
        all_servers(tmp_path)["connect"].start()


def test_the_env_file_keeps_its_other_lines(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("SCALE_DATA_DIR=here\nSCALE_KAFKA_BOOTSTRAP_SERVERS=old:1\n")
    write_env_file(path, {"SCALE_KAFKA_BOOTSTRAP_SERVERS": "new:2", "SCALE_S3_REGION": "x y"})
    assert path.read_text() == (
        "SCALE_DATA_DIR=here\nSCALE_KAFKA_BOOTSTRAP_SERVERS=new:2\nSCALE_S3_REGION='x y'\n"
    )


def test_a_new_env_file_is_closed_to_others(tmp_path: Path) -> None:
    write_env_file(tmp_path / ".env", {"SCALE_S3_REGION": "x"})
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0
