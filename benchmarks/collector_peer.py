"""The collector's handler on FastAPI with uvicorn: the same parts, put together the usual way.

python -m benchmarks.collector_peer --config FILE --durability {request,thread,group}
"""

import argparse
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from starlette.concurrency import run_in_threadpool

from scale_assets.contracts import Pseudonyms, RecordChecker
from serving.collector.addresses import ClientAddresses
from serving.collector.auth import WriteKeys
from serving.collector.clock import utc_text
from serving.collector.commit import GroupCommit
from serving.collector.config import Config, read_config
from serving.collector.limits import check_nesting
from serving.collector.log_file import LogFile
from serving.collector.log_sink import LogSink
from serving.collector.metrics import Metrics
from serving.collector.rate import TokenBucket
from serving.collector.records import Arrival, Record, RecordMaker
from serving.collector.segment import read_envelope
from serving.collector.streams import Stream, load_streams

Keep = Callable[[Record], Awaitable[Any]]
OPEN_FOR_THE_WHOLE_RUN = 1 << 40


class Peer:
    """Parses, authenticates, enriches and validates one message per request, as the collector."""

    def __init__(self, config: Config, *, durability: str) -> None:
        pseudonyms = Pseudonyms(key=config.pii_key or "", key_id=config.pii_key_id)
        (self.stream,) = load_streams(Path(config.streams), pseudonyms)
        self.maker = RecordMaker(self.stream, pseudonyms)
        self.checker = RecordChecker(self.stream.contract)
        self.keys = WriteKeys(config.write_keys)
        self.bucket = TokenBucket(config.events_per_second)
        self.addresses = ClientAddresses(config.trusted_proxies)
        self.folder = Path(config.feeds_dir) / self.stream.name
        self.durability = durability
        self.keep: Keep

    @asynccontextmanager
    async def live(self, _: FastAPI) -> AsyncIterator[None]:
        if self.durability == "group":
            commits = _group_commit(self.stream, self.folder)
            self.keep = lambda record: commits.submit([record])
            yield
            await commits.close()
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        file = LogFile(self.folder)
        self.keep = self._in_threads() if self.durability == "thread" else self._inline(file)
        yield
        file.seal()

    async def track(self, request: Request) -> dict[str, bool]:
        received_at = datetime.now(UTC)
        body = await request.body()
        check_nesting(body)
        envelope = read_envelope("track", body)
        authorization = request.headers.get("authorization")
        source = self.keys.source(
            None if authorization is None else authorization.encode(), envelope.write_key
        )
        self.bucket.take(1)
        arrival = Arrival(
            received_at=received_at,
            received_text=utc_text(received_at),
            source=source,
            user_agent=request.headers.get("user-agent"),
            client_address=self.addresses.truncated(
                request.client.host if request.client else None, None
            ),
            sent_at=envelope.sent_at,
        )
        record = self.maker.record(envelope.messages[0], arrival)
        if self.durability != "group":  # there it is part of the commit
            assert self.checker.surely_valid([record.values]) == [True]
        await self.keep(record)
        return {"success": True}

    def _inline(self, file: LogFile) -> Keep:
        async def keep(record: Record) -> None:
            file.append(record.line)

        return keep

    def _in_threads(self) -> Keep:
        """Without a lock, so that the kernel may sync several at once; no write can be taken back."""
        fd = os.open(self.folder / "threads.jsonl", os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)

        def append(line: bytes) -> None:
            os.write(fd, line)
            os.fdatasync(fd)

        return lambda record: run_in_threadpool(append, record.line)


def _group_commit(stream: Stream, folder: Path) -> GroupCommit:
    sink = LogSink(folder, max_bytes=OPEN_FOR_THE_WHOLE_RUN, max_age_s=3600)
    commits = GroupCommit(
        {stream: sink}, refuses=False, max_queue_bytes=64 << 20, metrics=Metrics()
    )
    commits.start()
    return commits


def main() -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--durability", choices=["request", "thread", "group"], required=True)
    options = parser.parse_args()
    config = read_config(options.config)
    peer = Peer(config, durability=options.durability)
    app = FastAPI(lifespan=peer.live)
    app.post("/v1/track")(peer.track)
    app.get("/healthz")(lambda: {"live": True})
    uvicorn.run(
        app,
        host=config.host,
        port=config.port,
        loop="uvloop",
        http="httptools",
        log_level="warning",
        access_log=False,
    )


if __name__ == "__main__":
    main()
