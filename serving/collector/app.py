"""The ASGI application: one request in, its messages durable, one answer out."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from serving.bodies import counting
from serving.collector.addresses import ClientAddresses
from serving.collector.auth import WriteKeys
from serving.collector.clock import utc_text
from serving.collector.commit import GroupCommit
from serving.collector.errors import Refusal, SinkUnavailable
from serving.collector.limits import check_nesting, inflate, too_large
from serving.collector.metrics import Metrics
from serving.collector.rate import TokenBucket
from serving.collector.records import Arrival, Record, RecordMaker
from serving.collector.segment import ROUTES, Envelope, max_bytes, read_envelope

BODY_TIMEOUT_S = 10.0
TOO_SLOW = f"the body did not arrive within {BODY_TIMEOUT_S:g} seconds"
JSON = (b"content-type", b"application/json")
TEXT = (b"content-type", b"text/plain; version=0.0.4; charset=utf-8")
SUCCESS = b'{"success":true}'

Headers = dict[bytes, bytes]


class Collector:
    """Segment's tracking API under /v1, with /healthz and /metrics."""

    def __init__(
        self,
        *,
        makers: Sequence[RecordMaker],
        commits: GroupCommit,
        keys: WriteKeys,
        buckets: dict[str, TokenBucket],
        addresses: ClientAddresses,
        metrics: Metrics,
    ) -> None:
        self._makers = makers
        self._commits = commits
        self._keys = keys
        self._buckets = buckets
        self._addresses = addresses
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            await self._serve(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            event = (await receive())["type"]
            if event == "lifespan.startup":
                self._commits.start()
            else:
                await self._commits.close()
            await send({"type": f"{event}.complete"})
            if event == "lifespan.shutdown":
                return

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].rstrip("/")
        kind = ROUTES.get(path)
        if kind is None:
            await self._serve_other(path, send)
            return
        started = time.perf_counter()
        status, headers, body = await self._answer(kind, scope, receive)
        self._metrics.answered(kind, status, time.perf_counter() - started)
        await _send(send, status, headers, body)

    async def _serve_other(self, path: str, send: Send) -> None:
        if path == "/healthz":
            failing = sorted(self._commits.failing)
            await _send(send, 200, [JSON], msgspec.json.encode({"live": True, "failing": failing}))
        elif path == "/metrics":
            await _send(send, 200, [TEXT], self._metrics.text())
        else:
            refusal = Refusal(404, "not_found", f"{path} is no path of the tracking API")
            await _send(send, *_refused(refusal))

    async def _answer(self, kind: str, scope: Scope, receive: Receive) -> "Answer":
        if scope["method"] != "POST":
            return _refused(Refusal(405, "method_not_allowed", "messages are sent with POST"))
        try:
            await self._collect(kind, scope, receive)
        except Refusal as refusal:
            return _refused(refusal)
        except SinkUnavailable:
            return _refused(
                Refusal(503, "unavailable", "the events could not be stored", retry_after_s=1)
            )
        return 200, [JSON], SUCCESS

    async def _collect(self, kind: str, scope: Scope, receive: Receive) -> None:
        received_at = datetime.now(UTC)
        headers = dict(scope["headers"])
        body = await read_body(headers, receive, max_bytes(kind))
        envelope = read_envelope(kind, body)
        source = self._keys.source(headers.get(b"authorization"), envelope.write_key)
        self._buckets[source].take(len(envelope.messages))
        arrival = self._arrival(received_at, source, scope, headers, envelope)
        if records := self._records(envelope, arrival):
            await self._commits.submit(records)

    def _arrival(
        self,
        received_at: datetime,
        source: str,
        scope: Scope,
        headers: Headers,
        envelope: Envelope,
    ) -> Arrival:
        user_agent = headers.get(b"user-agent")
        peer = scope.get("client")
        return Arrival(
            received_at=received_at,
            received_text=utc_text(received_at),
            source=source,
            user_agent=None if user_agent is None else user_agent.decode("latin-1"),
            client_address=self._addresses.truncated(
                None if peer is None else peer[0], headers.get(b"x-forwarded-for")
            ),
            sent_at=envelope.sent_at,
        )

    def _records(self, envelope: Envelope, arrival: Arrival) -> list[Record]:
        records = []
        for message in envelope.messages:
            maker = next((each for each in self._makers if each.stream.takes(message)), None)
            if maker is None:
                self._metrics.ignored.labels(message["type"]).inc()
            else:
                records.append(maker.record(message, arrival))
        return records


Answer = tuple[int, list[tuple[bytes, bytes]], bytes]


async def read_body(headers: Headers, receive: Receive, limit: int) -> bytes:
    """The whole body, inflated; neither form of it may be larger than ``limit`` bytes.

    Raises:
        Refusal: 400 too large, 408 too slow, 415 another encoding than gzip.
    """
    encoding = headers.get(b"content-encoding", b"identity").lower()
    if encoding not in (b"identity", b"gzip"):
        reason = f"content-encoding {encoding.decode('latin-1')!r}; only gzip is read"
        raise Refusal(415, "unsupported_encoding", reason)
    counted = counting(receive, limit, lambda: too_large(limit))
    body = await _in_time(_read_chunks(counted, headers))
    if encoding == b"gzip":
        body = inflate(body, limit)
    check_nesting(body)
    return body


async def _in_time(reading: Coroutine[Any, Any, bytes]) -> bytes:
    """As asyncio.timeout, at a quarter of its cost: this is paid for every request."""
    task = asyncio.current_task()
    assert task is not None
    timer = asyncio.get_running_loop().call_later(BODY_TIMEOUT_S, task.cancel, TOO_SLOW)
    try:
        return await reading
    except asyncio.CancelledError as error:
        if error.args != (TOO_SLOW,):
            raise
        task.uncancel()
        raise Refusal(408, "too_slow", TOO_SLOW) from None
    finally:
        timer.cancel()


async def _read_chunks(receive: Receive, headers: Headers) -> bytes:
    message: Any = await receive()
    body: bytes = message.get("body", b"")
    if b"%d" % len(body) == headers.get(b"content-length"):
        return body  # the server would only say so in another message
    chunks = [body]
    while message.get("more_body"):
        message = await receive()
        chunks.append(message.get("body", b""))
    if message["type"] == "http.disconnect":
        raise Refusal(400, "incomplete_body", "the client left before its body had arrived")
    return b"".join(chunks)


def _refused(refusal: Refusal) -> Answer:
    """The body that Segment's libraries read code and message from."""
    headers = [JSON]
    if refusal.retry_after_s is not None:
        headers.append((b"retry-after", str(refusal.retry_after_s).encode()))
    body = {"success": False, "code": refusal.code, "message": refusal.message}
    return refusal.status, headers, msgspec.json.encode(body)


async def _send(send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    length = (b"content-length", str(len(body)).encode())
    start = {"type": "http.response.start", "status": status, "headers": [*headers, length]}
    await send(start)
    await send({"type": "http.response.body", "body": body})
