"""A token bucket for each write key: events per second, with a burst of one second's worth."""

import math
import time
from collections.abc import Callable

from serving.collector.errors import Refusal


class TokenBucket:
    """Lets events through while it holds a token; a large batch may leave it in debt.

    The debt keeps the long-run rate exact without a batch that could never pass.
    """

    def __init__(
        self, events_per_second: float, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rate = events_per_second
        self._clock = clock
        self._tokens = events_per_second
        self._filled_at = clock()

    def take(self, num_events: int) -> None:
        """Refuse with 429 and the seconds until there is a token again."""
        now = self._clock()
        earned = (now - self._filled_at) * self._rate
        self._tokens = min(self._tokens + earned, self._rate)
        self._filled_at = now
        if self._tokens <= 0:
            wait_s = max(1, math.ceil(-self._tokens / self._rate))
            raise Refusal(
                429,
                "rate_limited",
                f"more than {self._rate:g} events per second under this write key",
                retry_after_s=wait_s,
            )
        self._tokens -= num_events
