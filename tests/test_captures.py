"""`scale capture`: a declared capture from the command line, once and until told to end."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
import pytest
from rich.console import Console as RichConsole
from typer.testing import CliRunner

from scale_assets.captures import run_capture
from scale_assets.cli import app
from scale_assets.console import Console
from scale_assets.errors import ScaleError
from scale_assets.lake import Lake
from scale_assets.settings import load_settings
from tests.ingest.postgres.conftest import PLANS
from tests.ingest.postgres.server import Server, running_server

DECLARED = """\
type: scale_assets.components.DatabaseCapture
attributes:
  name: shop
  connection: shop
  slot: shop
  publication: shop
  tables:
    - {name: plans, table: public.plans, contract: plans.odcs.yaml, key: [id]}
"""
DG = """\
directory_type = "project"
[project]
root_module = "shop"
code_location_name = "shop"
"""
TABLE = "create table plans (id bigint primary key, price int not null, terms text)"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def lake(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """Stand in a project that declares one capture."""
    folder = tmp_path / "shop" / "defs" / "shop"
    folder.mkdir(parents=True)
    (tmp_path / "dg.toml").write_text(DG)
    (folder.parent.parent / "__init__.py").touch()
    (folder / "defs.yaml").write_text(DECLARED)
    (folder / "plans.odcs.yaml").write_text(PLANS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("SCALE_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("SCALE_LAKE_ROOT", str(tmp_path / "lake"))
    monkeypatch.setenv("SCALE_POSTGRES__SHOP", server.dsn())
    return Lake(tmp_path / "lake")


def scale(
    *resync: str, follow: bool = False, replay_quarantine: bool = False, name: str = "shop"
) -> str:
    """Run it as the command line does; what it printed."""
    said = StringIO()
    console = Console(RichConsole(file=said, width=200))
    run_capture(
        load_settings(),
        console,
        name,
        resync=resync,
        follow=follow,
        replay_quarantine=replay_quarantine,
    )
    return said.getvalue()


def test_a_capture_is_run_resynced_and_followed(lake: Lake, server: Server) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as database:
        database.execute(TABLE)
        database.execute("insert into plans values (1, 10, null), (2, 20, null)")
        assert "raw/plans_changes: 2 new changes, 0 set aside" in scale()

        database.execute("select pg_drop_replication_slot('shop')")
        database.execute("delete from plans where id = 1")
        with pytest.raises(ScaleError, match="scale capture shop --resync"):
            scale()
        assert "2 new changes" in scale("public.plans")

        _follow(lake, database)
        database.execute("alter table plans add column note text")
        database.execute("insert into plans values (4, 40, null, 'new')")
        assert "0 new changes, 1 set aside" in scale()
        contract = Path("shop", "defs", "shop", "plans.odcs.yaml")
        note = "      - {name: note, logicalType: string}\n"
        contract.write_text(PLANS.replace("1.0.0", "1.1.0") + note)
        said = scale(replay_quarantine=True)
        assert "1 quarantined lines read again: 1 accepted, 0 were duplicates" in said
    with pytest.raises(ScaleError, match="no capture 'bar' is declared; declared: shop"):
        scale(name="bar")


def test_a_replay_has_an_end_and_following_has_none() -> None:
    said = CliRunner().invoke(app, ["capture", "shop", "--follow", "--replay-quarantine"])
    assert "replay in a run of its own" in str(said.exception)


def test_a_table_alone_means_nothing() -> None:
    said = CliRunner().invoke(app, ["capture", "shop", "--table", "public.plans"])
    assert "give --resync too" in str(said.exception)


def _follow(lake: Lake, database: psycopg.Connection[Any]) -> None:
    """Rows arrive while it runs; being told to end, it ends well."""

    def write_then_end() -> None:
        database.execute("insert into plans values (3, 30, null)")
        give_up = time.monotonic() + 60
        while lake.num_rows("raw/plans_changes") < 5 and time.monotonic() < give_up:
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    survived = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        writer = threading.Thread(target=write_then_end)
        writer.start()
        followed = scale(follow=True)
        writer.join()
    finally:
        signal.signal(signal.SIGTERM, survived)
    assert "1 new changes" in followed
    assert lake.num_rows("raw/plans_changes") == 5
