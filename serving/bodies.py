"""Request bodies, counted as they arrive: what a header says of their size binds nobody."""

from collections.abc import Callable, MutableMapping
from typing import Any

from starlette.types import ASGIApp, Receive, Scope, Send

from serving.errors import Problem

Message = MutableMapping[str, Any]


class BodyTooLarge(Exception):
    """More bytes arrived than the caller allows."""


def counting(
    receive: Receive, max_bytes: int, refusal: Callable[[], Exception] = BodyTooLarge
) -> Receive:
    """``receive``, which raises ``refusal`` once more than ``max_bytes`` of body have come."""
    num_bytes = 0

    async def counted() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > max_bytes:
            raise refusal()
        return message

    return counted


class BodyLimit:
    """ASGI middleware: a body of more than ``max_bytes``, chunked or not, ends in a 413."""

    def __init__(self, app: ASGIApp, *, max_bytes: int) -> None:
        self.app = app
        self.max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            receive = counting(receive, self.max_bytes, self._refusal)
        await self.app(scope, receive, send)

    def _refusal(self) -> Problem:
        return Problem(413, f"the body is larger than {self.max_bytes} bytes")
