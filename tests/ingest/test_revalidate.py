"""After the contract is mended, exactly the lines that now pass leave the quarantine."""

import os
import pickle
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scale_assets.ingest.account import account
from scale_assets.ingest.changes import ChangeFeed
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.feed import Feed
from scale_assets.ingest.file_source import FilesSource
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.revalidate import revalidate
from scale_assets.lake import Lake
from tests.ingest import test_changes as changes
from tests.ingest.conftest import CONTRACT, event, folder_of, ids, lines, rows

WITH_COLOR = CONTRACT.format(version="1.1.0", more="      - {name: color, logicalType: string}\n")
PROGRAM = """
import pickle, sys
from scale_assets.ingest.revalidate import revalidate
from scale_assets.lake import Lake
root, feed = pickle.loads(sys.stdin.buffer.read())
revalidate(Lake(root), feed)
"""


@pytest.fixture
def refused(lake: Lake, feed: EventFeed) -> EventFeed:
    """Three lines that a field named color mends, among some that nothing mends."""
    (folder_of(feed) / "a.jsonl").write_bytes(
        lines([event(1), event(2, 2, color="red"), event(3, 2, color=7), event(4, 3)])
        + b"broken\n"
        + lines([event(5, 3, color="blue"), event(1, 1, color="green")])
    )
    (folder_of(feed) / "b.jsonl").write_bytes(b"cut short\n")
    ingest(lake, feed)
    assert ids(lake) == ["e1", "e4"]
    return feed


def test_exactly_the_lines_that_now_pass_move(lake: Lake, refused: EventFeed) -> None:
    assert revalidate(lake, refused).num_moved == 0
    refused.contract_path.write_text(WITH_COLOR)

    report = revalidate(lake, refused)

    assert (report.num_examined, report.num_moved) == (6, 3)
    assert (report.num_accepted, report.num_duplicates) == (2, 1)
    assert [(row["event_id"], row["color"], row["_position"]) for row in rows(lake)] == [
        ("e1", None, 0),
        ("e2", "red", 1),
        ("e4", None, 3),
        ("e5", "blue", 5),
    ]
    assert {row["_source_file"] for row in rows(lake)} == {"a.jsonl"}
    left = rows(lake, refused.quarantine_table)
    assert [(row["_source_file"], row["_position"]) for row in left] == [
        ("a.jsonl", 2),
        ("a.jsonl", 4),
        ("b.jsonl", 0),
    ]
    totals = account(lake, refused)
    assert totals.is_exact
    assert (totals.received, totals.accepted, totals.quarantined, totals.duplicates) == (8, 4, 3, 1)


def test_repeating_it_changes_nothing(lake: Lake, refused: EventFeed) -> None:
    refused.contract_path.write_text(WITH_COLOR)
    revalidate(lake, refused)
    versions = lake.version(refused.table), lake.version(refused.quarantine_table)

    report = revalidate(lake, refused)

    assert (report.num_examined, report.num_moved) == (3, 0)
    assert (lake.version(refused.table), lake.version(refused.quarantine_table)) == versions


def test_a_wider_calendar_mends_lines_too(lake: Lake, feed: EventFeed) -> None:
    from dataclasses import replace
    from datetime import date

    late = event(1, event_time="2013-02-03T00:00:00Z")
    (folder_of(feed) / "a.jsonl").write_bytes(lines([late]))
    ingest(lake, feed)

    assert revalidate(lake, replace(feed, end=date(2013, 3, 1))).num_accepted == 1
    assert lake.rows_per_partition(feed.table, "event_date") == {"2013-02-03": 1}


def test_many_moves_are_one_by_one_whole(
    lake: Lake, refused: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("scale_assets.ingest.revalidate.LINES_PER_MOVE", 1)
    refused.contract_path.write_text(WITH_COLOR)

    assert revalidate(lake, refused).num_moved == 3
    assert account(lake, refused).is_exact


def killed(lake: Lake, feed: Feed, fault: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=pickle.dumps((lake.root, feed)),
        env={**os.environ, "SCALE_FAULT": fault},
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.fault
@pytest.mark.parametrize("by", ["replay", "ingest"])
@pytest.mark.parametrize(
    "fault",
    ["before_write:1", "after_parquet:1", "after_move:1", "rewriting:1", "after_parquet:2"],
)
def test_killed_between_the_two_tables_it_is_finished_by_whoever_comes_next(
    lake: Lake, refused: EventFeed, fault: str, by: str
) -> None:
    refused.contract_path.write_text(WITH_COLOR)
    killed(lake, refused, fault)

    if by == "ingest":
        ingest(lake, refused)
        assert account(lake, refused).is_exact
    revalidate(lake, refused)

    assert ids(lake) == ["e1", "e2", "e4", "e5"]
    assert len(rows(lake, refused.quarantine_table)) == 3
    totals = account(lake, refused)
    assert totals.is_exact
    assert totals.received == 8


@pytest.mark.fault
def test_a_half_finished_move_needs_no_contract_to_be_finished(
    lake: Lake, refused: EventFeed
) -> None:
    """What moved is written down, so that rules which changed meanwhile have no say in it."""
    refused.contract_path.write_text(WITH_COLOR)
    killed(lake, refused, "after_move")
    refused.contract_path.write_text(
        WITH_COLOR.replace("1.1.0", "1.2.0").replace("minimum: 1", "minimum: 0")
    )

    ingest(lake, refused)

    assert ids(lake) == ["e1", "e2", "e4", "e5"]
    assert account(lake, refused).is_exact


WITH_NOTE = changes.CONTRACT.replace("1.0.0", "1.1.0") + (
    "      - {name: note, logicalType: string}\n"
)


@pytest.fixture
def change_feed(tmp_path: Path) -> ChangeFeed:
    (tmp_path / "plans.odcs.yaml").write_text(changes.CONTRACT)
    (tmp_path / "plans").mkdir()
    return ChangeFeed(
        name="plans",
        source=FilesSource(tmp_path / "plans"),
        contract_path=tmp_path / "plans.odcs.yaml",
        table="raw/plans_changes",
        quarantine_table="raw/plans_quarantine",
    )


def noted(change: dict[str, Any], note: str | None) -> dict[str, Any]:
    after = None if change["after"] is None else change["after"] | {"note": note}
    before = None if change["before"] is None else change["before"] | {"note": note}
    return change | {"after": after, "before": before}


def some_noted(*numbers: int) -> list[dict[str, Any]]:
    return [
        noted(each, f"n{number}") if number in numbers else each
        for number, each in enumerate(changes.CHANGES)
    ]


def without_origin(found: Any) -> Any:
    return [[{k: v for k, v in row.items() if k != "note"} for row in table] for table in found]


@pytest.mark.parametrize("max_batch_bytes", [64 << 20, 300])
@pytest.mark.parametrize("numbers", [(0,), (3,), (4,), (2, 4, 6), tuple(range(8))])
def test_changes_come_out_as_if_never_quarantined(
    lake: Lake,
    change_feed: ChangeFeed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    numbers: tuple[int, ...],
    max_batch_bytes: int,
) -> None:
    from dataclasses import replace

    monkeypatch.setattr("scale_assets.ingest.files.READ_BYTES", 100)
    change_feed = replace(change_feed, max_batch_bytes=max_batch_bytes)
    changes.write(change_feed, "1.jsonl", some_noted(*numbers))
    assert ingest(lake, change_feed).num_quarantined == len(numbers)
    change_feed.contract_path.write_text(WITH_NOTE)

    report = revalidate(lake, change_feed)

    assert report.num_accepted == len(numbers)
    assert account(lake, change_feed).is_exact
    at_once = Lake(tmp_path / "at_once")
    ingest(at_once, change_feed)
    assert changes.derive(lake, change_feed) == changes.derive(at_once, change_feed)
    identity = ["lsn", "tx_ordinal", "_position"]
    assert lake.read(change_feed.table, columns=identity).sort_by(
        [("lsn", "ascending"), ("tx_ordinal", "ascending")]
    ) == at_once.read(change_feed.table, columns=identity).sort_by(
        [("lsn", "ascending"), ("tx_ordinal", "ascending")]
    )


def test_changes_delivered_again_after_a_replay_are_duplicates(
    lake: Lake, change_feed: ChangeFeed
) -> None:
    changes.write(change_feed, "1.jsonl", some_noted(3, 4))
    ingest(lake, change_feed)
    change_feed.contract_path.write_text(WITH_NOTE)
    revalidate(lake, change_feed)
    before = changes.derive(lake, change_feed)
    changes.write(change_feed, "2.jsonl", some_noted(3, 4))

    assert ingest(lake, change_feed).num_duplicates == len(changes.CHANGES)
    assert changes.derive(lake, change_feed) == before


def test_a_change_whose_second_delivery_was_taken_is_a_duplicate(
    lake: Lake, change_feed: ChangeFeed
) -> None:
    changes.write(change_feed, "1.jsonl", some_noted(3))
    ingest(lake, change_feed)
    change_feed.contract_path.write_text(WITH_NOTE)
    changes.write(change_feed, "2.jsonl", some_noted(3))
    assert ingest(lake, change_feed).num_accepted == 1

    report = revalidate(lake, change_feed)

    assert (report.num_moved, report.num_duplicates) == (1, 1)
    assert account(lake, change_feed).is_exact
