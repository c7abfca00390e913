"""Changes are taken once; what is current and what was derive from them, whichever way they came."""

import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from scale_assets.contracts import load_contract
from scale_assets.ingest.changes import ChangeFeed
from scale_assets.ingest.derive import derive_current, derive_history
from scale_assets.ingest.feed import account, ingest
from scale_assets.ingest.file_source import FilesSource
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
