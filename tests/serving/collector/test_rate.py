"""The bucket lets a second's worth through at once, and its rate in the long run."""

import pytest

from serving.collector.errors import Refusal
from serving.collector.rate import TokenBucket


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_passes_and_the_rest_waits() -> None:
    clock = Clock()
    bucket = TokenBucket(10, clock=clock)

    for _ in range(10):
        bucket.take(1)
    with pytest.raises(Refusal) as refused:
        bucket.take(1)

    assert (refused.value.status, refused.value.retry_after_s) == (429, 1)
    clock.now = 0.1
    bucket.take(1)


def test_a_batch_larger_than_the_burst_passes_and_is_paid_back() -> None:
    clock = Clock()
    bucket = TokenBucket(10, clock=clock)

    bucket.take(60)
    with pytest.raises(Refusal) as refused:
        bucket.take(1)

    assert refused.value.retry_after_s == 5
    clock.now = 5.1
    bucket.take(1)


def test_the_long_run_keeps_the_rate() -> None:
    clock = Clock()
    bucket = TokenBucket(10, clock=clock)
    taken = 0
    for tick in range(2000):
        clock.now = tick / 20
        try:
            bucket.take(7)
        except Refusal:
            continue
        taken += 7

    assert taken == pytest.approx(10 * 100, rel=0.03)


def test_idle_time_earns_no_more_than_a_burst() -> None:
    clock = Clock()
    bucket = TokenBucket(10, clock=clock)
    clock.now = 3600.0

    bucket.take(10)
    with pytest.raises(Refusal):
        bucket.take(1)
