"""The quarantine of a captured table: what its contract accepts by now takes its place in the log."""

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from scale_assets.contracts import load_contract
from scale_assets.ingest.account import account
from scale_assets.ingest.derive import derive_current, derive_history
from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.postgres.capture import Capture
from scale_assets.ingest.postgres.changes import PostgresChanges
from scale_assets.lake import Lake
from tests.ingest.postgres.conftest import PLANS, agree, changes

Connection = psycopg.Connection[Any]
Make = Callable[[], Capture]
TERMS = "name: terms, logicalType: string"
SHORT = PLANS.replace(TERMS, f"{TERMS}, logicalTypeOptions: {{maxLength: 3}}")
MENDED = PLANS.replace("1.0.0", "1.1.0")


@pytest.fixture
def refused(capture: Make, database: Connection, lake: Lake, feeds: list[PostgresChanges]) -> Make:
    """A row of the snapshot and two changes of one transaction are too long for the contract."""
    feeds[0].contract_path.write_text(SHORT)
    database.execute("insert into plans values (1, 1, 'long'), (2, 2, 'ok')")
    capture().run()
    with database.transaction():
        database.execute("insert into plans values (3, 1, 'a'), (3 + 1, 1, 'b')")
        database.execute("update plans set price = 2, terms = 'longer' where id = 3")
        database.execute("update plans set id = 9, price = 3, terms = 'longest' where id = 4")
        database.execute("update plans set price = 3, terms = 'c' where id = 3")
    database.execute("delete from plans where id = 1")
    capture().run()
    assert lake.num_rows(feeds[0].quarantine_table) == 3
    return capture


def order(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(row["op"], row["id"], row["price"], row["terms"]) for row in rows]


def test_moved_changes_stand_where_they_happened(
    refused: Make, database: Connection, lake: Lake, feeds: list[PostgresChanges]
) -> None:
    feed = feeds[0]
    set_aside = lake.read(feed.quarantine_table).sort_by("_position").to_pylist()
    feed.contract_path.write_text(MENDED)
    database.execute("insert into plans values (7, 7, 'new')")

    refused().run()
    assert lake.num_rows(feed.quarantine_table) == 3, "nothing moves unasked"
    report = refused().run(replay_quarantine=True)

    assert report.replayed["plans"].num_accepted == 3
    assert report.replayed["orders"].num_examined == 0
    assert account(lake, feed).is_exact
    assert lake.num_rows(feed.quarantine_table) == 0
    agree(lake, database)
    found = changes(lake, "plans")
    assert order(found) == [
        ("r", 1, 1, "long"),
        ("r", 2, 2, "ok"),
        ("c", 3, 1, "a"),
        ("c", 4, 1, "b"),
        ("u", 3, 2, "longer"),
        ("d", 4, None, None),
        ("c", 9, 3, "longest"),
        ("u", 3, 3, "c"),
        ("d", 1, None, None),
        ("c", 7, 7, "new"),
    ]
    moved = {row["_position"]: row for row in found}
    for row in set_aside:
        kept = moved[row["_position"]]
        for name in ("lsn", "tx_ordinal", "_source_file"):
            assert kept[name] == row[name]
    contract = load_contract(feed.contract_path)
    derive_current(lake, contract, changes=feed.table, table="plans")
    derive_history(lake, contract, changes=feed.table, table="plans_history")
    current = lake.read("plans").sort_by("id").to_pylist()
    assert [(row["id"], row["price"], row["terms"]) for row in current] == [
        (2, 2, "ok"), (3, 3, "c"), (7, 7, "new"), (9, 3, "longest"),
    ]  # fmt: skip


def test_a_move_that_was_begun_is_finished_by_the_next_capture(
    refused: Make,
    database: Connection,
    lake: Lake,
    feeds: list[PostgresChanges],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    feed = feeds[0]
    feed.contract_path.write_text(MENDED)

    def die(point: str) -> None:
        if point == "after_move":
            raise IngestError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("scale_assets.ingest.moves.fault_point", die)
        with pytest.raises(IngestError, match="killed"):
            refused().run(replay_quarantine=True)
    assert lake.num_rows(feed.quarantine_table) == 3
    database.execute("insert into plans values (7, 7, 'new')")

    refused().run()

    assert lake.num_rows(feed.quarantine_table) == 0
    assert account(lake, feed).is_exact
    agree(lake, database)


def test_lines_from_before_the_capture_are_what_their_transport_made_of_them(
    capture: Make, lake: Lake, feeds: list[PostgresChanges]
) -> None:
    """Of a feed that came as Debezium's files until a slot took over."""
    from scale_assets.ingest.changes import ChangeFeed
    from scale_assets.ingest.file_source import FilesSource
    from scale_assets.ingest.ingestion import ingest

    feed = feeds[0]
    feed.contract_path.write_text(SHORT)
    folder = feed.contract_path.parent / "plans"
    folder.mkdir()
    row = {"id": 5, "price": 5, "terms": "long"}
    change = {
        "before": None, "after": row, "source": {"lsn": 3, "ts_ms": 0}, "op": "c", "ts_ms": 0,
    }  # fmt: skip
    still = change | {"after": row | {"price": "many"}}
    (folder / "1.jsonl").write_text(json.dumps(change) + "\n" + json.dumps(still) + "\nbroken\n")
    ingest(
        lake,
        ChangeFeed(
            name=feed.name, source=FilesSource(folder), contract_path=feed.contract_path,
            table=feed.table, quarantine_table=feed.quarantine_table,
        ),
    )  # fmt: skip
    feed.contract_path.write_text(MENDED)
    capture().run()

    report = capture().run(replay_quarantine=True)

    assert (report.replayed["plans"].num_examined, report.replayed["plans"].num_moved) == (3, 1)
    assert order(changes(lake, "plans")) == [("c", 5, 5, "long")]
    assert account(lake, feed).is_exact
