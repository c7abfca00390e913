"""Each commit is counted once, whoever counts it, and however often somebody died on the way."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scale_assets.features.asof import connect
from scale_assets.features.reader import OnlineReader
from scale_assets.features.stores import Backend, Found, open_backend
from scale_assets.features.streaming import updater as updater_module
from scale_assets.features.streaming.aggregates import Aggregates
from scale_assets.features.streaming.recompute import values_as_of
from scale_assets.features.streaming.updater import Updater, UpdateReport
from scale_assets.lake import Lake
from scale_assets.lake.history import FileChanges, changes_of_commits_after
from tests.features.streaming.stream import (
    HOUR_US,
    TIMES,
    VIEW,
    Click,
    Died,
    Dying,
    append,
    expected,
    stored,
)

NOW = 400_000 * HOUR_US
CLICKS = st.builds(
    Click,
    course_id=st.sampled_from(["A", "B\x1fC", "B\\uC", None]),
    student_id=st.integers(1, 3),
    at=st.integers(NOW - 9 * 24 * HOUR_US, NOW - HOUR_US // 2),
    delay=st.integers(0, HOUR_US // 2),
    clicks=st.one_of(st.none(), st.integers(0, 9)),
    site=st.one_of(st.none(), st.integers(1, 4)),
)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    address = {"redis": "empty_redis", "cluster": "empty_cluster"}.get(request.param)
    found = request.getfixturevalue(address) if address else tmp_path / "online.db"
    with open_backend(found) as opened:
        yield opened


def updater(lake: Lake, backend: Any) -> Updater:
    return Updater(lake.open(VIEW.table), VIEW, backend)


def keys(backend: Backend) -> set[str]:
    return {key for batch in backend.keys(VIEW.name) for key in batch}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.lists(CLICKS, max_size=8), min_size=1, max_size=4),
    st.lists(st.integers(0, 12), max_size=6),
)
def test_states_equal_the_events_after_any_deaths(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[Click]], deaths: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("world")
    lake = Lake(folder / "lake")
    with open_backend(folder / "online.db") as backend:
        store = Dying(backend)
        for number, batch in enumerate(batches):
            append(lake, batch, number=number + 1)
            for store.dies_in in deaths[number::2]:
                try:
                    updater(lake, store).catch_up()
                except Died:
                    continue
            if number % 2:  # else two commits are counted in one pass
                store.dies_in = None
                updater(lake, store).catch_up()
        store.dies_in = None
        updater(lake, store).catch_up()

        every = [click for batch in batches for click in batch]
        found = expected(every, NOW)
        assert stored(backend, [*found, "nobody"], NOW) == found
        assert keys(backend) == set(found)
        clock = max((c.at + c.delay for c in every if c.course_id is not None), default=0)
        assert backend.get({}).clock == clock


def test_two_at_once_do_the_same_work_not_more(lake: Lake, backend: Backend) -> None:
    append(lake, [Click("A", 1, NOW - HOUR_US)], number=1)
    updater(lake, backend).catch_up()
    clicks = [Click("A", 1, NOW - n) for n in range(3)]

    class Overtaken(Dying):
        """After its first read, somebody else counts this commit and the next."""

        is_overtaken = False

        def get(self, requests: Mapping[str, Sequence[str]]) -> Found:
            found = backend.get(requests)
            if requests and not self.is_overtaken:
                self.is_overtaken = True
                append(lake, clicks[1:], number=3)
                updater(lake, backend).catch_up()
            return found

    append(lake, clicks[:1], number=2)
    slow = updater(lake, Overtaken(backend))
    slow.catch_up()
    slow.catch_up()

    every = [Click("A", 1, NOW - HOUR_US), *clicks]
    assert stored(backend, [every[0].key], NOW) == expected(every, NOW)


def test_the_lake_gives_the_same_values(lake: Lake) -> None:
    clicks = [Click("A", 1, NOW - n * HOUR_US, site=n) for n in range(4)]
    append(lake, clicks, number=1)
    entities = pa.table(
        {"course": ["A", "A"], "visitor": ["it's: 1", "it's: 2"], "at": pa.array([NOW] * 2, TIMES)}
    )
    events = lake.duckdb_relation_sql(VIEW.table)
    with connect() as connection:
        found = values_as_of(
            connection, VIEW.aggregates, events, entities, columns=VIEW.columns, time="at"
        ).to_pylist()
    times = {name: found[0].pop(name).timestamp() for name in ("feature_time", "known_at")}
    assert found[0] == expected(clicks, NOW)[clicks[0].key]
    assert times == {"feature_time": NOW / 10**6, "known_at": NOW / 10**6}
    assert found[1] == dict.fromkeys(found[1])  # of nobody there is nothing online either


def test_an_event_without_a_time_counts_on_neither_side(lake: Lake, backend: Backend) -> None:
    append(lake, [Click("A", 1, NOW - HOUR_US)], number=1)
    times = {name: pa.array([None], TIMES) for name in ("event_time", "received_at")}
    for number, name in enumerate(times, start=2):
        row = lake.read(VIEW.table).slice(0, 1)
        row = row.set_column(row.column_names.index(name), name, times[name])
        partitions = ["event_date", "course_id"]
        lake.append_once(VIEW.table, row, positions={"s": number}, partition_by=partitions)
    updater(lake, backend).catch_up()
    entities = pa.table({"course": ["A"], "visitor": ["it's: 1"], "at": pa.array([NOW], TIMES)})
    with connect() as connection:
        (found,) = values_as_of(
            connection,
            VIEW.aggregates,
            lake.duckdb_relation_sql(VIEW.table),
            entities,
            columns=VIEW.columns,
            time="at",
        ).to_pylist()

    (online,) = stored(backend, [Click("A", 1, NOW).key], NOW).values()
    assert online["events_7d"] == 1
    assert {name: found[name] for name in online} == online


def test_a_second_pass_finds_nothing_to_do(lake: Lake, backend: Backend) -> None:
    append(lake, [Click("A", 1, NOW)], number=1)
    first, second = updater(lake, backend).catch_up(), updater(lake, backend).catch_up()
    assert (first.rebuilt is not None, first.num_events) == (True, 1)
    assert (second.rebuilt, second.num_events, second.num_states) == (None, 0, 0)


def test_rows_that_were_erased_are_gone_from_the_states(lake: Lake, backend: Backend) -> None:
    clicks = [Click("A", 1, NOW), Click("A", 2, NOW)]
    append(lake, clicks, number=1)
    updater(lake, backend).catch_up()
    lake.open(VIEW.table).delete("student_id = 2")

    report = updater(lake, backend).catch_up()

    assert report.rebuilt == "rows were rewritten or removed"
    assert keys(backend) == {clicks[0].key}


def test_compaction_counts_nothing_again(lake: Lake, backend: Backend) -> None:
    clicks = [Click("A", 1, NOW), Click("A", 1, NOW)]
    for number, click in enumerate(clicks, start=1):
        append(lake, [click], number=number)
    updater(lake, backend).catch_up()
    lake.open(VIEW.table).optimize.compact()

    report = updater(lake, backend).catch_up()

    assert (report.rebuilt, report.num_events) == (None, 0)
    assert stored(backend, [clicks[0].key], NOW) == expected(clicks, NOW)


def test_states_of_an_older_layout_are_made_anew_and_read_meanwhile(
    lake: Lake, backend: Backend
) -> None:
    clicks = [Click("A", student, NOW) for student in (1, 2)]
    append(lake, clicks[:1], number=1)
    fewer = Aggregates(VIEW.aggregates.features[1:])
    old = Updater(lake.open(VIEW.table), replace(VIEW, aggregates=fewer), backend)
    old.catch_up()

    assert updater(lake, backend).catch_up().rebuilt == "the view has no states of this layout yet"
    assert stored(backend, [clicks[0].key], NOW) == expected(clicks[:1], NOW)

    append(lake, clicks[1:], number=2)  # a process that was not restarted counts it
    old._count(lake.version(VIEW.table), _last_changes(lake), UpdateReport(version=0))
    (found,) = stored(backend, [clicks[1].key], NOW).values()
    assert found == expected(clicks[1:], NOW)[clicks[1].key] | {"clicks_1h": None}

    append(lake, clicks[1:], number=3)
    updater(lake, backend).catch_up()
    every = [*clicks, clicks[1]]
    assert stored(backend, [each.key for each in clicks], NOW) == expected(every, NOW)


def test_numbers_of_many_entities_are_one_array(lake: Lake, backend: Backend) -> None:
    append(lake, [Click("A", 1, NOW, site=7), Click("A", 1, NOW)], number=1)
    updater(lake, backend).catch_up()
    found = OnlineReader(backend).read_matrix(
        VIEW.name, ["nobody", Click("A", 1, NOW).key], ["events_7d", "seconds_since_last"]
    )
    np.testing.assert_array_equal(found.values_NC, [[np.nan, np.nan], [2, 0]])
    assert found.feature_time_us_N.tolist() == [-1, NOW]


def test_a_rebuild_in_parts_is_the_same(
    lake: Lake, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    clicks = [Click("A", student, NOW - student) for student in range(200)]
    append(lake, clicks, number=1)
    monkeypatch.setattr(updater_module, "STATES_IN_MEMORY_BYTES", 50_000)
    monkeypatch.setattr(updater_module, "BATCH_ROWS", 30)
    report = updater(lake, backend).catch_up()
    assert report.num_events == report.num_states == 200
    assert stored(backend, list(keys(backend)), NOW) == expected(clicks, NOW)


def _last_changes(lake: Lake) -> FileChanges:
    handle = lake.open(VIEW.table)
    changes = changes_of_commits_after(handle, handle.version() - 1)
    assert changes is not None
    return changes[handle.version()]
