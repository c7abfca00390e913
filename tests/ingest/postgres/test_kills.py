"""kill -9 in the snapshot, at the handover, in the stream: run again, and the rows are the same."""

import json
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scale_assets.ingest.account import account
from scale_assets.ingest.postgres.capture import Capture
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.ingest.postgres.connection import Database as DatabaseOf
from scale_assets.ingest.postgres.errors import SlotLost
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.lake import Lake
from tests.ingest.postgres.conftest import ORDERS, PLANS, TABLES, agree, changes, feed_of
from tests.ingest.postgres.killing import Doomed
from tests.ingest.postgres.server import Server, drop_slots, fresh_database
from tests.ingest.postgres.workload import Workload

pytestmark = pytest.mark.fault
SNAPSHOT_FAULTS = ["after_slot", "in_snapshot:1", "in_snapshot:4", "after_quarantine:1"]
HANDOVER_FAULTS = ["after_commit:1", "after_quarantine:2", "after_commit:2", "at_handover"]
STREAM_FAULTS = [
    *("before_write:3", "after_parquet:2", "after_quarantine:1", "after_quarantine:2"),
    *("after_commit:1", "after_commit:2", "before_acknowledge:1", "before_acknowledge:2"),
]
WINDOW_BYTES = 20_000
AT_LEAST_ZERO = "logicalTypeOptions: {minimum: 0}}"

Database = psycopg.Connection[Any]


@pytest.fixture
def small(spec: CaptureSpec) -> CaptureSpec:
    """Several pieces per snapshot, and several windows per run."""
    return replace(spec, max_batch_bytes=WINDOW_BYTES)


def no_change_twice(lake: Lake, feeds: Sequence[PostgresChanges]) -> None:
    for feed in feeds:
        seen = [(row["lsn"], row["tx_ordinal"]) for row in changes(lake, feed.name)]
        assert len(set(seen)) == len(seen)
        assert account(lake, feed).is_exact


@pytest.mark.parametrize("fault", [*SNAPSHOT_FAULTS, *HANDOVER_FAULTS])
def test_killed_before_the_stream(
    lake: Lake,
    small: CaptureSpec,
    feeds: list[PostgresChanges],
    database: Database,
    fault: str,
) -> None:
    workload = Workload(database, seed=1)
    workload.fill(30, num_long=80)
    assert Doomed(lake, small, feeds).run(fault=fault)
    workload.transactions(10)

    Capture(lake, small, feeds).run()
    workload.transactions(5)
    Capture(lake, small, feeds).run()

    agree(lake, database)
    no_change_twice(lake, feeds)


@pytest.mark.parametrize("fault", STREAM_FAULTS)
def test_killed_in_the_stream(
    lake: Lake,
    small: CaptureSpec,
    feeds: list[PostgresChanges],
    database: Database,
    fault: str,
) -> None:
    workload = Workload(database, seed=2)
    workload.fill(5)
    Capture(lake, small, feeds).run()
    workload.transactions(20)
    assert Doomed(lake, small, feeds).run(fault=fault)
    workload.transactions(5)

    Capture(lake, small, feeds).run()

    agree(lake, database)
    no_change_twice(lake, feeds)


def killed_over_and_over(
    lake: Lake,
    spec: CaptureSpec,
    feeds: list[PostgresChanges],
    database: Database,
    *,
    seed: int,
    times: int,
) -> int:
    """Random work, random deaths; how many runs were killed before they ended."""
    chance = random.Random(seed)
    workload = Workload(database, seed)
    workload.fill(20)
    doomed = Doomed(lake, spec, feeds)
    num_killed = 0
    for _ in range(times):
        workload.transactions(chance.randint(0, 12))
        num_killed += doomed.run(seconds=chance.uniform(0.05, 1.5))
    Capture(lake, spec, feeds).run()
    agree(lake, database)
    no_change_twice(lake, feeds)
    return num_killed


def test_killed_ten_times_at_random(
    lake: Lake, small: CaptureSpec, feeds: list[PostgresChanges], database: Database
) -> None:
    assert killed_over_and_over(lake, small, feeds, database, seed=3, times=10) > 0


@dataclass(frozen=True)
class Death:
    """After some transactions, a run that dies at a point, or that does not."""

    num_transactions: int
    fault: str


DEATHS = st.builds(
    Death,
    st.integers(0, 6),
    st.sampled_from(["", *SNAPSHOT_FAULTS, *HANDOVER_FAULTS, *STREAM_FAULTS]),
)


@settings(
    max_examples=5,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.generate],
)
@given(deaths=st.lists(DEATHS, min_size=2, max_size=5), seed=st.integers(0, 10**6))
def test_any_deaths_between_any_transactions(
    postgres: Server, tmp_path_factory: pytest.TempPathFactory, deaths: list[Death], seed: int
) -> None:
    dsn = fresh_database(postgres, f"deaths_{uuid.uuid4().hex}")
    folder = tmp_path_factory.mktemp("deaths")
    spec = CaptureSpec(
        name="shop",
        database=DatabaseOf("shop", dsn),
        slot=f"s{uuid.uuid4().hex}",
        publication="shop",
        max_batch_bytes=WINDOW_BYTES,
    )
    feeds = [
        feed_of(spec, folder, name, text) for name, text in (("plans", PLANS), ("orders", ORDERS))
    ]
    lake = Lake(folder / "lake")
    with psycopg.connect(dsn, autocommit=True) as database:
        database.execute(TABLES)
        workload = Workload(database, seed)
        workload.fill(10, num_long=30)
        doomed = Doomed(lake, spec, feeds)
        for death in deaths:
            workload.transactions(death.num_transactions)
            doomed.run(fault=death.fault)
        Capture(lake, spec, feeds).run()
        agree(lake, database)
        no_change_twice(lake, feeds)
    drop_slots(postgres)


@pytest.mark.parametrize(
    ("where", "fault", "num_refused"),
    [
        pytest.param("snapshot", "before_write:2", 0, id="nothing was committed"),
        pytest.param("snapshot", "after_quarantine:1", 0, id="a lost snapshot is judged anew"),
        pytest.param("snapshot", "after_commit:1", 50, id="a whole snapshot stays"),
        pytest.param("stream", "before_write:2", 0, id="a window is read again"),
        pytest.param("stream", "after_quarantine:1", 60, id="an unfinished window stays judged"),
        pytest.param("stream", "after_commit:1", 60, id="a whole window stays"),
    ],
)
def test_refused_rows_are_set_aside_once(
    lake: Lake,
    small: CaptureSpec,
    feeds: list[PostgresChanges],
    database: Database,
    where: str,
    fault: str,
    num_refused: int,
) -> None:
    feeds, contract = feeds[:1], feeds[0].contract_path
    contract.write_text(PLANS.replace("required: true}", "required: true, " + AT_LEAST_ZERO))
    if where == "stream":
        Capture(lake, small, feeds).run()
    database.execute("insert into plans select n, 50 - n, null from generate_series(1, 100) n")
    if where == "stream":
        database.execute("update plans set price = price where id > 90")
    assert Doomed(lake, small, feeds).run(fault=fault)
    contract.write_text(PLANS.replace("version: 1.0.0", "version: 1.1.0"))

    Capture(lake, small, feeds).run()

    refused = lake.read("raw/plans_quarantine")["raw"].to_pylist()
    rows = [(row["op"], row["after"]["id"]) for row in map(json.loads, refused)]
    assert len(set(rows)) == len(rows) == num_refused
    num_changes = 110 if where == "stream" else 100
    assert lake.num_rows("raw/plans_changes") == num_changes - num_refused
    assert account(lake, feeds[0]).is_exact


def test_a_window_whose_slot_is_gone_is_undone_by_the_resync(
    lake: Lake, small: CaptureSpec, feeds: list[PostgresChanges], database: Database
) -> None:
    feeds, contract = feeds[:1], feeds[0].contract_path
    contract.write_text(PLANS.replace("required: true}", "required: true, " + AT_LEAST_ZERO))
    Capture(lake, small, feeds).run()
    database.execute("insert into plans select n, 5 - n, null from generate_series(1, 10) n")
    assert Doomed(lake, small, feeds).run(fault="after_quarantine:1")
    assert lake.num_rows("raw/plans_quarantine") == 5
    drop_slots_of(database)

    with pytest.raises(SlotLost):
        Capture(lake, small, feeds).run()
    Capture(lake, small, feeds).run(resync=["public.plans"])

    refused = [json.loads(raw) for raw in lake.read("raw/plans_quarantine")["raw"].to_pylist()]
    assert sorted((row["op"], row["after"]["id"]) for row in refused) == [
        ("r", number) for number in range(6, 11)
    ]
    assert [row["id"] for row in changes(lake, "plans")] == [1, 2, 3, 4, 5]
    assert account(lake, feeds[0]).is_exact


def drop_slots_of(database: Database) -> None:
    """Once the killed reader has let go of them."""
    dropped = (
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots "
        "where database = current_database() and not active"
    )
    while not database.execute(dropped).fetchall():
        time.sleep(0.05)
