"""Generated events, thousands of entity rows: states, the lake's history and the loop agree at every instant."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from scale_assets.features.asof import connect
from scale_assets.features.codec import entity_key, to_micros
from scale_assets.features.stores import open_backend
from scale_assets.features.streaming.recompute import values_as_of
from scale_assets.features.streaming.updater import Updater
from scale_assets.lake import Lake
from tests.features.asof_cases import ORIGINS
from tests.features.streaming.stream import (
    HOUR_US,
    TIMES,
    VIEW,
    Click,
    append,
    expected,
    stored,
)

MINUTE_US, DAY_US = HOUR_US // 60, 24 * HOUR_US
NOBODY = {"course": "nobody", "visitor": "x"}
NOTHING = dict.fromkeys(("clicks_1h", "events_7d", "last_sites", "seconds_since_last"))


def instants(origin: datetime) -> list[int]:
    """Around a change of clocks, a leap second, a leap day: at tiles' edges and beside them."""
    start = to_micros(origin)
    return [start - 1, start, start + 5 * MINUTE_US, start + HOUR_US, start + 7 * DAY_US + 1]


INSTANTS = sorted(instant for origin in ORIGINS for instant in instants(origin))
offsets = st.one_of(
    st.integers(-8 * DAY_US, 8 * DAY_US),
    st.integers(-2 * HOUR_US, 2 * HOUR_US),
    st.sampled_from([-7 * DAY_US, -HOUR_US, -5 * MINUTE_US, -1, 0, 1, 5 * MINUTE_US, HOUR_US]),
)
# At once, late by a little or by weeks, or from a clock that goes ahead.
delays = st.one_of(
    st.just(0), st.integers(0, HOUR_US), st.integers(0, 20 * DAY_US), st.integers(-HOUR_US, 0)
)
events = st.tuples(
    st.sampled_from([to_micros(origin) for origin in ORIGINS]),
    offsets,
    delays,
    st.sampled_from([None, -3, 0, 1, 10**9]),
    st.sampled_from([None, 1, 2, 3, 4]),
)
of_entity = st.tuples(
    st.sampled_from(["A", "B\x1fC", "B\\uC", None]),
    st.lists(events, min_size=1, max_size=25),
    st.integers(1, 3),
)


def generated(num_keys: int) -> list[Click]:
    """Events of many entities, some of them several times the same, and some of nobody."""
    clicks: list[Click] = []
    keys: set[str] = set()

    @settings(
        max_examples=3 * num_keys,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(of_entity)
    def collect(drawn: Any) -> None:
        course, happened, times = drawn
        if len(keys) < num_keys:
            number = len(clicks)
            for at, offset, delay, amount, site in happened * times:
                clicks.append(Click(course, number, at + offset, delay, amount, site))
            keys.update({clicks[-1].key} if course else ())

    collect()
    assert len(keys) == num_keys
    return clicks


@pytest.mark.parametrize("num_rows", [500, pytest.param(10_000, marks=pytest.mark.slow)], ids=str)
def test_no_entity_row_differs_from_the_loop(tmp_path: Path, num_rows: int) -> None:
    """0 mismatches in entities x 20 instants, online and offline; nothing that came later counts."""
    clicks = generated(num_rows // len(INSTANTS))
    known_keys = dict.fromkeys(click.key for click in clicks if click.course_id)
    keys = [*known_keys, entity_key(NOBODY)]
    lake = Lake(tmp_path / "lake")

    wrong, online = [], {}
    with open_backend(tmp_path / "online.db") as backend:
        before = -(1 << 62)
        for number, now in enumerate(INSTANTS, start=1):
            append(lake, [c for c in clicks if before < received(c) <= now], number=number)
            Updater(lake.open(VIEW.table), VIEW, backend).catch_up()
            found = online[now] = stored(backend, keys, now)
            loop = expected(known(clicks, now), now)
            wrong += [
                (now, k, found.get(k), loop.get(k)) for k in keys if found.get(k) != loop.get(k)
            ]
            before = now
    assert wrong == []

    append(lake, [c for c in clicks if received(c) > before], number=len(INSTANTS) + 1)
    offline = from_lake(lake, clicks, keys)
    assert [row for row in offline if offline[row] != online[row[0]].get(row[1], NOTHING)] == []
    assert len(offline) == len(INSTANTS) * len(keys) > num_rows
    assert sum(len(found) for found in online.values()) > len(offline) // 4


def received(click: Click) -> int:
    return click.at + click.delay


def known(clicks: Sequence[Click], now: int) -> list[Click]:
    """What had been received; what claims to be from the future happened when it was."""
    return [replace(c, at=min(c.at, received(c))) for c in clicks if received(c) <= now]


def from_lake(
    lake: Lake, clicks: Sequence[Click], keys: Sequence[str]
) -> dict[tuple[int, str], dict[str, Any]]:
    """Features by instant and key, in one query over the whole stream."""
    named = {c.key: (c.course_id, f"it's: {c.student_id}") for c in clicks}
    named[entity_key(NOBODY)] = (NOBODY["course"], NOBODY["visitor"])
    asked = [(now, key) for now in INSTANTS for key in keys]
    rows = pa.table(
        {
            "course": pa.array([named[key][0] for _, key in asked], pa.string()),
            "visitor": pa.array([named[key][1] for _, key in asked], pa.string()),
            "at": pa.array([now for now, _ in asked], TIMES),
        }
    )
    with connect() as connection:
        found = values_as_of(
            connection,
            VIEW.aggregates,
            lake.duckdb_relation_sql(VIEW.table),
            rows,
            columns=VIEW.columns,
            time="at",
        )
    assert found.num_rows == len(asked)
    late = pa.compute.greater(found["known_at"], rows["at"])
    assert not pa.compute.any(late).as_py()
    values = found.drop_columns(["feature_time", "known_at"]).to_pylist()
    return dict(zip(asked, values, strict=True))
