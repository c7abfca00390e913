"""Requests share commits, and each learns what became of its own records."""

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scale_assets.contracts import Pseudonyms
from serving.collector.commit import GroupCommit
from serving.collector.config import Config
from serving.collector.errors import Refusal, SinkUnavailable
from serving.collector.metrics import Metrics
from serving.collector.records import Record
from serving.collector.streams import Stream, load_streams
from tests.serving.collector.conftest import PII_KEY


class FakeSink:
    """Writes when it is let, and fails as told."""

    def __init__(self) -> None:
        self.writes: list[list[str]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.is_closed = False

    async def write(self, records: Sequence[Record]) -> None:
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        self.writes.append([record.values["event_id"] for record in records])

    async def close(self) -> None:
        self.is_closed = True


class Bench:
    """A group commit over two streams."""

    def __init__(
        self, config: Config, *, refuses: bool = False, max_queue_bytes: int = 9999
    ) -> None:
        streams = load_streams(Path(config.streams), Pseudonyms(key=PII_KEY, key_id="1"))
        self.clicks, self.people = streams
        self.sinks: dict[Stream, FakeSink] = {stream: FakeSink() for stream in streams}
        self.commits = GroupCommit(
            self.sinks, refuses=refuses, max_queue_bytes=max_queue_bytes, metrics=Metrics()
        )
        self.commits.start()

    def record(self, stream: Stream, event_id: str, **values: Any) -> Record:
        times = {"event_time": "2026-01-02T00:00:00Z", "received_at": "2026-01-02T00:00:00Z"}
        if stream is self.people:
            times = {}
        else:
            values = {"source": "web", **values}
        all_values = {"event_id": event_id, **times, **values}
        return Record(stream, all_values, msgspec.json.encode(all_values) + b"\n", None)

    def submit(self, *ids: str, stream: Stream | None = None) -> "asyncio.Future[None]":
        return self.commits.submit([self.record(stream or self.clicks, each) for each in ids])


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 10))


def test_what_waits_during_a_commit_is_the_next_one(config: Config) -> None:
    async def work() -> None:
        bench = Bench(config)
        sink = bench.sinks[bench.clicks]
        sink.gate.clear()
        first = bench.submit("a")
        await asyncio.sleep(0.01)
        rest = [bench.submit(each) for each in "bcd"]
        await asyncio.sleep(0.01)
        assert not first.done()
        sink.gate.set()
        await asyncio.gather(first, *rest)
        assert sink.writes == [["a"], ["b", "c", "d"]]

    run(work())


def test_validation_goes_on_while_a_commit_waits_for_the_disk(config: Config) -> None:
    async def work() -> None:
        bench = Bench(config, refuses=True)
        sink = bench.sinks[bench.clicks]
        sink.gate.clear()
        first = bench.submit("a")
        await asyncio.sleep(0.01)
        bad = bench.commits.submit([bench.record(bench.clicks, "bad", count=0)])
        with pytest.raises(Refusal, match="field count"):
            await bad
        assert not first.done()
        sink.gate.set()
        await first

    run(work())


def test_what_comes_in_one_turn_is_one_commit_in_order(config: Config) -> None:
    async def work() -> None:
        bench = Bench(config)
        await asyncio.gather(*(bench.submit(f"{n}", f"{n}+") for n in range(5)))
        assert bench.sinks[bench.clicks].writes == [
            [f"{n}{s}" for n in range(5) for s in ("", "+")]
        ]

    run(work())


def test_a_failed_write_fails_everybody_in_it_and_nobody_else(config: Config) -> None:
    async def work() -> None:
        bench = Bench(config)
        bench.sinks[bench.people].error = SinkUnavailable("no room")
        both = bench.commits.submit(
            [bench.record(bench.clicks, "a"), bench.record(bench.people, "b")]
        )
        person, click = bench.submit("c", stream=bench.people), bench.submit("d")
        found = await asyncio.gather(both, person, click, return_exceptions=True)
        assert [type(each) for each in found] == [SinkUnavailable, SinkUnavailable, type(None)]
        assert bench.commits.failing == {"people"}
        bench.sinks[bench.people].error = None
        await bench.submit("e", stream=bench.people)
        assert bench.commits.failing == set()

    run(work())


def test_a_breach_is_written_unless_it_is_refused(config: Config) -> None:
    async def work(*, refuses: bool) -> list[list[str]]:
        bench = Bench(config, refuses=refuses)
        good = bench.submit("good")
        bad = bench.commits.submit(
            [bench.record(bench.clicks, "ok"), bench.record(bench.clicks, "bad", count=0)]
        )
        await good
        (outcome,) = await asyncio.gather(bad, return_exceptions=True)
        assert isinstance(outcome, Refusal) is refuses
        return bench.sinks[bench.clicks].writes

    assert asyncio.run(work(refuses=False)) == [["good", "ok", "bad"]]
    assert asyncio.run(work(refuses=True)) == [["good"]]


def test_a_group_without_a_record_left_is_not_written(config: Config) -> None:
    async def work() -> None:
        bench = Bench(config, refuses=True)
        bad = bench.commits.submit([bench.record(bench.clicks, "bad", country="x")])
        with pytest.raises(Refusal, match="message 0, field country"):
            await bad
        assert bench.sinks[bench.clicks].writes == []

    run(work())


def test_a_client_that_left_is_not_written_for(config: Config) -> None:
    async def work() -> None:
        bench = Bench(config)
        gone, stays = bench.submit("a"), bench.submit("b")
        gone.cancel()
        await stays
        assert bench.sinks[bench.clicks].writes == [["b"]]

    run(work())


def test_the_queue_is_bounded_and_empties(config: Config) -> None:
    async def work() -> None:
        bench = Bench(config, max_queue_bytes=300)
        bench.sinks[bench.clicks].gate.clear()
        waiting = [bench.submit("a"), bench.submit("b")]
        with pytest.raises(Refusal) as refused:
            bench.submit("c")
        assert refused.value.status == 503
        bench.sinks[bench.clicks].gate.set()
        await asyncio.gather(*waiting)
        await bench.submit("d")

    run(work())


def test_a_bug_of_ours_fails_one_group_only(config: Config) -> None:
    async def work() -> None:
        bench = Bench(config)
        sink = bench.sinks[bench.clicks]
        sink.error = ZeroDivisionError()
        with pytest.raises(ZeroDivisionError):
            await bench.submit("a")
        sink.error = None
        await bench.submit("b")
        assert sink.writes == [["b"]]

    run(work())


def test_closing_commits_what_waits_and_closes_the_sinks(config: Config) -> None:
    async def work() -> None:
        bench = Bench(config)
        waiting = [bench.submit("a"), bench.submit("b")]
        await bench.commits.close()
        assert all(each.done() for each in waiting)
        assert all(sink.is_closed for sink in bench.sinks.values())

    run(work())
