"""Small event tables for these tests, and a session loop too simple to be wrong."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa

from scale_assets.lake import Lake

START = datetime(2015, 9, 10, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
SCHEMA = pa.schema(
    [
        ("user", pa.string()),
        ("event_time", pa.timestamp("us", tz="UTC")),
        ("received_at", pa.timestamp("us", tz="UTC")),
        ("num_clicks", pa.int64()),
        ("event_date", pa.date32()),
    ]
)


class Event(NamedTuple):
    """One click; the day it was received tells early from late."""

    user: str
    event_time: datetime
    received_at: datetime
    num_clicks: int


def event(user: str, minutes: float, *, late_days: int = 0, num_clicks: int = 1) -> Event:
    """An event so many minutes after START, received so many days after its own midnight."""
    time = START + minutes * MINUTE
    midnight = time.replace(hour=0, minute=0, second=0, microsecond=0)
    return Event(user, time, midnight + timedelta(days=1 + late_days), num_clicks)


def put_events(lake: Lake, events: Iterable[Event], *, table: str = "raw/clicks") -> None:
    rows = [{**each._asdict(), "event_date": each.event_time.date()} for each in events]
    lake.overwrite(table, pa.Table.from_pylist(rows, schema=SCHEMA), partition_by=["event_date"])


def sessions_by_loop(events: Iterable[Event], *, gap: timedelta) -> list[dict[str, Any]]:
    """What the transform must make of the events, one session after the other."""
    made: list[dict[str, Any]] = []
    for one in sorted(events):
        open_one = made[-1] if made and made[-1]["user"] == one.user else None
        if open_one and one.event_time - open_one["session_end"] <= gap:
            open_one["session_end"] = one.event_time
            open_one["num_events"] += 1
            open_one["num_clicks"] += one.num_clicks
            open_one["received_at"] = max(open_one["received_at"], one.received_at)
            continue
        made.append(
            {
                "user": one.user,
                "session_start": one.event_time,
                "session_end": one.event_time,
                "session_date": one.event_time.date(),
                "num_events": 1,
                "num_clicks": one.num_clicks,
                "received_at": one.received_at,
            }
        )
    return sorted(made, key=lambda row: (row["user"], row["session_start"]))


def day(number: int) -> date:
    """The date so many days after START's."""
    return (START + timedelta(days=number)).date()
