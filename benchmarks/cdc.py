"""Change apply: a change feed against delta-rs merging the same changes by itself.

python -m benchmarks.cdc [--quick] [--rows N] [--changes N] [--json]

The table holds ``--rows`` rows; a file of ``--changes`` Debezium events arrives: updates, inserts and
deletes of keys drawn at random, in 20 transactions. Timed, each on a fresh copy, in turns: our feed
(the table of changes, the current table, the history), one plain merge of the batch when somebody has
deduplicated it already, and a plain merge of each transaction. The peers are handed Arrow rows, so
that reading and validating the JSON is timed apart.
"""

import argparse
import json
import shutil
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.change_batch import CONTRACT, ChangeBatch, Table
from benchmarks.measure import Comparison, machine, scratch_folder
from scale_assets.contracts import Contract, parse_contract
from scale_assets.ingest.changes import ChangeFeed
from scale_assets.ingest.derive import derive_current, derive_history
from scale_assets.ingest.feed import Decoded
from scale_assets.ingest.file_source import FilesSource
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import Lake

MERGE_GOAL, FEED_GOAL, TRANSACTIONS_GOAL = 1.15, 2.2, 5.0
NUM_TRANSACTIONS = 20


def main() -> None:
    """Print one line per comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="A small table, three runs.")
    parser.add_argument("--rows", type=int, help="Rows of the table; 1,000,000, quick 200,000.")
    parser.add_argument("--changes", type=int, help="Changes; a tenth of the rows.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    num_rows = options.rows or (200_000 if options.quick else 1_000_000)
    results = change_apply(
        num_rows=num_rows,
        num_changes=options.changes or num_rows // 10,
        repeats=3 if options.quick else 5,
    )
    if options.json:
        print(json.dumps(machine()))
    for each in results:
        print(each.as_json() if options.json else each.as_text())


@dataclass
class Seconds:
    """What each way took, one entry per run."""

    reading: list[float]
    changes: list[float]
    current: list[float]
    history: list[float]
    merge: list[float]
    transactions: list[float]

    def median(self, *parts: list[float]) -> float:
        """The median over the runs of the sum of some parts."""
        return float(statistics.median(sum(each) for each in zip(*parts, strict=True)))


def change_apply(*, num_rows: int, num_changes: int, repeats: int) -> list[Comparison]:
    """Ours against the peers, on one batch."""
    table = Table(num_rows=num_rows)
    batch = ChangeBatch.drawn(table, num_changes=num_changes, num_transactions=NUM_TRANSACTIONS)
    seconds = Seconds([], [], [], [], [], [])
    with scratch_folder() as folder:
        stage = Stage(folder, table)
        for _ in range(repeats):
            run_once(stage, batch, seconds)
    return compared(seconds, num_changes, f"{num_changes:,} changes into {num_rows:,} rows")


def compared(seconds: Seconds, num_changes: int, what: str) -> list[Comparison]:
    merge = seconds.median(seconds.merge)
    current = seconds.median(seconds.current)
    feed = seconds.median(seconds.changes, seconds.current, seconds.history)
    with_reading = seconds.median(
        seconds.reading, seconds.changes, seconds.current, seconds.history
    )
    ours, theirs = num_changes / feed, num_changes / seconds.median(seconds.transactions)
    peer = "a plain merge of the deduplicated batch"
    return [
        _at_most(MERGE_GOAL, f"merge into the current table, {what}", current, peer, merge),
        _at_most(FEED_GOAL, f"changes, current and history, {what}", feed, peer, merge),
        Comparison(
            name=f"the same with the JSON read and validated, {what}",
            ours=with_reading,
            unit="s",
            peer=peer,
            peer_value=merge,
            goal="none: the peer reads no JSON",
            ok=True,
        ),
        Comparison(
            name=f"changes, current and history, {what}",
            ours=ours,
            unit="changes/s",
            peer=f"a plain merge of each of {NUM_TRANSACTIONS} transactions",
            peer_value=theirs,
            goal=f"at least {TRANSACTIONS_GOAL:g}",
            ok=ours >= TRANSACTIONS_GOAL * theirs,
        ),
    ]


def _at_most(goal: float, name: str, ours: float, peer: str, theirs: float) -> Comparison:
    return Comparison(name, ours, "s", peer, theirs, f"at most {goal:g}", ours <= goal * theirs)


@dataclass(frozen=True, kw_only=True)
class TimedFeed(ChangeFeed):
    """A change feed that knows how long it read and validated."""

    reading: list[float] = field(default_factory=list)

    def decode(self, *piece: Any) -> Decoded:
        started = time.perf_counter()
        decoded = super().decode(*piece)
        self.reading.append(time.perf_counter() - started)
        return decoded


class Stage:
    """A feed that has taken the table as a snapshot, and the same rows as a plain Delta table."""

    def __init__(self, folder: Path, table: Table) -> None:
        self.folder = folder
        (folder / "orders.odcs.yaml").write_text(CONTRACT)
        self.contract: Contract = parse_contract(CONTRACT, source="orders.odcs.yaml")
        (folder / "pristine").mkdir()
        feed = self.feed(folder / "pristine")
        _folder_of(feed).mkdir()
        lake = Lake(folder / "pristine" / "lake")
        ingest(lake, feed)
        snapshot = table.snapshot(feed.schema(self.contract))
        lake.append_once(feed.table, snapshot, positions={"snapshot": 1})
        self.derive(lake)
        lake.overwrite("plain", table.rows())

    def fresh(self) -> Path:
        """A copy to run on. Files of Delta tables never change, so that links will do."""
        copy = self.folder / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self.folder / "pristine", copy, copy_function=_link)
        return copy

    def feed(self, folder: Path) -> TimedFeed:
        return TimedFeed(
            name="orders",
            source=FilesSource(folder / "orders"),
            contract_path=self.folder / "orders.odcs.yaml",
            table="raw/orders_changes",
            quarantine_table="raw/orders_quarantine",
        )

    def derive(self, lake: Lake) -> tuple[float, float]:
        source = "raw/orders_changes"
        return (
            timed(lambda: derive_current(lake, self.contract, changes=source, table="orders")),
            timed(lambda: derive_history(lake, self.contract, changes=source, table="history")),
        )


def _folder_of(feed: ChangeFeed) -> Path:
    assert isinstance(feed.source, FilesSource)
    return feed.source.folder


def run_once(stage: Stage, batch: ChangeBatch, seconds: Seconds) -> None:
    """Every way once, and proof that they come to the same rows."""
    copy = stage.fresh()
    feed, lake = stage.feed(copy), Lake(copy / "lake")
    (_folder_of(feed) / "1.jsonl").write_bytes(batch.lines())
    taken = timed(lambda: ingest(lake, feed))
    seconds.reading.append(sum(feed.reading))
    seconds.changes.append(taken - sum(feed.reading))
    current, history = stage.derive(lake)
    seconds.current.append(current)
    seconds.history.append(history)
    seconds.merge.append(timed(lambda: batch.merge_deduplicated(lake.open("plain"))))
    ours = lake.read("orders")
    batch.check_same(ours, lake.read("plain"))
    plain = Lake(stage.fresh() / "lake")
    seconds.transactions.append(timed(lambda: batch.merge_each_transaction(plain.open("plain"))))
    batch.check_same(ours, plain.read("plain"))


def timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)


if __name__ == "__main__":
    main()
