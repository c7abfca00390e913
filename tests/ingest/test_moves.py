"""The two commits of a move, as others see them who come in between."""

import time
from concurrent.futures import Future, ThreadPoolExecutor

import pyarrow as pa
import pytest

from scale_assets.ingest.account import Account, account
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.ingestion import Ingestion, ingest
from scale_assets.ingest.moves import MOVE, begin_move, finish_move
from scale_assets.ingest.positions import counter
from scale_assets.ingest.revalidate import revalidate
from scale_assets.lake import ConcurrentCommit, Lake
from tests.ingest.conftest import CONTRACT, event, folder_of, ids, lines

WITH_COLOR = CONTRACT.format(version="1.1.0", more="      - {name: color, logicalType: string}\n")


@pytest.fixture
def refused(lake: Lake, feed: EventFeed) -> EventFeed:
    red = [event(2, color="red"), event(3, 2, color="blue")]
    (folder_of(feed) / "a.jsonl").write_bytes(lines([event(1), *red]))
    ingest(lake, feed)
    feed.contract_path.write_text(WITH_COLOR)
    return feed


def test_an_older_look_at_the_rows_does_not_begin_a_move_that_is_over(
    lake: Lake, refused: EventFeed
) -> None:
    """A run refreshes one table after the other, and a whole move may come between."""
    before = lake.open(refused.table)
    revalidate(lake, refused)
    (folder_of(refused) / "b.jsonl").write_bytes(lines([event(4, color=7)]))
    ingest(lake, refused)
    version = lake.version(refused.quarantine_table)

    finish_move(refused.name, before, lake.open(refused.quarantine_table))

    quarantine = lake.open(refused.quarantine_table)
    assert (quarantine.version(), counter(quarantine, refused.name, MOVE)) == (version, 1)


def test_a_run_that_was_open_already_finishes_the_move_before_its_next_batch(
    lake: Lake, refused: EventFeed
) -> None:
    ingestion = Ingestion(lake, refused)
    with ingestion.source.reading() as reading:
        assert ingestion.through(reading)
    other = Ingestion(lake, refused)
    other.open()
    quarantined = lake.read(refused.quarantine_table).select(["_source_file", "_position", "raw"])
    rows = lake.read(refused.table).slice(0, 0)
    begin_move(
        refused.name, other.accepted, rows=rows, leaving=quarantined.slice(0, 1),
        totals={"duplicates": 1}, metadata={},
    )  # fmt: skip
    (folder_of(refused) / "b.jsonl").write_bytes(lines([event(4), event(5, color=7)]))

    with ingestion.source.reading() as reading:
        assert ingestion.through(reading)

    left = lake.read(refused.quarantine_table).sort_by([("_source_file", "ascending")])
    assert left["raw"][0].as_py() == quarantined["raw"][1].as_py()
    assert left.num_rows == 2
    assert account(lake, refused).is_exact


def test_a_batch_in_between_is_looked_at_for_duplicates(
    lake: Lake, refused: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The replay conflicts, and what it moves is found in the rows that came meanwhile."""
    come: list[pa.Table] = []

    def between(*arguments: object, **rest: object) -> None:
        if not come:
            come.append(None)
            (folder_of(refused) / "b.jsonl").write_bytes(lines([event(2, color="red"), event(6)]))
            ingest(lake, refused)
        begin_move(*arguments, **rest)

    monkeypatch.setattr("scale_assets.ingest.revalidate.begin_move", between)
    report = revalidate(lake, refused)

    assert (report.num_moved, report.num_accepted, report.num_duplicates) == (2, 1, 1)
    assert sorted(ids(lake)) == ["e1", "e2", "e3", "e6"]
    assert account(lake, refused).is_exact


def test_a_move_from_an_older_look_moves_nothing(lake: Lake, refused: EventFeed) -> None:
    before = Ingestion(lake, refused)
    before.open()
    revalidate(lake, refused)
    leaving = lake.read(refused.table).slice(0, 0)

    with pytest.raises(ConcurrentCommit):
        begin_move(
            refused.name, before.accepted, rows=leaving,
            leaving=pa.table({"_source_file": [], "_position": [], "raw": []}),
            totals={}, metadata={},
        )  # fmt: skip


def test_an_account_waits_for_a_run_that_is_between_its_two_commits(
    lake: Lake, refused: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[bool] = []
    looking = ThreadPoolExecutor(1)
    pending: list[Future[Account]] = []

    def look(point: str) -> None:
        if point in ("after_move", "after_quarantine"):
            pending.append(looking.submit(account, lake, refused))
            time.sleep(0.3)
            found.append(pending[-1].done())

    monkeypatch.setattr("scale_assets.ingest.moves.fault_point", look)
    monkeypatch.setattr("scale_assets.ingest.ingestion.fault_point", look)
    revalidate(lake, refused)
    (folder_of(refused) / "b.jsonl").write_bytes(lines([event(4), event(5, color=7)]))
    ingest(lake, refused)

    assert found == [False, False]
    assert all(each.result().is_exact for each in pending)
    looking.shutdown()
