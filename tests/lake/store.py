"""A proxy in front of an S3 store that fails chosen requests in chosen ways."""

import http.client
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SILENCE_SECONDS = 3.0


@dataclass
class Fault:
    """Fails the first ``times`` requests that match; "lost" does the request, then gives no reply."""

    matches: Callable[[str, str], bool]  # method, path with query
    kind: str  # "429", "500", "timeout", "lost"
    times: int = 1
    hit: int = 0


@dataclass
class Faults:
    """What the proxy injects now."""

    url: str
    active: list[Fault] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def injected(self, fault: Fault) -> Iterator[Fault]:
        self.active = [fault]
        try:
            yield fault
        finally:
            self.active = []

    def for_request(self, method: str, path: str) -> str | None:
        with self.lock:
            self.requests.append(f"{method} {path}")
            for fault in self.active:
                if fault.hit < fault.times and fault.matches(method, path):
                    fault.hit += 1
                    return fault.kind
        return None


def is_data_write(method: str, path: str) -> bool:
    """A data file, or one part of it."""
    return method == "PUT" and ".parquet" in path and "_delta_log" not in path


def is_complete(method: str, path: str) -> bool:
    return method == "POST" and "uploadId=" in path


def is_commit(method: str, path: str) -> bool:
    return (
        method == "PUT"
        and "_delta_log/" in path
        and path.split("?", maxsplit=1)[0].endswith(".json")
    )


POINTS = {"write": is_data_write, "complete": is_complete, "commit": is_commit}


class _Handler(BaseHTTPRequestHandler):
    server: "_Proxy"

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        """Stay silent."""

    def forward(self) -> None:
        body = self._body()
        kind = self.server.faults.for_request(self.command, self.path)
        if kind in ("429", "500"):
            self._answer(int(kind), {}, b"")
            return
        if kind == "timeout":
            time.sleep(SILENCE_SECONDS)
            self.close_connection = True
            return
        status, headers, answer = self._ask(body)
        if kind == "lost":
            time.sleep(SILENCE_SECONDS)
            self.close_connection = True
            return
        self._answer(status, headers, answer)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward  # noqa: N815

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("transfer-encoding", ""):
            return b"".join(self._chunks())
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _ask(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.server.upstream).netloc, timeout=60)
        dropped = {"transfer-encoding", "expect", "content-length", "connection"}
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():  # Host as signed
            if name.lower() not in dropped:
                connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        said = connection.getresponse()
        answer = said.read()
        connection.close()
        return said.status, dict(said.getheaders()), answer

    def _answer(self, status: int, headers: dict[str, str], answer: bytes) -> None:
        self.send_response_only(status)
        length = str(len(answer))
        for name, value in headers.items():
            if name.lower() == "content-length":
                length = value if self.command == "HEAD" else length
            elif name.lower() not in ("transfer-encoding", "connection"):
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer)


class _Proxy(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.upstream = upstream
        self.faults = Faults(url=f"http://127.0.0.1:{self.server_port}")

    def handle_error(self, *_: object) -> None:
        """A client that gave up is what these tests are about."""


@contextmanager
def faulty(upstream: str) -> Iterator[Faults]:
    """The proxy, until the end; its URL takes what the store's takes."""
    proxy = _Proxy(upstream)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        yield proxy.faults
    finally:
        proxy.shutdown()
        proxy.server_close()
        thread.join()
