"""States, the lake's own computation and a plain loop agree on every value, whatever the order."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scale_assets.features.asof import connect
from scale_assets.features.streaming.aggregates import (
    AggregateError,
    Aggregates,
    Last,
    Recency,
    Windowed,
)
from scale_assets.features.streaming.declared import EventColumns
from scale_assets.features.streaming.keys import JoinKey
from scale_assets.features.streaming.recompute import values_as_of
from scale_assets.features.streaming.states import Events, StateLayout

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
AGGREGATES = Aggregates(
    (
        Windowed(name="events_1h", window=HOUR),
        Windowed(name="clicks_1h", window=HOUR, column="clicks"),
        Windowed(name="clicks_1d", window=DAY, column="clicks"),
        Windowed(name="events_7d", window=7 * DAY),
        Windowed(name="clicks_28d", window=28 * DAY, column="clicks"),
        Last(name="last_sites", column="site", limit=3),
        Last(name="last_two_sites", column="site", limit=2),
        Recency(name="seconds_since_last"),
    )
)
COLUMNS = EventColumns(
    keys=(JoinKey("user", "{user}"),), event_time="event_time", received_at="received_at"
)
SPRING_FORWARD_US = 1_396_137_600_000_000  # 2014-03-30, when Europe's clocks changed
LEAP_DAY_US = 1_456_704_000_000_000  # 2016-02-29


@dataclass(frozen=True)
class Event:
    """One event; times are microseconds."""

    user: int
    event_time: int
    received_at: int
    clicks: int | None
    site: int | None


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], int]:
    """Events around one instant, some late, some from the future, some at tiles' edges."""
    base = draw(st.sampled_from([0, SPRING_FORWARD_US, LEAP_DAY_US]))
    edges = [0, 1, -1, *(int(span / timedelta(microseconds=1)) for span in (5 * MINUTE, HOUR, DAY))]
    offset = st.one_of(
        st.integers(-40 * 86_400_000_000, 0),
        st.integers(-3_700_000_000, 0),
        st.sampled_from([-n * edge for n in (0, 1, 7, 28) for edge in edges]),
    )
    events = draw(
        st.lists(
            st.builds(
                lambda user, at, delay, clicks, site: Event(
                    user, base + at, base + at + delay, clicks, site
                ),
                st.integers(0, 2),
                offset,
                st.one_of(st.just(0), st.integers(-(10**9), 3 * 86_400_000_000)),
                st.one_of(st.none(), st.integers(-5, 10**12)),
                st.one_of(st.none(), st.integers(-2, 4)),
            ),
            max_size=30,
        )
    )
    return events, base + draw(offset)


def naive(events: list[Event], user: int, now: int) -> dict[str, Any]:
    """The definition, event by event."""
    known = [e for e in events if e.user == user and e.received_at <= now]
    happened = [min(e.event_time, e.received_at) for e in known]

    def over(window: timedelta, tile: timedelta, amounts: list[int]) -> int:
        length = int(tile / timedelta(microseconds=1))
        start = (now - int(window / timedelta(microseconds=1))) // length * length
        return sum(n for n, at in zip(amounts, happened, strict=True) if at >= start)

    ones, clicks = [1] * len(known), [e.clicks or 0 for e in known]
    visits = zip(happened, (e.site for e in known), strict=True)
    sites = [site for _, site in sorted(visit for visit in visits if visit[1] is not None)]
    return {
        "events_1h": over(HOUR, 5 * MINUTE, ones),
        "clicks_1h": over(HOUR, 5 * MINUTE, clicks),
        "clicks_1d": over(DAY, HOUR, clicks),
        "events_7d": over(7 * DAY, HOUR, ones),
        "clicks_28d": over(28 * DAY, DAY, clicks),
        "last_sites": sites[-3:],
        "last_two_sites": sites[-2:],
        "seconds_since_last": (now - max(happened)) // 1_000_000 if happened else None,
    }


def from_states(batches: list[list[Event]], users: list[int], now: int) -> list[dict[str, Any]]:
    layout = StateLayout(AGGREGATES)
    states = layout.empty(len(users))
    for batch in batches:
        layout.add(
            states,
            Events(
                entity_M=np.array([users.index(e.user) for e in batch], dtype=np.int64),
                event_time_M=np.array([e.event_time for e in batch], dtype=np.int64),
                received_at_M=np.array([e.received_at for e in batch], dtype=np.int64),
                columns={
                    "clicks": np.array([e.clicks or 0 for e in batch], dtype=np.int64),
                    "site": np.array([e.site or 0 for e in batch], dtype=np.int64),
                },
                nulls={"site": np.array([e.site is None for e in batch], dtype=bool)},
            ),
        )
    states = np.frombuffer(states.tobytes(), dtype=layout.dtype)  # as it comes from a store
    values = layout.values(states, np.full(len(users), now))
    return [
        {
            name: found[row].tolist() if isinstance(found[row], np.ndarray) else found[row]
            for name, found in values.items()
        }
        for row in range(len(users))
    ]


def from_lake(events: list[Event], users: list[int], now: int) -> list[dict[str, Any]]:
    times = pa.timestamp("us", tz="UTC")
    table = pa.table(
        {
            "user": pa.array([e.user for e in events], pa.int64()),
            "event_time": pa.array([e.event_time for e in events], times),
            "received_at": pa.array([e.received_at for e in events], times),
            "clicks": pa.array([e.clicks for e in events], pa.int64()),
            "site": pa.array([e.site for e in events], pa.int64()),
        }
    )
    entities = pa.table(
        {"user": pa.array(users, pa.int64()), "at": pa.array([now] * len(users), times)}
    )
    with connect() as connection:
        connection.register("lake", table)
        found = values_as_of(
            connection, AGGREGATES, "select * from lake", entities, columns=COLUMNS, time="at"
        )
    return list(found.drop_columns(["feature_time", "known_at"]).to_pylist())


@settings(max_examples=100, deadline=None)
@given(histories(), st.randoms(use_true_random=False), st.integers(1, 5))
def test_states_and_lake_equal_a_plain_loop(
    history: tuple[list[Event], int], random: Any, num_batches: int
) -> None:
    events, now = history
    users = [0, 1, 2, 3]
    expected = [naive(events, user, now) for user in users]
    received = [e for e in events if e.received_at <= now]
    known = {e.user for e in received}  # the lake says nothing of the others, as no store does
    assert from_lake(events, users, now) == [
        values if user in known else dict.fromkeys(values)
        for user, values in zip(users, expected, strict=True)
    ]

    random.shuffle(received)
    batches = [received[at::num_batches] for at in range(num_batches)]
    assert from_states(batches, users, now) == expected


def test_an_event_later_than_its_arrival_does_not_push_the_past_out() -> None:
    year = 365 * 86_400_000_000
    events = [Event(0, 0, 0, 5, 1), Event(0, 50 * year, 1, 7, 2)]
    (found,) = from_states([events], [0], 1)
    assert found == naive(events, 0, 1)
    assert found["clicks_28d"] == 12


@pytest.mark.parametrize(
    ("features", "message"),
    [
        pytest.param([{"name": "a", "window_seconds": 90}], "no multiple", id="between tiles"),
        pytest.param([{"name": "a", "window_seconds": 0}], "longer than 0", id="empty window"),
        pytest.param([{"name": "a", "window_seconds": 400 * 86400}], "at most 366", id="too long"),
        pytest.param([{"name": "a"}, {"name": "a"}], "declared twice", id="a name twice"),
        pytest.param([{"name": "a", "last": 0, "column": "x"}], "keep 1 to", id="last none"),
        pytest.param([], "at least one feature", id="no feature"),
    ],
)
def test_what_cannot_be_kept_is_refused(features: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(AggregateError, match=message):
        Aggregates.from_json(features)


@pytest.mark.parametrize("template", ["user_id", "{user", ""])
def test_a_key_that_names_no_column_is_refused(template: str) -> None:
    with pytest.raises(AggregateError, match="key 'user'"):
        JoinKey("user", template)


def test_a_layout_comes_back_from_its_text() -> None:
    assert Aggregates.from_json(AGGREGATES.as_json()) == AGGREGATES
