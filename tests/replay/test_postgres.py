"""Statements on a real database, captured from its log, tell what the files tell."""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from scale_assets.ingest.changes import ChangeFeed
from scale_assets.ingest.file_source import FilesSource
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.postgres.capture import Capture
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.ingest.postgres.connection import Database
from scale_assets.ingest.postgres.source import PostgresSource
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.lake import Lake
from scale_assets.replay.feeds import replay
from scale_assets.replay.postgres import replay_to_postgres
from scale_assets.replay.source import Input, InputError
from tests.ingest.postgres.server import Server, drop_slots, fresh_database, running_server

CONTRACTS = Path(__file__).resolve().parents[2] / "scale_assets" / "defs" / "ingest" / "contracts"
NAMES = ("registrations", "students")
OWN = {"lsn", "tx_id", "tx_ordinal", "_source_file", "_position", "_unchanged", "_moved_from"}
MIDWAY = date(2013, 3, 1)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def database(server: Server, request: pytest.FixtureRequest) -> Iterator[Database]:
    yield Database("u", fresh_database(server, f"t{abs(hash(request.node.nodeid)) % 10**12}"))
    drop_slots(server)


def captured(lake: Lake, database: Database) -> dict[str, set[Any]]:
    spec = CaptureSpec(name="u", database=database, slot="u", publication="u", simulated_clock=True)
    feeds = [
        PostgresChanges(
            name=name,
            source=PostgresSource(database, "u", (f"public.{name}",)),
            contract_path=CONTRACTS / f"{name}.odcs.yaml",
            table=f"raw/{name}_changes",
            quarantine_table=f"raw/{name}_quarantine",
            relation=f"public.{name}",
        )
        for name in NAMES
    ]
    Capture(lake, spec, feeds).run()
    return {name: told(lake, name) for name in NAMES}


def from_files(lake: Lake, source: Input, folder: Path) -> dict[str, set[Any]]:
    replay(source, folder, until=None)
    for name in NAMES:
        feed = ChangeFeed(
            name=name,
            source=FilesSource(folder / name),
            contract_path=CONTRACTS / f"{name}.odcs.yaml",
            table=f"raw/{name}_changes",
            quarantine_table=f"raw/{name}_quarantine",
        )
        ingest(lake, feed)
    return {name: told(lake, name) for name in NAMES}


def told(lake: Lake, name: str) -> set[Any]:
    """Each change without where it stood in its source; there is no quarantine."""
    assert lake.num_rows(f"raw/{name}_quarantine") == 0
    rows = lake.read(f"raw/{name}_changes").to_pylist()
    changes = [tuple(sorted((n, v) for n, v in row.items() if n not in OWN)) for row in rows]
    assert len(set(changes)) == len(changes)
    return set(changes)


def test_captured_in_two_steps_it_equals_the_files(
    small_world: Input, database: Database, tmp_path: Path
) -> None:
    lake = Lake(tmp_path / "captured")
    before = date(1999, 1, 1)
    assert replay_to_postgres(small_world, database.dsn, until=before).num_changes == 0
    captured(lake, database)  # the slot is there before the first change
    first = replay_to_postgres(small_world, database.dsn, until=MIDWAY)
    captured(lake, database)
    second = replay_to_postgres(small_world, database.dsn)
    changes = captured(lake, database)

    assert min(first.num_changes, second.num_changes) > 0
    assert replay_to_postgres(small_world, database.dsn).num_changes == 0
    assert changes == from_files(Lake(tmp_path / "files"), small_world, tmp_path / "feeds")


def test_another_input_is_refused(small_world: Input, database: Database) -> None:
    replay_to_postgres(small_world, database.dsn, until=MIDWAY)
    with psycopg.connect(database.dsn) as connection:
        connection.execute("update scale_clock set input = 'another'")
    with pytest.raises(InputError, match="filled from another input"):
        replay_to_postgres(small_world, database.dsn)


def test_a_capture_that_comes_late_reads_what_is_there_at_the_clocks_time(
    small_world: Input, database: Database, tmp_path: Path
) -> None:
    done = replay_to_postgres(small_world, database.dsn, until=MIDWAY)
    assert done.last_day is not None
    changes = captured(Lake(tmp_path / "late"), database)

    times = {dict(change)["received_at"].date() for change in changes["registrations"]}
    assert times == {done.last_day + timedelta(days=1)}
