"""A slot that no longer carries on is noticed, never skipped; a new snapshot reconciles."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from scale_assets.ingest.account import account
from scale_assets.ingest.postgres.capture import Capture
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.ingest.postgres.connection import Database
from scale_assets.ingest.postgres.errors import NotPrepared, OtherServer, SlotLost
from scale_assets.ingest.postgres.server import find_slot
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.ingest.postgres.standing import AGE_BITS, standing_of
from scale_assets.lake import Lake
from tests.ingest.postgres.conftest import TABLES, agree, changes
from tests.ingest.postgres.server import Server, drop_slots, fresh_database, running_server

Connection = psycopg.Connection[Any]
BOTH = ("public.plans", "public.orders")


@pytest.fixture
def captured(
    capture: Callable[[], Capture], database: Connection, spec: CaptureSpec
) -> Callable[[], Capture]:
    """Both tables stand somewhere in the stream."""
    database.execute("insert into plans select n, n, null from generate_series(1, 5) n")
    capture().run()
    database.execute("update plans set price = 0 where id = 1")
    capture().run()
    return capture


def drop_slot(database: Connection, slot: str) -> None:
    database.execute("select pg_drop_replication_slot(%s)", [slot])


def make_slot(database: Connection, slot: str, plugin: str = "pgoutput") -> None:
    database.execute("select pg_create_logical_replication_slot(%s, %s)", [slot, plugin])


def resynced(lake: Lake, capture: Callable[[], Capture], database: Connection) -> None:
    """A new snapshot mends it, and the stream goes on from there."""
    report = capture().run(resync=BOTH)
    assert sorted(report.snapshots) == sorted(BOTH)
    agree(lake, database)
    database.execute("insert into plans values (77, 7, null)")
    assert capture().run().snapshots == []
    agree(lake, database)


def test_a_dropped_slot_stops_loudly_until_told_to_resync(
    captured: Callable[[], Capture], database: Connection, lake: Lake, spec: CaptureSpec,
    feeds: list[PostgresChanges],
) -> None:  # fmt: skip
    drop_slot(database, spec.slot)
    database.execute("delete from plans where id = 2")
    database.execute("update plans set price = 33 where id = 3")
    before = lake.version("raw/plans_changes")

    with pytest.raises(SlotLost, match=r"slot \w+ is gone.*scale capture shop --resync"):
        captured().run()
    assert lake.version("raw/plans_changes") == before

    resynced(lake, captured, database)
    deleted = [row for row in changes(lake, "plans") if row["op"] == "d"]
    assert [row["id"] for row in deleted] == [2]
    assert all(account(lake, feed).is_exact for feed in feeds)


@pytest.mark.parametrize("is_idle", [True, False])
def test_a_slot_made_anew_is_not_taken_for_the_old_one(
    captured: Callable[[], Capture], database: Connection, lake: Lake, spec: CaptureSpec,
    is_idle: bool,
) -> None:  # fmt: skip
    drop_slot(database, spec.slot)
    if not is_idle:
        database.execute("delete from plans where id = 2")
    make_slot(database, spec.slot)

    with pytest.raises(SlotLost, match="made anew, or somebody else read from it"):
        captured().run()
    resynced(lake, captured, database)


def test_a_slot_that_somebody_else_read_from_is_noticed(
    captured: Callable[[], Capture], database: Connection, lake: Lake, spec: CaptureSpec
) -> None:
    database.execute("delete from plans where id = 2")
    database.execute(
        "select count(*) from pg_logical_slot_get_binary_changes(%s, null, null, "
        "'proto_version', '1', 'publication_names', 'shop')",
        [spec.slot],
    )
    with pytest.raises(SlotLost, match="somebody else read from it"):
        captured().run()
    resynced(lake, captured, database)


def test_one_table_can_be_resynced_alone(
    captured: Callable[[], Capture], database: Connection, lake: Lake, spec: CaptureSpec
) -> None:
    """The slot is good: the others go on where they stand."""
    database.execute("insert into orders values ('a', 1, 1, null)")
    report = captured().run(resync=["public.plans"])

    assert report.snapshots == ["public.plans"]
    agree(lake, database)
    assert [row["op"] for row in changes(lake, "orders")] == ["c"]


def test_a_slot_of_another_kind_is_left_alone(
    capture: Callable[[], Capture], database: Connection, spec: CaptureSpec
) -> None:
    make_slot(database, spec.slot, "test_decoding")
    with pytest.raises(NotPrepared, match="with test_decoding; capture shop needs pgoutput"):
        capture().run()


def test_another_slot_is_noticed(
    captured: Callable[[], Capture], spec: CaptureSpec, lake: Lake, feeds: list[PostgresChanges]
) -> None:
    with pytest.raises(SlotLost, match="slot other is declared now"):
        Capture(lake, replace(spec, slot="other"), feeds).run()


def test_a_slot_made_before_the_first_run_is_taken_over(
    capture: Callable[[], Capture], database: Connection, lake: Lake, spec: CaptureSpec
) -> None:
    """As one is that a run made and then died: what precedes the snapshot is not taken twice."""
    database.execute("create publication shop for table plans, orders")
    make_slot(database, spec.slot)
    database.execute("insert into plans values (1, 10, null)")
    database.execute("update plans set price = 11")
    capture().run()
    assert [(row["op"], row["price"]) for row in changes(lake, "plans")] == [("r", 11)]


# ---------------------------------------------------------------- a server of our own to maltreat


@pytest.fixture(scope="module")
def other() -> Iterator[Server]:
    """Its log is cut into small segments, so that a slot is quickly too far behind."""
    with running_server(wal_segment_mib=1) as server:
        yield server


@pytest.fixture
def elsewhere(other: Server, request: pytest.FixtureRequest) -> Iterator[Connection]:
    """A database of that server with both tables."""
    dsn = fresh_database(other, f"test_{abs(hash(request.node.nodeid)) % 10**12}")
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(TABLES)
        yield connection
    drop_slots(other)


def on(spec: CaptureSpec, connection: Connection, server: Server) -> CaptureSpec:
    return replace(spec, database=Database("shop", server.dsn(connection.info.dbname)))


def test_another_server_is_noticed_and_what_comes_from_it_is_newer(
    captured: Callable[[], Capture], lake: Lake, spec: CaptureSpec, feeds: list[PostgresChanges],
    database: Connection, elsewhere: Connection, other: Server,
) -> None:  # fmt: skip
    """The other server's log begins lower, and yet its changes sort after all that was there."""
    database.execute("select pg_logical_emit_message(false, 'x', repeat('x', 10000000))")
    database.execute("update plans set price = 5")
    captured().run()
    database.execute("select pg_switch_wal()")
    highest = max(row["lsn"] for row in changes(lake, "plans"))
    elsewhere.execute("insert into plans values (1, 100, 'there'), (8, 800, null)")
    moved = on(spec, elsewhere, other)

    with pytest.raises(OtherServer, match="it came from system"):
        Capture(lake, moved, feeds).run()
    Capture(lake, moved, feeds).run(resync=BOTH)
    agree(lake, elsewhere)
    elsewhere.execute("update plans set price = 101, id = 9 where id = 1")
    Capture(lake, moved, feeds).run()
    agree(lake, elsewhere)

    newest = [row["lsn"] for row in changes(lake, "plans") if row["price"] in (100, 101)]
    assert min(newest) > highest
    assert {lsn >> AGE_BITS for lsn in newest} == {1}


def test_a_slot_that_the_server_gave_up_stops_loudly(
    lake: Lake, spec: CaptureSpec, feeds: list[PostgresChanges], elsewhere: Connection,
    other: Server, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    spec = on(spec, elsewhere, other)

    def capture() -> Capture:
        return Capture(lake, spec, feeds)

    elsewhere.execute("insert into plans values (1, 10, null), (2, 20, null)")
    capture().run()
    elsewhere.execute("alter system set max_slot_wal_keep_size = '4MB'")
    elsewhere.execute("select pg_reload_conf()")
    _write_log(elsewhere, mib=3)
    health = capture().health()
    assert health is not None
    assert health.is_alarming
    assert health.limit == 4 << 20
    capture().run()
    assert "more than half of max_slot_wal_keep_size" in caplog.text

    elsewhere.execute("delete from plans where id = 1")
    _write_log(elsewhere, mib=12)
    elsewhere.execute("checkpoint")
    slot = find_slot(elsewhere, spec.slot)
    assert slot is not None
    assert slot.why_lost
    with pytest.raises(SlotLost, match=r"gave slot \w+ up .*--resync"):
        capture().run()
    elsewhere.execute("alter system reset max_slot_wal_keep_size")
    elsewhere.execute("select pg_reload_conf()")
    resynced(lake, capture, elsewhere)


def test_a_restored_backup_is_noticed(
    lake: Lake, spec: CaptureSpec, feeds: list[PostgresChanges], elsewhere: Connection,
    other: Server, tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    """The server's folder as it was an hour ago, slot and all."""
    spec = on(spec, elsewhere, other)
    elsewhere.execute("insert into plans values (1, 10, null)")
    Capture(lake, spec, feeds).run()
    elsewhere.close()
    other.stop()
    saved = other.save()
    other.start()
    with psycopg.connect(spec.database.dsn, autocommit=True) as connection:
        connection.execute("insert into plans values (2, 20, null)")
        Capture(lake, spec, feeds).run()
    other.stop()
    other.restore(saved)
    other.start()

    with pytest.raises(OtherServer, match=r"the server.s log ends at .*an earlier state was"):
        Capture(lake, spec, feeds).run()
    with psycopg.connect(spec.database.dsn, autocommit=True) as connection:
        resynced(lake, lambda: Capture(lake, spec, feeds), connection)
        assert [row["id"] for row in changes(lake, "plans") if row["op"] == "d"] == [2]


def test_a_promoted_server_is_noticed(
    lake: Lake, spec: CaptureSpec, feeds: list[PostgresChanges], elsewhere: Connection,
    other: Server,
) -> None:  # fmt: skip
    """Promotion starts a new timeline; the log of before may have ended otherwise there."""
    spec = on(spec, elsewhere, other)
    Capture(lake, spec, feeds).run()
    elsewhere.close()
    other.stop()
    (other.folder / "data" / "standby.signal").touch()
    other.start()
    other.control("promote")

    with pytest.raises(OtherServer, match="timeline 1, the server is on 2: it was restored or"):
        Capture(lake, spec, feeds).run()


def test_a_setting_that_prevents_capture_is_named(
    lake: Lake, spec: CaptureSpec, feeds: list[PostgresChanges], elsewhere: Connection,
    other: Server,
) -> None:  # fmt: skip
    spec = on(spec, elsewhere, other)
    elsewhere.execute("alter system set wal_level = replica")
    elsewhere.close()
    other.stop()
    other.start()
    try:
        with pytest.raises(NotPrepared, match="wal_level is 'replica'; run ALTER SYSTEM SET"):
            Capture(lake, spec, feeds).run()
    finally:
        with psycopg.connect(spec.database.dsn, autocommit=True) as connection:
            connection.execute("alter system reset wal_level")
        other.stop()
        other.start()


def _write_log(connection: Connection, *, mib: int) -> None:
    for _ in range(mib):
        connection.execute("select pg_logical_emit_message(false, 'x', repeat('x', 1000000))")
        connection.execute("select pg_switch_wal()")


def test_the_newest_snapshot_is_where_a_table_stands() -> None:
    taken = {
        "batch": 3,
        "7/1/shop/0000000000001000": 5000,
        "7/1/shop/0100000000000900": (1 << AGE_BITS) + 2400,
        "plans.jsonl": 77,
    }
    standing = standing_of(taken)
    assert standing is not None
    assert (standing.lsn, standing.incarnation.age) == (2400, 1)
