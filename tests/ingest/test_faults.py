"""kill -9 at any point, a full disk, two runs at once: run it again and the rows are the same."""

import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scale_assets.ingest.account import account
from scale_assets.ingest.errors import IngestError
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.ingestion import Ingestion, ingest
from scale_assets.lake import ConcurrentCommit, Lake
from tests.ingest.conftest import CONTRACT, event, folder_of, in_batches_of, lines, rows

PROGRAM = """
import pickle, resource, sys
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import ConcurrentCommit, Lake
root, feed, limit = pickle.loads(sys.stdin.buffer.read())
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
ingest(Lake(root), feed)
"""


def run(
    lake: Lake, feed: EventFeed, *, fault: str = "", file_limit_bytes: int = 0
) -> subprocess.CompletedProcess[bytes]:
    import pickle

    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=pickle.dumps((lake.root, feed, file_limit_bytes)),
        env={**os.environ, "SCALE_FAULT": fault},
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def small_batches(feed: EventFeed) -> EventFeed:
    for number in range(4):
        events = [event(number * 10 + n, number + 1) for n in range(10)]
        data = lines([*events, event(0)]) + b"broken\n"
        (folder_of(feed) / f"{number}.jsonl").write_bytes(data)
    return in_batches_of(feed, 2000)


def tables(lake: Lake, feed: EventFeed) -> list[list[dict[str, object]]]:
    return [rows(lake, feed.table), rows(lake, feed.quarantine_table)]


@pytest.fixture
def undisturbed(tmp_path: Path, small_batches: EventFeed) -> list[list[dict[str, object]]]:
    lake = Lake(tmp_path / "undisturbed")
    ingest(lake, small_batches)
    return tables(lake, small_batches)


@pytest.mark.fault
@pytest.mark.parametrize("occurrence", [1, 2, 3])
@pytest.mark.parametrize(
    "point", ["before_write", "after_parquet", "after_quarantine", "after_commit"]
)
def test_killed_and_run_again_gives_the_same_rows(
    lake: Lake, small_batches: EventFeed, undisturbed: object, point: str, occurrence: int
) -> None:
    if point in ("after_quarantine", "after_commit"):
        occurrence = min(occurrence, 2)  # there are two batches
    killed = run(lake, small_batches, fault=f"{point}:{occurrence}")
    assert killed.returncode == -signal.SIGKILL, killed.stderr

    ingest(lake, small_batches)

    assert tables(lake, small_batches) == undisturbed
    assert account(lake, small_batches).is_exact


@pytest.mark.fault
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
def test_killed_inside_a_checkpoint(lake: Lake, feed: EventFeed, nth: int) -> None:
    """delta-rs writes one after a commit; here after each, so that the kill meets one."""
    for number in range(40):
        events = lines([event(number * 10 + n, 1 + number % 28) for n in range(10)])
        (folder_of(feed) / f"{number:03}.jsonl").write_bytes(events + b"broken\n")
    feed = in_batches_of(feed, 500)
    Ingestion(lake, feed).open()
    every_commit = {"delta.checkpointInterval": "1"}
    for table in (feed.table, feed.quarantine_table):
        lake.open(table).alter.set_table_properties(every_commit)

    killed = start(lake, feed)
    kill_at_checkpoint(killed, Path(lake.uri(feed.table), "_delta_log"), nth)
    ingest(lake, feed)

    found = rows(lake, feed.table)
    assert (len(found), len({row["event_id"] for row in found})) == (400, 400)
    assert lake.num_rows(feed.quarantine_table) == 40
    assert account(lake, feed).is_exact


def start(lake: Lake, feed: EventFeed) -> subprocess.Popen[bytes]:
    import pickle

    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(pickle.dumps((lake.root, feed, 0)))
    process.stdin.close()
    return process


def kill_at_checkpoint(process: subprocess.Popen[bytes], log: Path, nth: int) -> None:
    """As soon as the n-th new checkpoint, or what will become one, is seen."""
    before = checkpoints(log)
    while len(checkpoints(log) - before) < nth:
        assert process.poll() is None, "it ended before"
    process.kill()
    assert process.wait() == -signal.SIGKILL


def checkpoints(log: Path) -> set[str]:
    return {path.name for path in log.iterdir() if ".checkpoint." in path.name}


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    "rounds", [pytest.param(15, marks=pytest.mark.fault), pytest.param(100, marks=pytest.mark.slow)]
)
def test_a_committed_batch_submitted_again_changes_nothing(
    lake: Lake, feed: EventFeed, rounds: int
) -> None:
    """By a run that read before the commit, and by one that read after it."""
    for number in range(rounds):
        events = lines([event(number * 10 + n, 1 + number % 28) for n in range(10)])
        (folder_of(feed) / f"{number:03}.jsonl").write_bytes(events + b"broken\n")
        stale = Ingestion(lake, feed)
        with stale.source.reading() as reading:
            stale.open()
            (batch,) = stale._batches(reading)
            ingest(lake, feed)
            after = [lake.open(each).version() for each in (feed.table, feed.quarantine_table)]
            with pytest.raises(ConcurrentCommit):
                stale.commit(stale.prepared(batch))
        ingest(lake, feed)
        assert after == [lake.open(each).version() for each in (feed.table, feed.quarantine_table)]

    assert lake.num_rows(feed.table) == 10 * rounds
    assert len(set(lake.read(feed.table)["event_id"].to_pylist())) == 10 * rounds
    found = account(lake, feed)
    assert found.is_exact
    assert (found.received, found.quarantined, found.duplicates) == (11 * rounds, rounds, 0)


@pytest.mark.fault
def test_an_unfinished_batch_is_finished_with_its_own_contract(
    lake: Lake, small_batches: EventFeed
) -> None:
    run(lake, small_batches, fault="after_quarantine")
    # The new contract would take what the old one refused, had it a say in that batch.
    small_batches.contract_path.write_text(
        CONTRACT.format(version="1.1.0", more="      - {name: color, logicalType: string}\n")
    )
    (folder_of(small_batches) / "0a.jsonl").write_bytes(lines([event(100, 9)]))

    ingest(lake, small_batches)

    versions = [row["contract_version"] for row in rows(lake, small_batches.quarantine_table)]
    assert set(versions[:1]) == {"1.0.0"}
    assert set(versions[-1:]) == {"1.1.0"}
    totals = account(lake, small_batches)
    assert totals.is_exact
    assert totals.received == 4 * 12 + 1


@pytest.mark.fault
def test_an_unfinished_batch_whose_file_is_gone_is_named(
    lake: Lake, small_batches: EventFeed
) -> None:
    run(lake, small_batches, fault="after_quarantine")
    (folder_of(small_batches) / "0.jsonl").unlink()
    with pytest.raises(IngestError, match=r"0\.jsonl is gone or changed.*restore the file"):
        ingest(lake, small_batches)


@pytest.mark.fault
def test_a_full_disk_loses_nothing(
    lake: Lake, small_batches: EventFeed, undisturbed: object
) -> None:
    full = run(lake, small_batches, file_limit_bytes=2000)  # a Parquet file needs more
    assert full.returncode == 1
    assert b"Error" in full.stderr

    ingest(lake, small_batches)

    assert tables(lake, small_batches) == undisturbed


def test_two_runs_at_once_take_every_row_once(
    lake: Lake, small_batches: EventFeed, undisturbed: object
) -> None:
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(lambda _: ingest(lake, small_batches), range(3)))

    assert tables(lake, small_batches) == undisturbed
    assert sum(report.num_received for report in reports) == 48
