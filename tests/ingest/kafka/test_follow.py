"""A follower takes what arrives while it runs, ends when told, and is exact beside others."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from scale_assets.ingest.account import IngestReport, account
from scale_assets.ingest.errors import IngestError, SourceUnavailable
from scale_assets.ingest.events import EventFeed
from scale_assets.ingest.follow import Follower, Pace
from scale_assets.ingest.ingestion import ingest
from scale_assets.ingest.kafka.reading import KafkaReading
from scale_assets.lake import Lake
from tests.ingest.conftest import CONTRACT, folder_of, lines
from tests.ingest.conftest import event as an_event
from tests.ingest.kafka.mock import send, values

QUICK = Pace(commit_seconds=0.2, report_seconds=0.5)


@contextmanager
def following(lake: Lake, feed: EventFeed, tell: Callable[[IngestReport], None]) -> Iterator[None]:
    """A follower in a thread; what it raises is raised at the end of the block."""
    stop, failed = threading.Event(), []

    def run() -> None:
        try:
            Follower(lake, feed, stop=stop, tell=tell, pace=QUICK).run()
        except Exception as error:  # noqa: BLE001 - raised again below
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(60)
        if failed:  # it is why the block waited in vain
            raise failed[0]
    assert not thread.is_alive()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def num_rows(lake: Lake, feed: EventFeed) -> int:
    return lake.num_rows(feed.table) if lake.exists(feed.table) else 0


def test_what_arrives_is_taken_soon_and_told(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str
) -> None:
    reports: list[IngestReport] = []
    send(broker, topic, values(range(5)))
    with following(lake, kafka_feed, reports.append):
        wait_for(lambda: num_rows(lake, kafka_feed) == 5)
        send(broker, topic, [*values(range(5, 9)), b"broken"], partition=1)
        wait_for(lambda: num_rows(lake, kafka_feed) == 9)
        wait_for(lambda: sum(report.num_accepted for report in reports) == 9)

    assert sum(report.num_received for report in reports) == 10
    assert account(lake, kafka_feed).is_exact


def test_no_partition_is_ever_assigned_at_a_logical_offset(
    lake: Lake,
    kafka_feed: EventFeed,
    broker: str,
    topic: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """librdkafka looks those up, and may go there late, from where it was told to be since."""
    assigned: list[int] = []

    class Watched(Consumer):
        def assign(self, partitions: list[TopicPartition]) -> None:
            assigned.extend(each.offset for each in partitions)
            super().assign(partitions)

    monkeypatch.setattr("confluent_kafka.Consumer", Watched)
    send(broker, topic, values(range(5)))
    with following(lake, kafka_feed, lambda _report: None):
        wait_for(lambda: num_rows(lake, kafka_feed) == 5)
        with following(lake, kafka_feed, lambda _report: None):
            send(broker, topic, values(range(5, 9)))
            wait_for(lambda: num_rows(lake, kafka_feed) == 9)

    assert len(assigned) >= 2
    assert min(assigned) >= 0


@pytest.fixture
def half_committed(lake: Lake, kafka_feed: EventFeed, broker: str, topic: str) -> None:
    """A batch whose quarantine is committed and whose rows are not."""
    send(broker, topic, [*values(range(5)), b"broken"])

    def die(point: str) -> None:
        if point == "after_quarantine":
            raise RuntimeError(point)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("scale_assets.ingest.ingestion.fault_point", die)
        with pytest.raises(RuntimeError):
            ingest(lake, kafka_feed)


def failing_reread(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[], None]) -> None:
    """The first batch to be read again is not given."""
    read_range, calls = KafkaReading.read_range, []

    def once(self: KafkaReading, *where: Any) -> Any:
        calls.append(where)
        if len(calls) > 1:
            return read_range(self, *where)
        meanwhile()
        raise SourceUnavailable("the broker went away")

    monkeypatch.setattr(KafkaReading, "read_range", once)


@pytest.mark.usefixtures("half_committed")
def test_a_broker_that_is_away_while_a_batch_is_finished_is_asked_again(
    lake: Lake, kafka_feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_reread(monkeypatch, meanwhile=lambda: None)
    with following(lake, kafka_feed, lambda _report: None):
        wait_for(lambda: num_rows(lake, kafka_feed) == 5)

    assert account(lake, kafka_feed).is_exact


@pytest.mark.usefixtures("half_committed")
def test_told_to_end_while_a_batch_is_finished_it_ends_without_an_error(
    lake: Lake, kafka_feed: EventFeed, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()
    failing_reread(monkeypatch, meanwhile=stop.set)

    Follower(lake, kafka_feed, stop=stop, tell=lambda _report: None, pace=QUICK).run()

    assert num_rows(lake, kafka_feed) == 0
    ingest(lake, kafka_feed)
    assert num_rows(lake, kafka_feed) == 5


def test_two_followers_and_a_batch_run_take_everything_once(
    lake: Lake, kafka_feed: EventFeed, broker: str, topic: str
) -> None:
    reports: list[IngestReport] = []
    send(broker, topic, values([0]))
    ingest(lake, kafka_feed)
    with (
        following(lake, kafka_feed, reports.append),
        following(lake, kafka_feed, reports.append),
    ):
        for first in range(1, 400, 40):
            send(broker, topic, values(range(first, first + 40)), partition=first % 4)
            reports.append(ingest(lake, kafka_feed))
        wait_for(lambda: num_rows(lake, kafka_feed) == 401)

    ids = lake.read(kafka_feed.table, columns=["event_id"])["event_id"].to_pylist()
    assert (len(ids), len(set(ids))) == (401, 401)
    assert sum(report.num_received for report in reports) == 400
    assert account(lake, kafka_feed).is_exact


def test_files_can_be_followed_too(lake: Lake, feed: EventFeed) -> None:
    (folder_of(feed) / "a.jsonl").write_bytes(lines([an_event(1)]))
    with following(lake, feed, lambda _: None):
        wait_for(lambda: num_rows(lake, feed) == 1)


def test_a_contract_that_is_being_written_is_waited_for(lake: Lake, feed: EventFeed) -> None:
    whole = CONTRACT.format(version="1.1.0", more="      - {name: color, logicalType: string}\n")
    (folder_of(feed) / "a.jsonl").write_bytes(lines([an_event(1)]))
    with following(lake, feed, lambda _: None):
        wait_for(lambda: num_rows(lake, feed) == 1)
        feed.contract_path.write_text(whole[: whole.index("score") - 3])
        time.sleep(0.3)
        feed.contract_path.unlink()
        time.sleep(0.3)
        feed.contract_path.write_text(whole)
        (folder_of(feed) / "b.jsonl").write_bytes(lines([an_event(2, color="red")]))
        wait_for(lambda: num_rows(lake, feed) == 2)

    assert sorted(lake.read(feed.table)["color"].to_pylist(), key=str) == [None, "red"]


def test_what_cannot_be_read_on_ends_it(lake: Lake, feed: EventFeed) -> None:
    (folder_of(feed) / "a.jsonl").write_bytes(lines([an_event(1)]))
    ingest(lake, feed)
    (folder_of(feed) / "a.jsonl").write_bytes(lines([an_event(2)]))
    follower = Follower(lake, feed, stop=threading.Event(), tell=lambda _: None, pace=QUICK)
    with pytest.raises(IngestError, match="changed after it was ingested"):
        follower.run()
