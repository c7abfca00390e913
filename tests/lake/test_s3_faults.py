"""A store that fails at any point of a commit: the rows are there exactly once."""

import numpy as np
import pyarrow as pa
import pytest

from scale_assets.lake import Lake
from tests.lake.store import POINTS, Fault, Faults

pytestmark = [pytest.mark.fault, pytest.mark.slow]
NUM_ROWS = 800_000  # of random numbers: more than one part of 5 MiB
REPEATS = 7


def rows() -> pa.Table:
    return pa.table({"n": np.random.default_rng(0).integers(1 << 62, size=NUM_ROWS)})


@pytest.mark.parametrize("kind", ["429", "500", "timeout", "lost"])
@pytest.mark.parametrize("point", POINTS)
def test_every_row_is_there_once(
    faulty_lake: Lake, s3_lake: Lake, faults: Faults, point: str, kind: str
) -> None:
    for number in range(REPEATS):
        table = f"appended_{number}"
        s3_lake.create(table, rows().schema)
        with faults.injected(Fault(point, kind, times=1 + number % 2)) as fault:
            faulty_lake.append_once(table, rows(), positions={"feed": 1})
        is_told_by_the_log = (point, kind) == ("commit", "lost")
        assert fault.hit == (1 if is_told_by_the_log else fault.times)
        assert s3_lake.read(table).equals(rows())
        assert s3_lake.position(table, "feed") == 1
        assert s3_lake.version(table) == 1


@pytest.mark.parametrize("kind", ["429", "500", "timeout", "lost"])
def test_a_replaced_table_holds_its_rows_once(
    faulty_lake: Lake, s3_lake: Lake, faults: Faults, kind: str
) -> None:
    few = rows().slice(0, 5)
    s3_lake.overwrite("replaced", few)
    with faults.injected(Fault("commit", kind)) as fault:
        faulty_lake.overwrite("replaced", few)
    assert fault.hit == 1
    assert s3_lake.read("replaced").equals(few)
    assert s3_lake.version("replaced") == 2


@pytest.mark.parametrize("kind", ["429", "500", "timeout", "lost"])
def test_a_merge_is_in_the_table_once(
    faulty_lake: Lake, s3_lake: Lake, faults: Faults, kind: str
) -> None:
    s3_lake.upsert("merged", pa.table({"k": [1, 2], "v": ["a", "b"]}), keys=["k"])
    before = s3_lake.version("merged")
    with faults.injected(Fault("commit", kind)) as fault:
        faulty_lake.upsert("merged", pa.table({"k": [2, 3], "v": ["B", "c"]}), keys=["k"])
    assert fault.hit == 1
    found = sorted(s3_lake.read("merged").to_pylist(), key=lambda row: row["k"])
    assert [row["v"] for row in found] == ["a", "B", "c"]
    assert s3_lake.version("merged") == before + 1
