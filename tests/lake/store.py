"""A proxy in front of an S3 store that fails chosen requests in chosen ways.

It is a process of its own: delta-rs keeps Python's other threads from running while it waits.
"""

import http.client
import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SILENCE_SECONDS = 3.0
CONTROL = "/control-of-the-proxy"


@dataclass
class Fault:
    """Fails the first ``times`` requests of a point; "lost" does the request and keeps the reply."""

    point: str  # "write", "complete", "commit"
    kind: str  # "429", "500", "timeout", "lost"
    times: int = 1
    hit: int = 0


@dataclass
class Faults:
    """The running proxy; its URL takes what the store's takes."""

    url: str

    @contextmanager
    def injected(self, fault: Fault) -> Iterator[Fault]:
        self._put(fault)
        try:
            yield fault
        finally:
            fault.hit = self._put(None)["hit"]

    def _put(self, fault: Fault | None) -> dict[str, int]:
        data = json.dumps(asdict(fault) if fault else None).encode()
        request = urllib.request.Request(self.url + CONTROL, data=data, method="PUT")
        with urllib.request.urlopen(request, timeout=10) as answer:
            said: dict[str, int] = json.load(answer)
        return said


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
        if self.path == CONTROL:
            self._answer(200, {}, self.server.exchanged(body))
            return
        kind = self.server.kind_of_fault(self.command, self.path)
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
        self.fault: Fault | None = None
        self.lock = threading.Lock()

    def exchanged(self, body: bytes) -> bytes:
        """Take another fault, or none; what came of the last one."""
        given = json.loads(body)
        with self.lock:
            hit = self.fault.hit if self.fault else 0
            self.fault = Fault(**given) if given else None
        return json.dumps({"hit": hit}).encode()

    def kind_of_fault(self, method: str, path: str) -> str | None:
        with self.lock:
            fault = self.fault
            if fault is None or fault.hit >= fault.times or not POINTS[fault.point](method, path):
                return None
            fault.hit += 1
            return fault.kind

    def handle_error(self, *_: object) -> None:
        """A client that gave up is what these tests are about."""


@contextmanager
def faulty(upstream: str) -> Iterator[Faults]:
    """The proxy, until the end."""
    command = [sys.executable, "-m", "tests.lake.store", upstream]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Faults(process.stdout.readline().strip())
        process.kill()


if __name__ == "__main__":
    proxy = _Proxy(sys.argv[1])
    sys.stdout.write(f"http://127.0.0.1:{proxy.server_port}\n")
    sys.stdout.flush()
    proxy.serve_forever()
