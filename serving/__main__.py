"""`python -m serving`: one server process over a folder of releases and an online store."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

import uvloop
from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server.embed import Server  # one process, no worker to fork
from starlette.applications import Starlette

from serving.app import create_app
from serving.errors import ServingError


def main() -> int:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser(prog="python -m serving", description=__doc__)
    parser.add_argument("--releases", type=Path, required=True, help="folder of release folders")
    parser.add_argument("--online-store", type=Path, required=True, help="SQLite file")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    options = parser.parse_args()
    try:
        app = create_app(releases_dir=options.releases, online_store=options.online_store)
    except ServingError as error:
        print(f"cannot serve: {error}", file=sys.stderr)
        return 1
    uvloop.run(serve(app, options.host, options.port))
    return 0


async def serve(app: Starlette, host: str, port: int) -> None:
    """Listen until SIGINT or SIGTERM, then finish the requests in flight."""
    server = Server(
        app, address=host, port=port, interface=Interfaces.ASGI, log_level=LogLevels.error
    )
    loop = asyncio.get_running_loop()
    for stop in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(stop, server.stop)
    await server.serve()


if __name__ == "__main__":
    raise SystemExit(main())
