"""Group commit: the requests that came together are validated, written and synced together."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from serving.collector.errors import Refusal, SinkUnavailable
from serving.collector.metrics import Metrics
from serving.collector.records import Record
from serving.collector.sink import Sink
from serving.collector.streams import Stream
from serving.collector.validation import Breach, Validator

log = logging.getLogger(__name__)

RETRY_AFTER_S = 1


@dataclass(slots=True, eq=False)
class Pending:
    """One request's records, and the future that answers it."""

    records: Sequence[Record]
    num_bytes: int
    done: asyncio.Future[None]

    def fail(self, error: Exception) -> None:
        if not self.done.done():  # its first failure stays; a client that left has cancelled it
            self.done.set_exception(error)


Placed = tuple[Pending, int, Record]  # a record, its request, and its place there


class GroupCommit:
    """Takes whatever waits as one group, while the next one gathers behind it.

    So the cost of a sync is shared by as many requests as arrive during the one before it, and a
    lone request waits for nobody.
    """

    def __init__(
        self,
        sinks: Mapping[Stream, Sink],
        *,
        refuses: bool,
        max_queue_bytes: int,
        metrics: Metrics,
    ) -> None:
        """``refuses``: answer 400 to a request with a contract-breaking event, and keep none of it."""
        self._sinks = sinks
        self._validators = {stream: Validator(stream.contract) for stream in sinks}
        self._refuses = refuses
        self._max_queue_bytes = max_queue_bytes
        self._metrics = metrics
        self._waiting: list[Pending] = []
        self._num_bytes = 0
        self._arrival = asyncio.Event()
        self._closing = False
        self._worker: asyncio.Task[None] | None = None
        self.failing: set[str] = set()  # streams whose last write failed

    def start(self) -> None:
        self._worker = asyncio.create_task(self._work())

    async def close(self) -> None:
        """Commit what waits, then close the sinks."""
        self._closing = True
        self._arrival.set()
        if self._worker is not None:
            await self._worker
        for sink in self._sinks.values():
            await sink.close()

    def submit(self, records: Sequence[Record]) -> asyncio.Future[None]:
        """A future that is done when every record is durable.

        It raises SinkUnavailable where one may not be, and Refusal where the contract says no.

        Raises:
            Refusal: 503, the queue is full.
        """
        num_bytes = sum([len(record.line) for record in records])
        if self._num_bytes + num_bytes > self._max_queue_bytes:
            raise Refusal(
                503, "overloaded", "too much waits to be written", retry_after_s=RETRY_AFTER_S
            )
        self._num_bytes += num_bytes
        pending = Pending(records, num_bytes, asyncio.get_running_loop().create_future())
        self._waiting.append(pending)
        self._arrival.set()
        return pending.done

    async def _work(self) -> None:
        while not (self._closing and not self._waiting):
            await self._arrival.wait()
            self._arrival.clear()
            group, self._waiting = self._waiting, []
            if group:
                await self._settle(group)

    async def _settle(self, group: list[Pending]) -> None:
        """Answer everybody in the group; a bug of ours must not stop the next one."""
        try:
            await self._commit(group)
        except Exception as error:
            log.exception("a commit failed")
            for pending in group:
                pending.fail(error)
        self._num_bytes -= sum([pending.num_bytes for pending in group])

    async def _commit(self, group: list[Pending]) -> None:
        started = time.perf_counter()
        self._metrics.queue.set(self._num_bytes)
        by_stream: dict[Stream, list[Placed]] = defaultdict(list)
        for pending in group:
            for at, record in enumerate(pending.records):
                by_stream[record.stream].append((pending, at, record))
        for stream, placed in by_stream.items():
            await self._validate(stream, placed)
        writes = [self._write(stream, placed) for stream, placed in by_stream.items()]
        await (writes[0] if len(writes) == 1 else asyncio.gather(*writes))
        for pending in group:
            if not pending.done.done():
                pending.done.set_result(None)
        self._metrics.group.observe(len(group))
        self._metrics.commit.observe(time.perf_counter() - started)

    async def _validate(self, stream: Stream, placed: list[Placed]) -> None:
        breaches = await self._validators[stream].breaches([record for _, _, record in placed])
        for index, breach in breaches.items():
            self._metrics.breaches.labels(stream.name, breach.rule, breach.field or "").inc()
            if self._refuses:
                pending, at, _ = placed[index]
                pending.fail(_refusal(at, breach))

    async def _write(self, stream: Stream, placed: list[Placed]) -> None:
        """A failed write fails every request in it; refused ones are left out."""
        kept = [(pending, record) for pending, _, record in placed if not pending.done.done()]
        if not kept:
            return
        try:
            await self._sinks[stream].write([record for _, record in kept])
        except SinkUnavailable as error:
            self._metrics.failures.labels(stream.name).inc()
            if stream.name not in self.failing:
                log.warning("stream %s cannot be written, answering 503: %s", stream.name, error)
            self.failing.add(stream.name)
            for pending, _ in kept:
                pending.fail(error)
            return
        self._metrics.events.labels(stream.name).inc(len(kept))
        if stream.name in self.failing:
            log.warning("stream %s can be written again", stream.name)
            self.failing.discard(stream.name)


def _refusal(at: int, breach: Breach) -> Refusal:
    return Refusal(400, breach.rule, f"message {at}, field {breach.field}: {breach.reason}")
