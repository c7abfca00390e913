"""Group commit: requests that came together are validated, written and synced together."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.collector.errors import Refusal, SinkUnavailable
from serving.collector.intake import Intake
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
    """Validates what one turn of the event loop brought, and writes all that waits as one group.

    While one group syncs the next gathers, so that a sync is shared by as many requests as arrive
    during the one before it, and a lone request waits for nobody.
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
        self._received: Intake[Pending] = Intake()
        self._validated: Intake[Pending] = Intake()
        self._num_bytes = 0
        self._workers: list[asyncio.Task[None]] = []
        self.failing: set[str] = set()  # streams whose last write failed

    def start(self) -> None:
        self._workers = [
            asyncio.create_task(self._validate_what_comes()),
            asyncio.create_task(self._write_what_is_validated()),
        ]

    async def close(self) -> None:
        """Commit what waits, then close the sinks."""
        self._received.close()
        await asyncio.gather(*self._workers)
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
        self._received.put([pending])
        return pending.done

    async def _validate_what_comes(self) -> None:
        while turn := await self._received.take():
            await self._settle(turn, self._validate(turn))
            self._validated.put(turn)
        self._validated.close()

    async def _write_what_is_validated(self) -> None:
        while group := await self._validated.take():
            self._metrics.queue.set(self._num_bytes)
            await self._settle(group, self._commit(group))
            self._num_bytes -= sum([pending.num_bytes for pending in group])

    async def _settle(self, group: list[Pending], work: Coroutine[Any, Any, None]) -> None:
        """A bug of ours is answered to the group that met it, and stops no other."""
        try:
            await work
        except Exception as error:
            log.exception("a commit failed")
            for pending in group:
                pending.fail(error)

    async def _validate(self, turn: list[Pending]) -> None:
        for stream, placed in _by_stream(turn).items():
            found = await self._validators[stream].breaches([record for _, _, record in placed])
            for index, breach in found.items():
                self._metrics.breaches.labels(stream.name, breach.rule, breach.field or "").inc()
                if self._refuses:
                    pending, at, _ = placed[index]
                    pending.fail(_refusal(at, breach))

    async def _commit(self, group: list[Pending]) -> None:
        started = time.perf_counter()
        waiting = [pending for pending in group if not pending.done.done()]
        writes = [self._write(stream, placed) for stream, placed in _by_stream(waiting).items()]
        await (writes[0] if len(writes) == 1 else asyncio.gather(*writes))
        for pending in waiting:
            if not pending.done.done():
                pending.done.set_result(None)
        self._metrics.group.observe(len(group))
        self._metrics.commit.observe(time.perf_counter() - started)

    async def _write(self, stream: Stream, placed: list[Placed]) -> None:
        """A failed write fails every request in it."""
        try:
            await self._sinks[stream].write([record for _, _, record in placed])
        except SinkUnavailable as error:
            self._metrics.failures.labels(stream.name).inc()
            if stream.name not in self.failing:
                log.warning("stream %s cannot be written, answering 503: %s", stream.name, error)
            self.failing.add(stream.name)
            for pending, _, _ in placed:
                pending.fail(error)
            return
        self._metrics.events.labels(stream.name).inc(len(placed))
        if stream.name in self.failing:
            log.warning("stream %s can be written again", stream.name)
            self.failing.discard(stream.name)


def _by_stream(requests: list[Pending]) -> dict[Stream, list[Placed]]:
    found: dict[Stream, list[Placed]] = defaultdict(list)
    for pending in requests:
        for at, record in enumerate(pending.records):
            found[record.stream].append((pending, at, record))
    return found


def _refusal(at: int, breach: Breach) -> Refusal:
    return Refusal(400, breach.rule, f"message {at}, field {breach.field}: {breach.reason}")
