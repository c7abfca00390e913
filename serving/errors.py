"""Errors as RFC 9457 problem details, and the one base of what stops the server from starting."""

from http import HTTPStatus

import msgspec
from starlette.responses import Response


class ServingError(ValueError):
    """A release or a store that cannot be served; the message names it and the way out."""


class Problem(Exception):
    """Ends a request with a status and a reason that the caller can act on."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail


def problem(status: int, detail: str) -> Response:
    """A problem+json answer."""
    body = {"title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    return Response(
        msgspec.json.encode(body), status_code=status, media_type="application/problem+json"
    )
