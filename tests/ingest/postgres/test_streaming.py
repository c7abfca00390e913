"""The slot moves on with the slowest table, and never before what it told is durable."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from scale_assets.ingest.account import IngestReport, account
from scale_assets.ingest.postgres import capture as capture_module
from scale_assets.ingest.postgres import streaming
from scale_assets.ingest.postgres.capture import Capture
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.ingest.postgres.errors import CannotConnect, SlotBusy
from scale_assets.ingest.postgres.server import find_slot
from scale_assets.ingest.postgres.spec import CaptureSpec
from scale_assets.ingest.source import Piece
from scale_assets.lake import Lake
from tests.ingest.conftest import put
from tests.ingest.postgres.conftest import agree, changes

Connection = psycopg.Connection[Any]
Make = Callable[[], Capture]


def confirmed(database: Connection, spec: CaptureSpec) -> int:
    slot = find_slot(database, spec.slot)
    assert slot is not None
    assert slot.confirmed_lsn is not None
    return slot.confirmed_lsn


def write_elsewhere(database: Connection, *, mib: int) -> None:
    """Log that has nothing to do with the captured tables."""
    database.execute("create table if not exists noise (text text)")
    for _ in range(mib):
        database.execute("insert into noise select repeat('x', 1000) from generate_series(1, 1000)")


def test_the_slot_waits_for_the_table_that_has_nothing(
    capture: Make, database: Connection, spec: CaptureSpec
) -> None:
    capture().run()
    before = confirmed(database, spec)
    database.execute("insert into plans values (1, 10, null)")
    capture().run()
    assert confirmed(database, spec) == before  # the orders stand there still
    database.execute("insert into orders values ('a', 1, 1, null)")
    capture().run()
    assert confirmed(database, spec) > before


def test_a_log_full_of_other_tables_is_let_go(
    capture: Make, database: Connection, spec: CaptureSpec, lake: Lake,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(streaming, "ADVANCE_BYTES", 2 << 20)
    capture().run()
    before = confirmed(database, spec)
    write_elsewhere(database, mib=1)
    capture().run()
    assert confirmed(database, spec) == before
    write_elsewhere(database, mib=2)
    capture().run()
    assert confirmed(database, spec) - before > 2 << 20
    database.execute("insert into plans values (1, 10, null)")
    assert capture().run().snapshots == []
    agree(lake, database)


def test_an_acknowledgement_never_comes_before_the_commit(
    capture: Make, database: Connection, spec: CaptureSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture().run()
    before = confirmed(database, spec)
    database.execute("insert into plans values (1, 10, null)")
    database.execute("insert into orders values ('a', 1, 1, null)")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("scale_assets.ingest.postgres.table_capture.append_staged", full)
        with pytest.raises(OSError, match="No space left"):
            capture().run()
    assert confirmed(database, spec) == before
    capture().run()
    assert confirmed(database, spec) > before


def test_a_transaction_larger_than_a_window_arrives_whole(
    lake: Lake, spec: CaptureSpec, feeds: list[PostgresChanges], database: Connection
) -> None:
    """In parts while it is read, in one commit when it is visible."""
    small = replace(spec, max_batch_bytes=10_000)
    Capture(lake, small, feeds).run()
    version = lake.version("raw/plans_changes")
    with database.transaction():
        database.execute("insert into plans select n, n, null from generate_series(1, 2000) n")
        database.execute("update plans set id = id + 5000")
    Capture(lake, small, feeds).run()

    agree(lake, database)
    assert lake.version("raw/plans_changes") == version + 1
    ordinals = [row["tx_ordinal"] for row in changes(lake, "plans")]
    assert ordinals == list(range(6000))


def test_followed_until_told_to_stop(
    capture: Make, database: Connection, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "FLUSH_EVERY_S", 0.05)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(lambda: capture().run(stop=stop))
        try:
            for number in range(1, 4):
                database.execute("insert into plans values (%s, 1, null)", [number])
                wait_until(lambda number=number: len(seen(lake)) == number)
        finally:
            stop.set()
        report = run.result(timeout=20)
    assert report.tables["plans"].num_batches >= 3
    agree(lake, database)


def test_a_contract_mended_while_it_is_followed_judges_what_comes_next(
    capture: Make, database: Connection, lake: Lake, feeds: list[PostgresChanges],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(streaming, "FLUSH_EVERY_S", 0.05)
    plans = feeds[0].contract_path
    mended = plans.read_text()
    terms = "{name: terms, logicalType: string"
    short = mended.replace(terms, f"{terms}, logicalTypeOptions: {{maxLength: 2}}")
    assert short != mended
    plans.write_text(short)
    stop = threading.Event()
    insert = "insert into plans values (%s, 1, %s)"
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(lambda: capture().run(stop=stop))
        try:
            database.execute(insert, [1, "ok"])
            database.execute(insert, [2, "too long"])
            wait_until(lambda: seen(lake) == [1] and account(lake, feeds[0]).quarantined == 1)
            plans.write_text(mended.replace("1.0.0", "1.1.0"))
            database.execute(insert, [3, "as long"])
            wait_until(lambda: run.done() or seen(lake) == [1, 3])
        finally:
            stop.set()
        report = run.result(timeout=20)
    assert seen(lake) == [1, 3]
    assert (report.tables["plans"].num_accepted, report.tables["plans"].num_quarantined) == (2, 1)
    assert account(lake, feeds[0]).is_exact


def seen(lake: Lake) -> list[int]:
    if not lake.exists("raw/plans_changes"):
        return []
    return [row["id"] for row in changes(lake, "plans")]


def wait_until(holds: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.05)


def test_two_runs_at_once_take_every_change_once(
    capture: Make, database: Connection, lake: Lake, feeds: list[PostgresChanges]
) -> None:
    database.execute("insert into plans select n, n, null from generate_series(1, 500) n")
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda _: capture().run(), range(3)))
    assert sum(report.tables["plans"].num_received for report in reports) == 500
    agree(lake, database)
    assert account(lake, feeds[0]).is_exact


def test_a_slot_in_use_is_named(
    capture: Make, database: Connection, spec: CaptureSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture().run()
    monkeypatch.setattr(streaming, "BUSY_S", 0.3)
    other = streaming.Streaming(spec, capture().tables)
    with other._stream(0), pytest.raises(SlotBusy, match=r"active for PID .* a slot of its own"):
        capture().run()


def test_another_run_of_the_capture_is_named(
    capture: Make, database: Connection, monkeypatch: pytest.MonkeyPatch, spec: CaptureSpec
) -> None:
    monkeypatch.setattr(capture_module, "BUSY_S", 0.3)
    database.execute(
        "select pg_advisory_lock(hashtextextended(%s, 0))", [f"scale-assets/{spec.slot}"]
    )
    with pytest.raises(SlotBusy, match="another run reads slot"):
        capture().run()


def test_a_server_that_goes_away_amid_the_stream_loses_nothing(
    capture: Make, database: Connection, lake: Lake, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture().run()
    database.execute("insert into plans values (1, 10, null)")

    def terminated(report: IngestReport) -> None:
        database.execute(
            "select pg_terminate_backend(active_pid) from pg_replication_slots "
            "where active and database = current_database()"
        )

    dying = Capture(lake, capture().spec, [t.feed for t in capture().tables], progress=terminated)
    with pytest.raises(CannotConnect, match="of database shop"):
        dying.run(stop=threading.Event())
    database.execute("insert into plans values (2, 20, null)")
    capture().run()
    agree(lake, database)


def test_what_was_set_aside_can_be_judged_again(
    capture: Make, database: Connection, lake: Lake, feeds: list[PostgresChanges]
) -> None:
    """The quarantine's lines give exactly the rows that a laxer contract would have taken."""
    lax, feed = feeds[0].contract_path.read_text(), feeds[0]
    strict = lax.replace("name: terms, logicalType: string", "name: terms, logicalType: integer")
    put(feed.contract_path, strict)
    capture().run()
    database.execute("insert into plans values (1, 10, repeat('ä', 5000)), (2, 20, 'b')")
    database.execute("update plans set price = 11, id = 5 where id = 1")
    capture().run()
    quarantine = lake.read(feed.quarantine_table).sort_by("_position")
    assert quarantine["rule"].to_pylist() == ["wrong_type"] * 2  # the moved row has no terms

    put(feed.contract_path, lax)
    contract, _ = feed.load_contract()
    piece = Piece(
        place="again", records=quarantine["raw"].to_pylist(), first_position=0,
        positions_after={}, address=[], num_bytes=0,
    )  # fmt: skip
    again = feed.decode(contract, piece)

    rows = again.accepted.to_pylist()
    assert [(row["op"], row["id"], row["terms"]) for row in rows] == [
        ("c", 1, "ä" * 5000),
        ("c", 2, "b"),
    ]
    accepted = {row["lsn"]: row for row in changes(lake, "plans")}
    moved = next(row for row in accepted.values() if row["_moved_from"])
    assert (moved["_moved_from"], moved["_unchanged"]) == ({"id": 1}, ["terms"])
    assert [row["tx_ordinal"] for row in rows] == [0, 1]
    assert all(row["lsn"] < moved["lsn"] for row in rows)
