"""An event keeps its distance to the moment it was sent, whatever the client's clock says."""

from datetime import UTC, datetime, timedelta

import hypothesis.strategies as st
import pytest
from hypothesis import given

from serving.collector.clock import event_time, utc_text

RECEIVED = datetime(2026, 1, 2, 12, tzinfo=UTC)
MOMENTS = st.timedeltas(timedelta(days=-2000), timedelta(days=2000)).map(RECEIVED.__add__)


@given(sent=MOMENTS, ago=st.timedeltas(timedelta(0), timedelta(days=30)))
def test_a_wrong_clock_is_put_right(sent: datetime, ago: timedelta) -> None:
    happened = (sent - ago).isoformat()

    assert event_time(happened, sent.isoformat(), RECEIVED) == utc_text(RECEIVED - ago)


@pytest.mark.parametrize(
    ("timestamp", "sent_at", "expected"),
    [
        pytest.param(None, "2026-01-01T00:00:00Z", "2026-01-02T12:00:00.000000Z", id="no time"),
        pytest.param("2026-01-01T00:00:00Z", None, "2026-01-01T00:00:00.000000Z", id="no sentAt"),
        pytest.param(
            "2026-01-01T02:00:00.5+02:00", "soon", "2026-01-01T00:00:00.500000Z", id="bad sentAt"
        ),
        pytest.param("yesterday", "2026-01-01T00:00:00Z", "yesterday", id="unreadable"),
        pytest.param("2026-01-01T00:00:00", None, "2026-01-01T00:00:00", id="without a zone"),
        pytest.param(1767225600, None, 1767225600, id="a number"),
        pytest.param(
            "0001-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "0001-01-01T00:00:00Z", id="too far"
        ),
    ],
)
def test_times_that_are_missing_or_wrong(
    timestamp: object, sent_at: object, expected: object
) -> None:
    assert event_time(timestamp, sent_at, RECEIVED) == expected
