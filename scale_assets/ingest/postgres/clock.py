"""A database that replays history says when each transaction happened, and when it reached us.

It does so by a logical message inside of the transaction:
``select pg_logical_emit_message(true, 'scale.clock', '{"event_time": ..., "received_at": ...}')``
with ISO 8601 times; its table ``scale_clock`` holds the last ``day`` that was replayed. Only a
capture that is told to believes either.
"""

import json
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from scale_assets.ingest.postgres.errors import ProtocolError
from scale_assets.ingest.postgres.messages import LogicalMessage
from scale_assets.ingest.postgres.transactions import Transactions

if TYPE_CHECKING:
    import psycopg

    Connection = psycopg.Connection[Any]

PREFIX = "scale.clock"
HAS_CLOCK = "select to_regclass('scale_clock') is not null"
DAY_ENDS = "select (day + 1)::timestamp at time zone 'UTC' from scale_clock where day is not null"


def set_times(transactions: Transactions, messages: Iterable[tuple[int, LogicalMessage]]) -> None:
    """Let transactions happen when their message says; by the message's number in the chunk.

    Raises:
        ProtocolError: A message that gives no times.
    """
    for number, message in messages:
        if message.prefix == PREFIX and message.is_transactional:
            event_us, received_us = _times(message.content)
            at = transactions.of[number]
            transactions.committed_at[at] = event_us
            transactions.sent_at[at] = received_us


def now_of(connection: "Connection", *, simulated: bool) -> datetime:
    """The database's time: its own, or the end of the last day that was replayed into it."""
    if simulated and connection.execute(HAS_CLOCK).fetchone() == (True,):
        row = connection.execute(DAY_ENDS).fetchone()
        if row is not None:
            return _time(row)
    row = connection.execute("select now()").fetchone()
    assert row is not None
    return _time(row)


def _time(row: tuple[Any, ...]) -> datetime:
    found: datetime = row[0]
    return found


def _times(content: bytes) -> tuple[int, int]:
    try:
        said = json.loads(content)
        event, received = (
            datetime.fromisoformat(said[name]) for name in ("event_time", "received_at")
        )
        return round(event.timestamp() * 1e6), round(received.timestamp() * 1e6)
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolError(
            f"a {PREFIX} message {content[:200]!r}: write JSON with event_time and received_at"
        ) from error
