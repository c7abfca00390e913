"""Rows replaced by rows: whole or not at all, and nothing else of the table is lost."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from scale_assets.lake import ConcurrentCommit, Lake
from scale_assets.lake.rewrite import rewrite
from tests.lake.test_lake import SECOND, events

UNDATED = pa.table({"id": [9], "event_date": pa.array([None], pa.date32())})


@pytest.fixture
def lake(tmp_path) -> Lake:
    lake = Lake(tmp_path / "lake")
    for number, rows in enumerate([events(1, 2), events(3, 4, day=SECOND), UNDATED], 1):
        lake.append_once(
            "raw/x",
            rows,
            positions={"s": number},
            partition_by=["event_date"],
            metadata={"batch": number},
        )
    return lake


def without(*ids: int):
    return lambda rows: rows.filter(pc.invert(pc.is_in(rows["id"], value_set=pa.array(ids))))


def ids(lake: Lake) -> list[int]:
    return sorted(lake.read("raw/x")["id"].to_pylist())


@pytest.mark.parametrize(
    ("partitions", "gone", "left"),
    [
        (["2013-01-01"], [1], [2, 3, 4, 9]),
        (["2013-01-01"], [1, 3], [2, 3, 4, 9]),  # 3 is elsewhere, so it was not looked at
        (["2013-01-01", "2013-01-02"], [1, 2, 3], [4, 9]),
        ([None], [9], [1, 2, 3, 4]),
        ([None, "2013-01-02"], [3, 9], [1, 2, 4]),
        (None, [1, 9], [2, 3, 4]),
        (None, [1, 2, 3, 4, 9], []),
    ],
)
def test_only_the_named_partitions_are_rewritten(
    lake: Lake, partitions: list[str | None] | None, gone: list[int], left: list[int]
) -> None:
    files = set(lake.files("raw/x"))

    rewrite(lake.open("raw/x"), without(*gone), partitions=partitions)

    assert ids(lake) == left
    kept = {file for file in files if "2013-01-02" in file} & set(lake.files("raw/x"))
    assert bool(kept) == (partitions in (["2013-01-01"], [None]))


def test_positions_and_what_the_last_commit_said_stay(lake: Lake) -> None:
    rewrite(lake.open("raw/x"), without(1), partitions=["2013-01-01"], positions={"t": 7})

    assert (lake.position("raw/x", "s"), lake.position("raw/x", "t")) == (3, 7)
    assert lake.last_metadata("raw/x") == {"batch": 3}


def test_a_stale_handle_rewrites_nothing(lake: Lake) -> None:
    stale = lake.open("raw/x")
    lake.append_once("raw/x", events(5), positions={"s": 4}, partition_by=["event_date"])

    with pytest.raises(ConcurrentCommit):
        rewrite(stale, without(1))
    assert ids(lake) == [1, 2, 3, 4, 5, 9]


def test_an_emptied_partition_counts_as_changed(lake: Lake) -> None:
    version = lake.version("raw/x")
    rewrite(lake.open("raw/x"), without(1, 2), partitions=["2013-01-01"])

    assert lake.partitions_changed_since("raw/x", version) == [{"event_date": "2013-01-01"}]
    assert lake.rows_per_partition("raw/x", "event_date") == {str(SECOND): 2, None: 1}
