"""A stand-in for a Schema Registry: schemas by id over HTTP, as Confluent's client asks for them."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

Schemas = dict[int, dict[str, Any]]


@contextmanager
def registry(schemas: Schemas, *, subjects: dict[str, int] | None = None) -> Iterator[str]:
    """Its URL; ``subjects`` are the ids of the schemas that others refer to, at version 1."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            parts = self.path.partition("?")[0].strip("/").split("/")
            if parts[:2] == ["schemas", "ids"] and int(parts[2]) in schemas:
                self.say(200, schemas[int(parts[2])])
            elif parts[0] == "subjects" and parts[1] in (subjects or {}):
                found = (subjects or {})[parts[1]]
                self.say(200, {"subject": parts[1], "version": 1, "id": found, **schemas[found]})
            else:
                self.say(404, {"error_code": 40403, "message": "Schema not found"})

        def say(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
