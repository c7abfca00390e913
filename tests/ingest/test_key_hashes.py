"""Duplicates are found exactly, whatever the hashes do, and a file's keys are read once."""

from collections import defaultdict
from datetime import date, timedelta
from itertools import count
from pathlib import Path

import hypothesis.strategies as st
import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable
from hypothesis import HealthCheck, example, given, settings

from scale_assets.ingest import key_hashes
from scale_assets.ingest.dedup import KeyDeduplicator
from scale_assets.ingest.key_hashes import KeyHashes
from scale_assets.lake import Lake
from scale_assets.lake.commits import append, at_newest

SCHEMA = pa.schema([("user", pa.string()), ("item", pa.int64()), ("event_date", pa.date32())])
FIRST = date(2013, 1, 1)
HORIZON = 3
TABLES = count()

Row = tuple[str | None, int | None, int]
ROWS = st.tuples(st.sampled_from("abc"), st.sampled_from([1, 2]), st.integers(0, 12))


def table_of(rows: list[Row]) -> pa.Table:
    users, items, days = zip(*rows, strict=True) if rows else ((), (), ())
    dates = [FIRST + timedelta(days=day) for day in days]
    return pa.table([users, items, dates], schema=SCHEMA)


def new_table(folder: Path) -> DeltaTable:
    return Lake(str(folder)).create(f"t{next(TABLES)}", SCHEMA, partition_by=["event_date"])


def kept_one_by_one(rows: list[Row]) -> list[Row]:
    taken = defaultdict(list)
    kept = []
    for user, item, day in rows:
        if all(abs(day - other) > HORIZON for other in taken[user, item]):
            taken[user, item].append(day)
            kept.append((user, item, day))
    return kept


def taken_in(table: DeltaTable, deduplicate: KeyDeduplicator, rows: list[Row]) -> list[Row]:
    new = deduplicate(table_of(rows), table)
    append(table, new, positions={})
    days = [(day - FIRST).days for day in new["event_date"].to_pylist()]
    return list(zip(new["user"].to_pylist(), new["item"].to_pylist(), days, strict=True))


@pytest.fixture(params=["64 bits", "2 values"])
def hashing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are, and so bad that different keys meet all the time."""
    if request.param == "2 values":
        good = KeyHashes.hash_keys
        monkeypatch.setattr(KeyHashes, "hash_keys", lambda *args: good(*args) % np.uint64(2))


@pytest.mark.usefixtures("hashing")
@pytest.mark.parametrize("max_hashes", [0, 5, 10_000])
@given(batches=st.lists(st.lists(ROWS, max_size=8), max_size=5))
@example(batches=[[("a", 1, 0)], [("a", 1, 5)], [("a", 1, 10)]])
@settings(
    deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_batches_keep_what_one_by_one_keeps(
    tmp_path: Path, max_hashes: int, batches: list[list[Row]]
) -> None:
    deduplicate = KeyDeduplicator(["user", "item"], "event_date", HORIZON)
    deduplicate.known.max_hashes = max_hashes
    table = new_table(tmp_path)

    kept = [row for batch in batches for row in taken_in(table, deduplicate, batch)]

    assert kept == kept_one_by_one([row for batch in batches for row in batch])


def test_what_another_writer_added_is_seen(tmp_path: Path) -> None:
    deduplicate = KeyDeduplicator(["user", "item"], "event_date", HORIZON)
    table = new_table(tmp_path)
    taken_in(table, deduplicate, [("a", 1, 0)])
    append(DeltaTable(table.table_uri), table_of([("b", 1, 0)]), positions={})

    kept = taken_in(at_newest(table), deduplicate, [("a", 1, 0), ("b", 1, 0), ("c", 1, 0)])

    assert kept == [("c", 1, 0)]


def test_files_that_were_joined_are_read_again(tmp_path: Path) -> None:
    deduplicate = KeyDeduplicator(["user", "item"], "event_date", HORIZON)
    table = new_table(tmp_path)
    for user in "ab":
        taken_in(table, deduplicate, [(user, 1, 0)])
    table.optimize.compact()

    assert taken_in(table, deduplicate, [("a", 1, 1), ("b", 1, 4), ("d", 1, 0)]) == [
        ("b", 1, 4),
        ("d", 1, 0),
    ]


def test_a_key_of_one_null_repeats_nothing(tmp_path: Path) -> None:
    deduplicate = KeyDeduplicator(["user"], "event_date", HORIZON)
    table = new_table(tmp_path)

    kept = [taken_in(table, deduplicate, [(None, 1, 0), (None, 2, 0)]) for _ in range(2)]

    assert [len(each) for each in kept] == [2, 2]


def test_keys_are_read_once_while_there_is_room_and_not_kept_beyond(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = []
    keys_in = key_hashes._keys_in
    monkeypatch.setattr(
        key_hashes, "_keys_in", lambda table, uri, key: read.append(uri) or keys_in(table, uri, key)
    )
    deduplicate = KeyDeduplicator(["user", "item"], "event_date", HORIZON)
    table = new_table(tmp_path)
    for number in range(10):
        taken_in(table, deduplicate, [("a", number, 0)])
    assert len(read) == 9  # each of the first nine files, by the batch after it

    deduplicate.known.max_hashes = 9
    read.clear()
    for number in range(10, 12):
        taken_in(table, deduplicate, [("a", number, 0)])
    assert len(read) == 1 + 2  # only those that do not fit
    read.clear()
    taken_in(table, deduplicate, [("a", 1, 9), ("a", 3, 9)])
    assert read == []  # that day reaches none of them
