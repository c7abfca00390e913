"""The join stays within the memory it is given: what exceeds it goes to disk."""

from pathlib import Path

import duckdb
import pytest

from scale_assets.features import asof
from scale_assets.features.asof import AsOfView, connect, store_join

NUM_ROWS, NUM_ENTITIES = 600_000, 200_000
LIMIT = "96MB"


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wider than the limit: 600,000 rows of 200 bytes and more."""
    path = tmp_path_factory.mktemp("history") / "history.parquet"
    with connect() as connection:
        connection.execute(
            f"copy (select hash(i) % {NUM_ENTITIES} as k, timestamptz '2020-01-01' + to_seconds(i) as ft,"
            " timestamptz '2020-01-01' + to_seconds(i + (i % 5 = 0)::int * 1000) as ka,"
            f" repeat(md5(i::varchar), 6) as x from range({NUM_ROWS}) as r(i)) to"
            f" '{path}' (format parquet, row_group_size 50000)"
        )
    return path


def _join(connection: duckdb.DuckDBPyConnection, history: Path, target: Path) -> None:
    view = AsOfView(
        "v", f"from '{history}'", (("k", "k"),), (("x", "x"), ("ft", "ft")), "ft", "ka", None
    )
    entities = (
        "select i::ubigint as k, timestamptz '2020-01-01' + to_seconds(500000) as t"
        f" from range({NUM_ENTITIES}) as r(i)"
    )
    query = store_join(connection, entities, [view], time="t")
    connection.execute(f"copy ({query}) to '{target}' (format parquet)")


@pytest.mark.parametrize("few", [-1, 1 << 60], ids=["by order", "by hash"])
def test_a_join_larger_than_its_memory_spills(
    few: int, history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asof, "FEW_ROWS_PER_ENTITY", few)
    for name, limit in (("capped", LIMIT), ("free", None)):
        spill = tmp_path / f"spill-{name}"
        with connect(memory_limit=limit, temp_folder=str(spill)) as connection:
            _join(connection, history, tmp_path / f"{name}.parquet")

    with connect() as connection:
        capped, free = (f"(from '{tmp_path / name}.parquet')" for name in ("capped", "free"))
        ((num_rows, num_found, num_different),) = connection.execute(
            "select count(*), count(c.x), count(*) filter (c.x is distinct from f.x)"
            f" from {capped} as c positional join {free} as f"
        ).fetchall()
    assert (num_rows, num_different) == (NUM_ENTITIES, 0)
    assert num_found > NUM_ENTITIES / 2


def test_the_limit_is_one(history: Path, tmp_path: Path) -> None:
    """The same without a place to spill to does not fit, so that the limit does bite."""
    with connect(memory_limit=LIMIT) as connection:
        connection.execute("set temp_directory = ''")
        with pytest.raises(duckdb.OutOfMemoryException):
            _join(connection, history, tmp_path / "never")
