"""PostgreSQL comes up able to decode, keeps what was committed, and says why when it cannot."""

import os
from pathlib import Path

import psycopg
import pytest

from scale_assets.servers import postgres
from scale_assets.servers.errors import ServerUnavailable
from scale_assets.servers.server import Server


def dsn(server: Server) -> str:
    found = server.running()
    assert found is not None
    return found.settings["SCALE_POSTGRES__LOCAL"]


def test_it_decodes_logically_and_asks_for_a_password(postgres_server: Server) -> None:
    with psycopg.connect(dsn(postgres_server)) as connection:
        assert connection.execute("show wal_level").fetchone() == ("logical",)
        assert connection.execute("show server_encoding").fetchone() == ("UTF8",)
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(dsn(postgres_server), password="wrong")


def test_what_was_committed_outlives_a_kill(postgres_server: Server) -> None:
    with psycopg.connect(dsn(postgres_server)) as connection:
        connection.execute("drop table if exists kept; create table kept as select 7 as n")

    assert postgres_server.stop(hard=True)
    assert postgres_server.running() is None
    postgres_server.start()

    with psycopg.connect(dsn(postgres_server)) as connection:
        assert connection.execute("select n from kept").fetchone() == (7,)


def test_without_its_programs_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "Path", lambda _: tmp_path)
    monkeypatch.setattr(postgres, "_programs_of_wheel", list)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ServerUnavailable, match="apt-get install postgresql"):
        postgres.find_programs()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to run it as another user")
def test_root_is_told_which_folder_is_closed(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(ServerUnavailable, match=r"root.*cannot enter .*set SCALE_DATA_DIR"):
        postgres.Postgres(tmp_path / "postgres", any_port=True).start()
