"""One process that serves an ASGI application until it is told to stop, then drains."""

import asyncio
import ipaddress
import resource
import signal
import socket
from collections.abc import Callable

from granian.constants import HTTPModes, Interfaces
from granian.log import LogLevels
from granian.server.embed import Server  # one process, no worker to fork
from starlette.types import ASGIApp

from serving.errors import ServingError

BACKLOG = 1024
# A connection that waits for its next request counts, for up to 30 seconds.
MAX_CONNECTIONS = 16_384
OTHER_FILES = 128


def check_address(host: str, port: int, *, is_shared: bool = False) -> int:
    """Find out now that an address cannot be bound to; the server would only panic.

    The server binds so that processes of one kind may share a port and its connections. Unless
    that is wanted, the address must be free of those as well. Returns the port, chosen if it was 0.

    Raises:
        ServingError: It is none of this machine's, or another program listens there.
    """
    try:
        is_ipv6 = ipaddress.ip_address(host).version == 6
        with socket.socket(socket.AF_INET6 if is_ipv6 else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(is_shared))
            probe.bind((host, port))
            return int(probe.getsockname()[1])
    except (ValueError, OSError) as error:
        raise ServingError(
            f"{host}:{port} cannot be bound to: {error}; give an IP address and a free port"
        ) from None


def url_of(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _max_connections() -> int:
    """As many as files may be open, after asking for as many as it takes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_CONNECTIONS + OTHER_FILES
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < limit:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(1, limit - OTHER_FILES)


async def serve(
    app: ASGIApp, *, host: str, port: int, on_start: Callable[[], None] = lambda: None
) -> None:
    """Listen until SIGINT or SIGTERM, then finish the requests in flight and the lifespan."""
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,  # it gives up connections that say nothing; with HTTP/2 it waits
        websockets=False,
        backlog=BACKLOG,
        backpressure=_max_connections(),
        log_level=LogLevels.error,
    )
    loop = asyncio.get_running_loop()
    for stop in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(stop, server.stop)
    announcing = loop.create_task(_when_listening(host, port, on_start))
    await server.serve()
    announcing.cancel()


async def _when_listening(host: str, port: int, then: Callable[[], None]) -> None:
    """The server's own hook comes before its workers listen."""
    while True:
        try:
            _, connection = await asyncio.open_connection(host, port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            connection.close()
            return then()
