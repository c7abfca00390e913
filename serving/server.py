"""One process that serves an ASGI application until it is told to stop, then drains."""

import asyncio
import signal

from granian.constants import Interfaces
from granian.log import LogLevels
from granian.server.embed import Server  # one process, no worker to fork
from starlette.types import ASGIApp


async def serve(app: ASGIApp, *, host: str, port: int) -> None:
    """Listen until SIGINT or SIGTERM, then finish the requests in flight and the lifespan."""
    server = Server(
        app, address=host, port=port, interface=Interfaces.ASGI, log_level=LogLevels.error
    )
    loop = asyncio.get_running_loop()
    for stop in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(stop, server.stop)
    await server.serve()
