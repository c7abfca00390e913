"""Changes are taken once; what is current and what was derive from them, whichever way they came."""

import json
import os
import pickle
import signal
import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from scale_assets.contracts import load_contract
from scale_assets.ingest.account import account
from scale_assets.ingest.changes import ChangeFeed
from scale_assets.ingest.derive import derive_current, derive_history
from scale_assets.ingest.file_source import FilesSource
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import Lake
from tests.ingest.conftest import folder_of

CONTRACT = """\
apiVersion: v3.1.0
kind: DataContract
id: plans
name: plans
version: 1.0.0
status: active
schema:
  - name: plans
    properties:
      - {name: plan_id, logicalType: integer, primaryKey: true}
      - {name: price, logicalType: integer, required: true}
"""
OPEN = None
NEVER = datetime.max.replace(tzinfo=UTC)


def at(day: int) -> datetime:
    return datetime(2013, 1, day, tzinfo=UTC)


def change(op: str, plan: int, price: int | None, *, lsn: int | None, day: int) -> dict[str, Any]:
    row = {"plan_id": plan, "price": price}
    stamp = int(at(day).timestamp() * 1000)
    return {
        "before": row if op == "d" else None,
        "after": None if op == "d" else row,
        "source": {"lsn": lsn, "txId": 1, "ts_ms": stamp},
        "op": op,
        "ts_ms": stamp,
    }


# Plan 1 is created, changed twice in one transaction; plan 2 is created and deleted; plan 3's key
# becomes 4, which the log writes as a delete and an insert.
CHANGES = [
    change("c", 1, 10, lsn=1, day=1),
    change("c", 2, 20, lsn=2, day=1),
    change("c", 3, 30, lsn=3, day=2),
    change("u", 1, 11, lsn=4, day=3),
    change("u", 1, 12, lsn=4, day=3),
    change("d", 2, None, lsn=5, day=4),
    change("d", 3, None, lsn=6, day=5),
    change("c", 4, 30, lsn=6, day=5),
]


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def feed(tmp_path: Path) -> ChangeFeed:
    (tmp_path / "plans.odcs.yaml").write_text(CONTRACT)
    (tmp_path / "plans").mkdir()
    return ChangeFeed(
        name="plans",
        source=FilesSource(tmp_path / "plans"),
        contract_path=tmp_path / "plans.odcs.yaml",
        table="raw/plans_changes",
        quarantine_table="raw/plans_quarantine",
    )


def write(feed: ChangeFeed, name: str, changes: list[Any], extra: bytes = b"") -> None:
    data = b"".join(json.dumps(each).encode() + b"\n" for each in changes) + extra
    (folder_of(feed) / name).write_bytes(data)


def derive(lake: Lake, feed: ChangeFeed) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    contract = load_contract(feed.contract_path)
    derive_current(lake, contract, changes=feed.table, table="plans")
    derive_history(lake, contract, changes=feed.table, table="plans_history")
    current = lake.read("plans").sort_by("plan_id").to_pylist()
    # Periods without length come before the one that begins at the same instant.
    history = sorted(
        lake.read("plans_history").drop_columns(["_segment"]).to_pylist(),
        key=lambda row: (row["plan_id"], row["valid_from"], row["valid_to"] or NEVER),
    )
    return current, history


def test_current_shows_the_last_change_of_each_key_that_exists(
    lake: Lake, feed: ChangeFeed
) -> None:
    write(feed, "1.jsonl", CHANGES)
    ingest(lake, feed)
    current, _ = derive(lake, feed)

    assert [(row["plan_id"], row["price"], row["event_time"]) for row in current] == [
        (1, 12, at(3)),
        (4, 30, at(5)),
    ]


def test_history_closes_each_change_with_the_next_of_its_key(lake: Lake, feed: ChangeFeed) -> None:
    write(feed, "1.jsonl", CHANGES)
    ingest(lake, feed)
    _, history = derive(lake, feed)

    assert [
        (row["plan_id"], row["price"], row["op"], row["valid_from"], row["valid_to"])
        for row in history
    ] == [
        (1, 10, "c", at(1), at(3)),
        (1, 11, "u", at(3), at(3)),
        (1, 12, "u", at(3), OPEN),
        (2, 20, "c", at(1), at(4)),
        (2, None, "d", at(4), OPEN),
        (3, 30, "c", at(2), at(5)),
        (3, None, "d", at(5), OPEN),
        (4, 30, "c", at(5), OPEN),
    ]


def test_day_by_day_equals_all_at_once(lake: Lake, feed: ChangeFeed, tmp_path: Path) -> None:
    for number, each in enumerate(CHANGES):
        write(feed, f"{number}.jsonl", [each] if each["source"]["lsn"] not in (4, 6) else [])
        if number in (4, 7):
            write(feed, f"{number}.jsonl", CHANGES[number - 1 : number + 1])
        ingest(lake, feed)
        daily = derive(lake, feed)

    at_once = Lake(tmp_path / "at_once")
    ingest(at_once, feed)
    assert derive(at_once, feed) == daily


def test_changes_delivered_again_are_duplicates(lake: Lake, feed: ChangeFeed) -> None:
    write(feed, "1.jsonl", CHANGES)
    ingest(lake, feed)
    before = derive(lake, feed)
    write(feed, "2.jsonl", CHANGES[3:], extra=b"null\nbroken\n")
    report = ingest(lake, feed)

    assert (report.num_duplicates, report.num_ignored, report.num_quarantined) == (5, 1, 1)
    assert account(lake, feed).is_exact
    assert derive(lake, feed) == before


def test_a_source_that_starts_again_repeats_itself_within_a_file(
    lake: Lake, feed: ChangeFeed
) -> None:
    """It resends from some position on, and goes on from there: at least once, never less."""
    write(feed, "1.jsonl", [*CHANGES[:3], *CHANGES[2:5], *CHANGES[1:]])
    report = ingest(lake, feed)

    assert (report.num_accepted, report.num_duplicates) == (len(CHANGES), 5)
    write(feed, "2.jsonl", [*CHANGES[1:], change("u", 4, 31, lsn=7, day=6)])
    report = ingest(lake, feed)
    assert (report.num_accepted, report.num_duplicates) == (1, len(CHANGES) - 1)


def test_a_refused_change_does_not_renumber_those_beside_it(lake: Lake, feed: ChangeFeed) -> None:
    """Delivered again after the contract was mended, only what had been refused is new."""
    bad = change("u", 9, "dear", lsn=4, day=3)  # type: ignore[arg-type]
    write(feed, "1.jsonl", [bad, *CHANGES[3:5]])
    ingest(lake, feed)
    write(feed, "2.jsonl", [change("u", 9, 5, lsn=4, day=3), *CHANGES[3:5]])
    report = ingest(lake, feed)

    assert (report.num_accepted, report.num_duplicates) == (1, 2)


def test_other_values_at_the_same_position_are_another_change(lake: Lake, feed: ChangeFeed) -> None:
    write(feed, "1.jsonl", [change("u", 1, 10, lsn=4, day=1)])
    ingest(lake, feed)
    write(feed, "2.jsonl", [change("u", 1, 11, lsn=4, day=1)])
    report = ingest(lake, feed)

    assert (report.num_accepted, report.num_duplicates) == (1, 0)


def test_a_snapshot_of_one_position_may_come_in_several_files(lake: Lake, feed: ChangeFeed) -> None:
    for number in range(3):
        rows = [change("r", number * 10 + plan, plan, lsn=9, day=1) for plan in range(10)]
        write(feed, f"{number}.jsonl", rows)
    report = ingest(lake, feed)
    current, _ = derive(lake, feed)

    assert (report.num_accepted, report.num_duplicates) == (30, 0)
    assert len(current) == 30


def test_without_an_lsn_every_change_is_kept(lake: Lake, feed: ChangeFeed) -> None:
    for number in range(2):
        rows = [change("r", 1, None, lsn=None, day=1), change("u", 1, 10, lsn=3, day=2)]
        write(feed, f"{number}.jsonl", rows[:1] if number else rows)
    rows_twice = [change("r", plan, 5, lsn=None, day=1) for plan in (1, 2)]
    write(feed, "0.jsonl", rows_twice)
    write(feed, "1.jsonl", rows_twice)
    report = ingest(lake, feed)

    assert (report.num_accepted, report.num_duplicates) == (4, 0)


def test_what_is_no_change_is_ignored_and_an_emptied_table_is_empty(
    lake: Lake, feed: ChangeFeed
) -> None:
    truncate = change("t", 0, None, lsn=7, day=6) | {"after": None}
    write(feed, "1.jsonl", [*CHANGES, {"ts_ms": 1}, {"status": "BEGIN", "id": "7"}, truncate, None])
    report = ingest(lake, feed)
    current, history = derive(lake, feed)

    assert (report.num_accepted, report.num_ignored, report.num_quarantined) == (9, 3, 0)
    assert account(lake, feed).is_exact
    assert current == []
    assert [(row["plan_id"], row["op"]) for row in history if row["valid_to"] is OPEN] == [
        *((1, "t"), (2, "d"), (3, "d"), (4, "t"))
    ]


def test_fields_come_and_go_with_a_compatible_contract(lake: Lake, feed: ChangeFeed) -> None:
    write(feed, "1.jsonl", CHANGES[:1])
    ingest(lake, feed)
    derive(lake, feed)
    grown = CONTRACT.replace("1.0.0", "1.1.0") + "      - {name: color, logicalType: string}\n"
    feed.contract_path.write_text(grown)
    colored = change("u", 1, 11, lsn=9, day=2)
    colored["after"] |= {"color": "red"}
    plain = change("c", 5, 50, lsn=10, day=3)  # from before the source's own change
    write(feed, "2.jsonl", [colored, plain])
    report = ingest(lake, feed)
    current, history = derive(lake, feed)

    assert report.num_quarantined == 0
    assert [(row["plan_id"], row["color"]) for row in current] == [(1, "red"), (5, None)]
    assert [row["color"] for row in history] == [None, "red", None]


def test_nothing_is_derived_while_the_changes_stand_still(lake: Lake, feed: ChangeFeed) -> None:
    write(feed, "1.jsonl", CHANGES)
    ingest(lake, feed)
    derive(lake, feed)
    version = lake.version("plans")
    ingest(lake, feed)
    derive(lake, feed)
    assert lake.version("plans") == version


def test_without_an_lsn_file_order_holds(lake: Lake, feed: ChangeFeed) -> None:
    write(feed, "1.jsonl", [change("r", 1, price, lsn=None, day=1) for price in (3, 1, 2)])
    ingest(lake, feed)
    current, history = derive(lake, feed)
    assert current[0]["price"] == 2
    assert sorted(row["price"] for row in history[:-1]) == [1, 3]
    assert (history[-1]["price"], history[-1]["valid_to"]) == (2, OPEN)


def test_a_transaction_cut_by_the_byte_budget_keeps_its_order(
    lake: Lake, feed: ChangeFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scale_assets.ingest.files.READ_BYTES", 100)
    from dataclasses import replace

    write(feed, "1.jsonl", [change("u", 1, price, lsn=9, day=1) for price in range(1, 30)])
    report = ingest(lake, replace(feed, max_batch_bytes=500))
    current, _ = derive(lake, feed)
    assert report.num_batches > 3
    assert sorted(lake.read(feed.table)["tx_ordinal"].to_pylist()) == list(range(29))
    assert current[0]["price"] == 29
    assert date(2013, 1, 1) == current[0]["event_time"].date()


PROGRAM = """
import pickle, sys
from scale_assets.contracts import load_contract
from scale_assets.ingest.derive import derive_current, derive_history
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import Lake
root, feed = pickle.loads(sys.stdin.buffer.read())
lake, contract = Lake(root), load_contract(feed.contract_path)
ingest(lake, feed)
derive_current(lake, contract, changes=feed.table, table="plans")
derive_history(lake, contract, changes=feed.table, table="plans_history")
"""


@pytest.mark.fault
@pytest.mark.parametrize(
    "fault",
    [
        *("before_write:1", "after_quarantine", "before_write:2", "after_parquet:2"),
        *("after_commit", "before_write:3", "after_parquet:3", "before_write:4", "after_parquet:4"),
    ],
)
def test_killed_anywhere_from_file_to_history_gives_the_same_rows(
    lake: Lake, feed: ChangeFeed, tmp_path: Path, fault: str
) -> None:
    write(feed, "1.jsonl", CHANGES[:4])
    ingest(lake, feed)
    derive(lake, feed)
    write(feed, "2.jsonl", CHANGES[3:], extra=b"broken\n")

    killed = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=pickle.dumps((lake.root, feed)),
        env={**os.environ, "SCALE_FAULT": fault},
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    ingest(lake, feed)

    undisturbed = Lake(tmp_path / "undisturbed")
    ingest(undisturbed, feed)
    assert derive(lake, feed) == derive(undisturbed, feed)
    assert account(lake, feed) == account(undisturbed, feed)
    assert account(lake, feed).is_exact
