"""Every row goes to its own partition's file."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from scale_assets.lake.parquet_files import partition_text, split_by_partition

DAYS = st.one_of(st.none(), st.dates())


@settings(deadline=None)
@given(st.lists(st.tuples(DAYS, st.sampled_from(["A", "B\x1fC", "", None])), min_size=1))
def test_rows_are_split_by_all_their_partition_columns(
    keys: list[tuple[object, str | None]],
) -> None:
    table = pa.table(
        {
            "day": pa.array([day for day, _ in keys], pa.date32()),
            "course": pa.array([course for _, course in keys], pa.string()),
            "row": range(len(keys)),
        }
    )

    parts = list(split_by_partition(table, ["day", "course"]))

    found = [(values, row) for values, rows in parts for row in rows["row"].to_pylist()]
    assert sorted(row for _, row in found) == list(range(len(keys)))
    for values, row in found:
        day, course = keys[row]
        assert values == {"day": partition_text(day), "course": course}
    assert all(rows["row"].to_pylist() == sorted(rows["row"].to_pylist()) for _, rows in parts)
    assert len({tuple(values.items()) for values, _ in parts}) == len(parts)


def test_many_sparse_days_keep_their_rows() -> None:
    """A group_by gave these groups in another order than they were in, and rows went astray."""
    days = np.random.default_rng(0).integers(15_000, 18_000, 300).astype(np.int32)
    table = pa.table({"day": pa.array(days).cast(pa.date32()), "number": days})
    for values, rows in split_by_partition(table, ["day"]):
        (day,) = pa.array([values["day"]]).cast(pa.date32()).cast(pa.int32()).to_pylist()
        assert set(rows["number"].to_pylist()) == {day}
