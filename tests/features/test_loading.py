"""The online store equals the lake's latest rows after every load, however it got there."""

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from scale_assets.features import changes
from scale_assets.features.codec import Layout, entity_key, to_micros
from scale_assets.features.loading import LoadReport, load_view, newest
from scale_assets.features.reader import OnlineReader, OnlineStoreError
from scale_assets.features.repo import SourceDeclaration, ViewDeclaration
from scale_assets.features.stores import Backend, open_backend
from scale_assets.features.writer import Value, ViewWriter
from scale_assets.lake import Lake

DAY = timedelta(days=1)
START = datetime(2013, 3, 1, tzinfo=UTC)
TIME = pa.timestamp("us", tz="UTC")
SCHEMA = pa.schema(
    [
        ("user", pa.string()),
        ("feature_time", TIME),
        ("known_at", TIME),
        ("clicks", pa.int64()),
        ("seen", TIME),
        ("names", pa.list_(pa.string())),
        ("sites", pa.list_(pa.int64())),
    ]
)
VIEW = ViewDeclaration(
    name="clicks",
    join_keys=("user",),
    columns=(
        ("clicks", "int64"),
        ("seen", "timestamp"),
        ("names", "list<string>"),
        ("sites", "list<int64>"),
    ),
    ttl=DAY,
    source=SourceDeclaration("features/clicks", "feature_time", "known_at"),
)


def table(*rows: tuple[str | None, int, int | None, int | None]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {
                "user": user,
                "feature_time": START + day * DAY,
                "known_at": None if known is None else START + known * DAY,
                "clicks": clicks,
                "seen": None if clicks is None else START + timedelta(microseconds=clicks),
                "names": [f"n{clicks}", "ü"],
                "sites": None if clicks is None else list(range(clicks)),
            }
            for user, day, known, clicks in rows
        ],
        SCHEMA,
    )


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


@pytest.fixture
def backend(address: str) -> Iterator[Backend]:
    with open_backend(address) as backend:
        yield backend


def counts(report: LoadReport) -> tuple[int, int, int]:
    return report.num_considered, report.num_written, report.num_removed


_positions = itertools.count()


def append(lake: Lake, rows: pa.Table) -> None:
    lake.append_once("features/clicks", rows, positions={"test": next(_positions)})


def test_loads_the_latest_row_of_each_entity(lake: Lake, backend: Backend) -> None:
    rows = table(("a", 1, 1, 1), ("a", 2, 2, 2), ("a", 2, 3, 3), ("b", 1, 1, None), (None, 1, 1, 9))
    version = lake.overwrite("features/clicks", rows)

    report = load_view(lake, VIEW, backend, clock=to_micros(START))

    a, b = OnlineReader(backend).read("clicks", ["a", "b"])
    assert (counts(report), report.is_full) == ((2, 2, 0), True)
    assert (report.delta_version, report.previous_version) == (version, None)
    assert a.values["clicks"] == 3
    assert (list(a.values["names"]), list(a.values["sites"])) == (["n3", "ü"], [0, 1, 2])
    assert a.values["seen"] == to_micros(START) + 3
    assert (a.feature_time, a.known_at) == (START + 2 * DAY, START + 3 * DAY)
    assert (b.is_expired, b.age) == (True, 2 * DAY)


def test_packs_what_the_codec_packs(lake: Lake, backend: Backend) -> None:
    lake.overwrite("features/clicks", table(("a", 1, 2, 3), ("b", 1, 1, None)))
    load_view(lake, VIEW, backend)

    layout = Layout(VIEW.columns)
    a, b = backend.get({"clicks": ["a", "b"]}).values["clicks"]
    at, known = to_micros(START + DAY), to_micros(START + 2 * DAY)
    values = [3, to_micros(START) + 3, ["n3", "ü"], [0, 1, 2]]
    assert a == layout.encode(values, feature_time=at, known_at=known, loaded=True)
    values = [None, None, ["nNone", "ü"], None]
    assert b == layout.encode(values, feature_time=at, known_at=at, loaded=True)


def test_reads_only_what_commits_added(lake: Lake, backend: Backend) -> None:
    append(lake, table(*[(user, 5, 5, 1) for user in "abc"]))
    load_view(lake, VIEW, backend)
    assert counts(load_view(lake, VIEW, backend)) == (0, 0, 0)

    # a is newer, b came late and is older, d is new
    append(lake, table(("a", 6, 6, 2), ("b", 1, 9, 3), ("d", 2, 9, 4)))
    report = load_view(lake, VIEW, backend)

    assert (counts(report), report.is_full) == ((3, 2, 0), False)
    assert report.previous_version == report.delta_version - 1
    assert _raw(backend, "abcd") == [(2, 6), (1, 5), (1, 5), (4, 2)]


def test_rows_that_went_give_way_to_what_is_left(lake: Lake, backend: Backend) -> None:
    """A rewritten table: a is corrected, b is as it was, c lost its newest row, d is gone."""
    append(lake, table(("c", 1, 1, 7)))
    append(lake, table(*[(user, 2, 2, 1) for user in "abcd"]))
    load_view(lake, VIEW, backend)

    lake.overwrite("features/clicks", table(("a", 2, 2, 9), ("b", 2, 2, 1), ("c", 1, 1, 7)))
    report = load_view(lake, VIEW, backend)

    assert not report.is_full
    assert (report.num_written, report.num_removed) == (2, 1)
    assert _raw(backend, "abcd") == [(9, 2), (1, 2), (7, 1), None]


def test_rows_that_do_not_say_when_they_became_known_are_left_out_and_counted(
    lake: Lake, backend: Backend
) -> None:
    append(lake, table(("a", 1, 1, 1), ("a", 2, None, 2), ("b", 1, None, 3)))
    first = load_view(lake, VIEW, backend)
    append(lake, table(("b", 2, None, 4), ("c", 1, 1, 5)))
    second = load_view(lake, VIEW, backend)

    assert (counts(first), first.num_unknown) == ((1, 1, 0), 2)
    assert (counts(second), second.num_unknown) == ((1, 1, 0), 1)
    assert _raw(backend, "abc") == [(1, 1), None, (5, 1)]


def test_one_partition_that_is_replaced(lake: Lake, backend: Backend) -> None:
    def days(*rows: tuple[str, int, int, int]) -> pa.Table:
        found = table(*rows)
        return found.append_column("day", pa.array([str(row[1]) for row in rows], pa.string()))

    lake.overwrite(
        "features/clicks",
        days(("a", 1, 1, 1), ("b", 1, 1, 1), ("a", 2, 2, 2), ("b", 2, 2, 2)),
        partition_by=["day"],
    )
    load_view(lake, VIEW, backend)
    lake.replace_partitions(
        "features/clicks", days(("a", 2, 2, 2), ("b", 2, 5, 3)), partition_by="day"
    )
    report = load_view(lake, VIEW, backend)
    assert (report.num_written, report.is_full) == (1, False)
    assert _raw(backend, "ab") == [(2, 2), (3, 2)]

    lake.replace_partitions("features/clicks", days(), partition_by="day", keys=["2"])

    assert load_view(lake, VIEW, backend).num_written == 2
    assert _raw(backend, "ab") == [(1, 1), (1, 1)]


def test_two_rows_of_one_time_are_decided_as_in_a_whole_load(lake: Lake, backend: Backend) -> None:
    """Whichever commit came first; the offline join has the same rule."""
    for first, second in ((5, 6), (6, 5)):
        lake.overwrite("features/clicks", table(("a", 1, 1, first)))
        load_view(lake, VIEW, backend)
        append(lake, table(("a", 1, 1, second)))
        load_view(lake, VIEW, backend)

        assert _raw(backend, "a") == [(6, 1)]


def test_without_the_log_everything_is_compared(lake: Lake, backend: Backend) -> None:
    append(lake, table(("a", 1, 1, 1), ("b", 1, 1, 1)))
    load_view(lake, VIEW, backend)
    lake.overwrite("features/clicks", table(("a", 1, 1, 1), ("c", 1, 1, 1)))
    for file in Path(lake.uri("features/clicks")).glob("*.parquet"):
        if str(file) not in lake.files("features/clicks"):
            file.unlink()  # as vacuum does

    report = load_view(lake, VIEW, backend)

    assert (counts(report), report.is_full) == ((2, 1, 1), True)
    assert _raw(backend, "abc") == [(1, 1), None, (1, 1)]


def test_compaction_is_no_change(lake: Lake, backend: Backend) -> None:
    append(lake, table(("a", 1, 1, 1)))
    load_view(lake, VIEW, backend)
    append(lake, table(("b", 1, 1, 1)))
    lake.open("features/clicks").optimize.compact()

    assert counts(load_view(lake, VIEW, backend)) == (1, 1, 0)

    lake.open("features/clicks").optimize.compact()
    assert counts(load_view(lake, VIEW, backend))[1:] == (0, 0)


def test_rows_that_moved_before_they_went_are_gone(lake: Lake, backend: Backend) -> None:
    append(lake, table(("a", 1, 1, 1)))
    load_view(lake, VIEW, backend)
    append(lake, table(("b", 1, 1, 1)))
    lake.open("features/clicks").optimize.compact()
    lake.open("features/clicks").delete("\"user\" = 'b'")

    load_view(lake, VIEW, backend)

    assert _raw(backend, "ab") == [(1, 1), None]


def test_pushed_values_stay_while_they_are_newer(lake: Lake, backend: Backend) -> None:
    append(lake, table(("a", 1, 1, 1), ("b", 1, 1, 1)))
    load_view(lake, VIEW, backend)
    writer = ViewWriter(backend, "clicks", Layout(VIEW.columns), ttl=DAY)
    values = {"clicks": 9, "seen": None, "names": [], "sites": []}
    at = to_micros(START + 2 * DAY)
    assert writer.write([Value(key, values, at, at) for key in ("a", "z")]) == 2

    append(lake, table(("a", 1, 5, 2), ("b", 2, 2, 2)))
    load_view(lake, VIEW, backend)
    load_view(lake, VIEW, backend, full=True)
    assert _raw(backend, "abz") == [(9, 2), (2, 2), (9, 2)]

    append(lake, table(("a", 2, 2, 3)))
    load_view(lake, VIEW, backend)
    assert _raw(backend, "a") == [(3, 2)]


def test_a_new_table_under_the_old_name_is_noticed(
    lake: Lake, backend: Backend, tmp_path: Path
) -> None:
    first = lake.overwrite("features/clicks", table(("a", 1, 1, 1)))
    load_view(lake, VIEW, backend)
    (tmp_path / "lake" / "features" / "clicks").rename(tmp_path / "gone")
    second = lake.overwrite("features/clicks", table(("a", 1, 1, 2)))

    assert first == second
    assert load_view(lake, VIEW, backend).num_written == 1


def test_a_changed_column_loads_everything_again(lake: Lake, backend: Backend) -> None:
    lake.overwrite("features/clicks", table(("a", 1, 1, 1)))
    load_view(lake, VIEW, backend)
    narrower = ViewDeclaration(VIEW.name, VIEW.join_keys, VIEW.columns[:1], None, VIEW.source)

    assert load_view(lake, narrower, backend).num_written == 1
    assert OnlineReader(backend).read("clicks", ["a"])[0].values == {"clicks": 1}


def test_a_changed_ttl_is_told_though_no_row_changed(lake: Lake, backend: Backend) -> None:
    lake.overwrite("features/clicks", table(("a", 1, 1, 1)))
    load_view(lake, VIEW, backend)
    longer = ViewDeclaration(VIEW.name, VIEW.join_keys, VIEW.columns, 9 * DAY, VIEW.source)

    assert load_view(lake, longer, backend).num_written == 0
    assert backend.views()["clicks"].ttl == 9 * DAY


def test_a_lost_store_is_filled_again(lake: Lake, backend: Backend) -> None:
    append(lake, table(*[(f"u{i}", 1, 1, i) for i in range(100)]))
    load_view(lake, VIEW, backend)
    for keys in list(backend.keys("clicks")):
        backend.forget("clicks", keys)

    report = load_view(lake, VIEW, backend, full=True)

    assert (counts(report), report.is_full) == ((100, 100, 0), True)


def test_many_that_the_lake_has_no_more_are_sought_in_few_joins(
    lake: Lake, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stores tell their keys by the thousand, and each join reads every part."""
    lake.overwrite("features/clicks", table(*[(f"u{i}", 1, 1, 1) for i in range(5_000)]))
    load_view(lake, VIEW, backend)
    lake.overwrite("features/clicks", table(*[(f"u{i}", 1, 1, 1) for i in range(4_000, 5_000)]))
    monkeypatch.setattr(changes, "JOIN_KEYS", 2_000)
    joins: list[str] = []
    batches = changes.Changes._batches
    monkeypatch.setattr(
        changes.Changes, "_batches", lambda self, q: joins.append(q) or batches(self, q)
    )

    report = load_view(lake, VIEW, backend, full=True)

    assert report.num_removed == 4_000
    assert sorted(key for keys in backend.keys("clicks") for key in keys) == sorted(
        f"u{i}" for i in range(4_000, 5_000)
    )
    assert len(joins) <= 3


def test_parts_are_written_side_by_side(
    lake: Lake, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(changes, "PART_ROWS", 300)
    append(lake, table(*[(f"u{i}", 1, 1, i % 7) for i in range(2_000)]))
    told: list[tuple[int, int]] = []

    report = load_view(lake, VIEW, backend, on_part=lambda *part: told.append(part))

    assert (counts(report), report.num_parts) == ((2_000, 2_000, 0), 7)
    assert told == [(done, 7) for done in range(1, 8)]
    assert _raw(backend, [f"u{i}" for i in range(2_000)]) == [(i % 7, 1) for i in range(2_000)]


def test_the_clock_is_the_worlds(lake: Lake, backend: Backend) -> None:
    lake.overwrite("features/clicks", table(("a", 1, 1, 1)))
    load_view(lake, VIEW, backend, clock=to_micros(START + 30 * DAY))

    assert OnlineReader(backend).clock() == START + 30 * DAY

    load_view(lake, VIEW, backend, clock=to_micros(START + 31 * DAY))
    assert OnlineReader(backend).clock() == START + 31 * DAY  # though no row changed
    assert OnlineReader(backend).newest_feature_time("clicks") == START + DAY
    assert newest(lake, "features/clicks", "known_at") == START + DAY


def test_an_empty_table_has_no_clock(lake: Lake, backend: Backend) -> None:
    lake.overwrite("features/clicks", table())

    assert load_view(lake, VIEW, backend).num_considered == 0
    assert OnlineReader(backend).clock() is None
    with pytest.raises(OnlineStoreError, match="features/clicks"):
        newest(lake, "features/clicks", "known_at")


def test_several_join_keys(lake: Lake, backend: Backend) -> None:
    rows = table(("a\x1f", 1, 1, 1), ("a\\", 1, 1, 2))
    lake.overwrite("features/clicks", rows.append_column("shop", pa.array([7, 7])))
    view = ViewDeclaration("clicks", ("user", "shop"), VIEW.columns[:1], None, VIEW.source)
    load_view(lake, view, backend)

    keys = [entity_key({"user": user, "shop": 7}) for user in ("a\x1f", "a\\")]
    assert [row.values["clicks"] for row in OnlineReader(backend).read("clicks", keys)] == [1, 2]


def _raw(backend: Backend, keys: Any) -> list[tuple[int, int] | None]:
    """Clicks and day of each value, expired or not."""
    layout = Layout(VIEW.columns)
    found = []
    for data in backend.get({"clicks": list(keys)}).values["clicks"]:
        row = None if data is None else layout.decode(data)
        found.append(row and (row.values["clicks"], (row.feature_time - START).days))
    return found
