"""Several writers that find no table, or an older schema, at the same moment."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake.exceptions import CommitFailedError

from scale_assets.lake import ConcurrentCommit, Lake
from scale_assets.lake.creation import created, grown
from scale_assets.lake.places import LocalFolder

NARROW = pa.schema([("id", pa.int64())])
WIDE = pa.schema([("id", pa.int64()), ("note", pa.string())])


def test_many_creators_all_get_the_table(tmp_path: Path) -> None:
    for attempt in range(10):
        lake = Lake(tmp_path / str(attempt))
        with ThreadPoolExecutor(8) as pool:
            handles = list(pool.map(lake.create, ["raw/x"] * 8, [NARROW] * 8))

        assert {handle.version() for handle in handles} == {0}


def test_many_writers_grow_the_schema_once(tmp_path: Path) -> None:
    for attempt in range(5):
        lake = Lake(tmp_path / str(attempt))
        lake.create("raw/x", NARROW)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lake.create, ["raw/x"] * 8, [WIDE] * 8))

        assert lake.schema("raw/x").names == ["id", "note"]
        assert lake.open("raw/x").version() == 1


def test_a_lost_race_says_that_it_can_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def conflicting(*_: object, **__: object) -> None:
        raise CommitFailedError("protocol changed")

    handle = created(LocalFolder(str(tmp_path)), "x", schema=NARROW, partition_by=())
    monkeypatch.setattr("deltalake.table.TableAlterer.add_columns", conflicting)
    with pytest.raises(ConcurrentCommit, match="raw/x"):
        grown(handle, "raw/x", schema=WIDE)
    monkeypatch.setattr("deltalake.DeltaTable.create", conflicting)
    with pytest.raises(ConcurrentCommit, match="another writer"):
        created(LocalFolder(str(tmp_path)), "y", schema=NARROW, partition_by=())
