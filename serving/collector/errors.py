"""What can go wrong with a request, a declaration, or the place that events are written to."""

from serving.errors import ServingError


class CollectorError(ServingError):
    """A setting or a declaration that cannot be used; the message names it and the way out."""


class SinkUnavailable(Exception):
    """Records could not be made durable, so none of them may be acknowledged."""


class Refusal(Exception):
    """Ends a request with the status, code and message that a Segment client acts on."""

    def __init__(
        self, status: int, code: str, message: str, *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after_s = retry_after_s
