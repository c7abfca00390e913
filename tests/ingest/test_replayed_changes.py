"""A change that was set aside keeps its place in the log: replayed late, it is not the newest."""

import json
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from scale_assets.contracts.refused_changes import refused_positions
from scale_assets.ingest.account import account
from scale_assets.ingest.changes import ChangeFeed
from scale_assets.ingest.file_source import FilesSource
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.revalidate import revalidate
from scale_assets.lake import Lake
from tests.ingest.test_changes import CONTRACT, at, change, derive, write

WITH_NOTE = CONTRACT.replace("1.0.0", "1.1.0") + "      - {name: note, logicalType: string}\n"
Change = dict[str, Any]


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


def noted(change: Change) -> Change:
    """The change with a field that only the mended contract knows."""
    return change | {"after": change["after"] | {"note": "new"}}


def mend_and_replay(lake: Lake, feed: ChangeFeed) -> None:
    feed.contract_path.write_text(WITH_NOTE)
    assert revalidate(lake, feed).num_moved > 0
    assert lake.num_rows(feed.quarantine_table) == 0
    assert account(lake, feed).is_exact


def prices(history: list[Change]) -> list[tuple[int, datetime, datetime | None]]:
    return [(row["price"], row["valid_from"], row["valid_to"]) for row in history]


def test_the_later_change_of_the_same_key_stays_the_newest(lake: Lake, feed: ChangeFeed) -> None:
    write(feed, "1.jsonl", [change("c", 1, 10, lsn=1, day=1)])
    write(feed, "2.jsonl", [noted(change("u", 1, 11, lsn=2, day=2))])
    write(feed, "3.jsonl", [change("u", 1, 12, lsn=3, day=3)])
    ingest(lake, feed)
    current, history = derive(lake, feed)
    assert prices(history) == [(10, at(1), at(3)), (12, at(3), None)]

    mend_and_replay(lake, feed)

    current, history = derive(lake, feed)
    assert [(row["price"], row["note"]) for row in current] == [(12, None)]
    assert prices(history) == [(10, at(1), at(2)), (11, at(2), at(3)), (12, at(3), None)]


def postgres(change: Change, _number: int) -> Change:
    return change


def mysql(change: Change, number: int) -> Change:
    place = {"file": "binlog.000002", "pos": 77, "row": number, "lsn": None}
    return change | {"source": change["source"] | place}


def sql_server(change: Change, number: int) -> Change:
    place = {"change_lsn": "00000027:00000758:0003", "event_serial_no": number, "lsn": None}
    return change | {"source": change["source"] | place}


def wrapped(change: Change, _number: int) -> Change:
    return {"schema": {"type": "struct"}, "payload": change}


@pytest.mark.parametrize("placed", [postgres, mysql, sql_server, wrapped])
@pytest.mark.parametrize("refused", [{0}, {1}, {2}, {0, 2}, {0, 1, 2}])
def test_within_one_position_of_the_log_too(
    lake: Lake, feed: ChangeFeed, placed: Callable[[Change, int], Change], refused: set[int]
) -> None:
    changes = [change("u", 1, 10 + number, lsn=7, day=1 + number) for number in range(3)]
    changes = [noted(each) if at in refused else each for at, each in enumerate(changes)]
    write(feed, "1.jsonl", [placed(each, number) for number, each in enumerate(changes)])
    assert ingest(lake, feed).num_quarantined == len(refused)

    mend_and_replay(lake, feed)

    current, history = derive(lake, feed)
    assert [row["price"] for row in current] == [12]
    assert prices(history) == [(10, at(1), at(2)), (11, at(2), at(3)), (12, at(3), None)]


def test_a_line_without_a_position_does_not_begin_the_count_anew(
    lake: Lake, feed: ChangeFeed
) -> None:
    first, second = (change("u", 1, price, lsn=7, day=1) for price in (10, 11))
    write(feed, "1.jsonl", [first, "broken", {"source": {"lsn": "7"}}, noted(second), second])
    ingest(lake, feed)

    ordinals = lake.read(feed.table)["tx_ordinal"].to_pylist()
    set_aside = lake.read(feed.quarantine_table).sort_by("_position")
    assert ordinals == [0, 2]
    assert set_aside["tx_ordinal"].to_pylist() == [None, None, 1]
    assert set_aside["lsn"].to_pylist() == [None, None, 7]


@pytest.mark.parametrize("max_batch_bytes", [64 << 20, 300])
def test_an_update_of_the_key_becomes_two_changes_when_it_moves(
    lake: Lake, feed: ChangeFeed, monkeypatch: pytest.MonkeyPatch, max_batch_bytes: int
) -> None:
    from dataclasses import replace

    monkeypatch.setattr("scale_assets.ingest.files.READ_BYTES", 100)
    feed = replace(feed, max_batch_bytes=max_batch_bytes)
    move = noted(change("u", 2, 11, lsn=2, day=2))
    move["before"] = {"plan_id": 1, "price": 10, "note": None}
    later = [change("c", 1, 20, lsn=2, day=2), change("u", 2, 12, lsn=2, day=2)]
    write(feed, "1.jsonl", [change("c", 1, 10, lsn=1, day=1), move, *later])
    ingest(lake, feed)

    mend_and_replay(lake, feed)

    current, _ = derive(lake, feed)
    assert [(row["plan_id"], row["price"]) for row in current] == [(1, 20), (2, 12)]
    assert account(lake, feed).received == 5


def test_what_an_unreadable_change_says_of_its_position_is_taken_as_it_is() -> None:
    lines = [
        json.dumps({"source": {"lsn": 2**63 - 1}, "after": {"unknown": [1]}}).encode(),
        json.dumps({"source": {"lsn": 2**63}}).encode(),
        json.dumps({"source": {"lsn": True, "scn": "12"}}).encode(),
        json.dumps({"source": [1]}).encode(),
        json.dumps([1]).encode(),
        b"\xff",
        b"[" * 100_000,
    ]
    lsns, ordinals = refused_positions(lines)

    assert lsns.to_pylist() == [2**63 - 1, None, 12, *[None] * 4]
    assert ordinals.null_count == len(lines)


def test_no_line_has_no_position() -> None:
    lsns, ordinals = refused_positions([])
    assert (len(lsns), len(ordinals)) == (0, 0)
