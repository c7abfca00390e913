"""Segment's times: when an event happened on our clock, though a client's clock is wrong."""

from datetime import UTC, datetime
from typing import Any


def utc_text(moment: datetime) -> str:
    """ISO 8601 in UTC with microseconds, as contracts read it."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def event_time(timestamp: Any, sent_at: Any, received_at: datetime) -> Any:
    """``received_at - (sent_at - timestamp)``: what the client saw pass, counted back from now.

    So Segment defines it. Without ``timestamp`` the event happens when it is received; without
    ``sent_at`` the client's clock is all there is. A time that cannot be read is returned as it
    came, so that the contract refuses it by name.
    """
    if timestamp is None:
        return utc_text(received_at)
    happened = _instant(timestamp)
    if happened is None:
        return timestamp
    sent = _instant(sent_at)
    try:
        return utc_text(happened if sent is None else received_at - (sent - happened))
    except OverflowError:  # before year 1 or after 9999
        return timestamp


def _instant(value: Any) -> datetime | None:
    """The instant that ``value`` names; None without a zone, since it then names none."""
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None
