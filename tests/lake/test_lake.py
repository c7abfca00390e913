"""Whole commits, each once: what a reader may see, and what a second writer may do."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scale_assets.lake import ConcurrentCommit, Lake, LakeError, MissingTable
from scale_assets.lake.commits import append, commit_files
from scale_assets.lake.files import paths_here
from scale_assets.lake.fit import arrow_schema
from scale_assets.lake.history import changes_of_commits_after
from scale_assets.lake.parquet_files import write_files
from scale_assets.lake.snapshots import snapshot_dataset
from scale_assets.lake.transactions import transactions

FIRST, SECOND, THIRD = date(2013, 1, 1), date(2013, 1, 2), date(2013, 1, 3)
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("tags", pa.list_(pa.string())),
        ("event_date", pa.date32()),
    ]
)


def events(*ids: int, day: date = FIRST) -> pa.Table:
    at = datetime(day.year, day.month, day.day, 0, 0, 0, 123456, tzinfo=UTC)
    rows = [{"id": n, "at": at, "tags": ["a", None], "event_date": day} for n in ids]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(tmp_path / "lake")


def ids(lake: Lake, table: str = "raw/x") -> list[int]:
    return sorted(lake.read(table, columns=["id"])["id"].to_pylist())


def test_the_same_position_is_appended_once(lake: Lake) -> None:
    for _ in range(3):
        lake.append_once("raw/x", events(1, 2), positions={"s": 2}, partition_by=["event_date"])

    assert ids(lake) == [1, 2]
    assert lake.position("raw/x", "s") == 2
    assert lake.num_rows("raw/x") == 2


def test_an_append_without_rows_still_brings_the_position(lake: Lake) -> None:
    lake.append_once("raw/x", events(), positions={"s": 7}, partition_by=["event_date"])

    assert lake.position("raw/x", "s") == 7
    assert lake.duckdb_relation_sql("raw/x")
    assert duckdb.sql(lake.duckdb_relation_sql("raw/x")).fetchall() == []


def test_positions_survive_a_checkpoint(lake: Lake) -> None:
    lake.append_once("raw/x", events(1), positions={"s": 2**63 - 1}, partition_by=["event_date"])
    lake.open("raw/x").create_checkpoint()
    Path(lake.uri("raw/x"), "_delta_log", f"{0:020}.json").unlink()
    Path(lake.uri("raw/x"), "_delta_log", f"{1:020}.json").unlink()

    assert lake.position("raw/x", "s") == 2**63 - 1


def test_a_stale_handle_cannot_commit(lake: Lake) -> None:
    stale = lake.create("raw/x", SCHEMA, partition_by=["event_date"])
    lake.append_once("raw/x", events(1), positions={"s": 1}, partition_by=["event_date"])

    with pytest.raises(ConcurrentCommit):
        append(stale, events(1), positions={"s": 1})
    assert ids(lake) == [1]


def test_two_overwrites_from_one_snapshot_do_not_both_stay(lake: Lake) -> None:
    lake.overwrite("y", events(1))
    stale = lake.open("y")
    lake.overwrite("y", events(2))
    schema = arrow_schema(stale)
    files = write_files(lake.uri("y"), events(3), partition_by=[], schema=schema)

    with pytest.raises(ConcurrentCommit):
        commit_files(stale, files, schema=schema, partition_by=[], mode="overwrite")
    assert ids(lake, "y") == [2]


def test_writers_at_once_store_each_batch_once(lake: Lake) -> None:
    def write(_: int) -> None:
        for number in range(1, 6):
            lake.append_once(
                "raw/x", events(number), positions={"s": number}, partition_by=["event_date"]
            )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))

    assert ids(lake) == [1, 2, 3, 4, 5]


def test_files_of_a_writer_that_died_are_harmless(lake: Lake) -> None:
    lake.append_once("raw/x", events(1), positions={"s": 1}, partition_by=["event_date"])
    write_files(lake.uri("raw/x"), events(9), partition_by=["event_date"], schema=SCHEMA)

    assert ids(lake) == [1]
    assert duckdb.sql(lake.duckdb_relation_sql("raw/x")).fetchall()[0][0] == 1
    lake.append_once("raw/x", events(2), positions={"s": 2}, partition_by=["event_date"])
    assert ids(lake) == [1, 2]


def test_replacing_partitions_touches_only_those_and_empties_named_ones(lake: Lake) -> None:
    both = pa.concat_tables([events(1), events(2, day=SECOND), events(3, day=THIRD)])
    lake.overwrite("z", both, partition_by=["event_date"])

    lake.replace_partitions("z", events(10), partition_by="event_date", keys=[FIRST, SECOND])

    assert ids(lake, "z") == [3, 10]
    assert lake.rows_per_partition("z", "event_date") == {"2013-01-01": 1, "2013-01-03": 1}


def stage(folder: Path, *tables: pa.Table) -> Path:
    for number, table in enumerate(tables):
        day = table["event_date"][0].as_py()
        target = folder / f"event_date={day}" / f"part-{number}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.drop_columns(["event_date"]), target)
    (folder / "_SUCCESS").touch()
    return folder


def test_published_parquet_replaces_exactly_the_named_partitions(
    lake: Lake, tmp_path: Path
) -> None:
    both = pa.concat_tables([events(1), events(2, day=SECOND), events(3, day=THIRD)])
    lake.overwrite("z", both, partition_by=["event_date"])
    staged = stage(tmp_path / "staged", events(20, 21, day=SECOND))
    before = lake.version("z")

    version = lake.publish_parquet(
        "z",
        staged,
        schema=SCHEMA,
        partition_by=["event_date"],
        replace=[("event_date", ">=", "2013-01-01"), ("event_date", "<", "2013-01-03")],
    )

    assert version == before + 1
    assert ids(lake, "z") == [3, 20, 21]
    assert ids_at(lake, before) == [1, 2, 3]


def ids_at(lake: Lake, version: int) -> list[int]:
    return sorted(lake.read("z", version=version)["id"].to_pylist())


def test_staged_files_outside_the_replaced_partitions_are_refused(
    lake: Lake, tmp_path: Path
) -> None:
    staged = stage(tmp_path / "staged", events(1, day=THIRD))
    with pytest.raises(LakeError, match="event_date=2013-01-03, outside"):
        lake.publish_parquet(
            "z",
            staged,
            schema=SCHEMA,
            partition_by=["event_date"],
            replace=[("event_date", "=", "2013-01-01")],
        )
    assert lake.num_rows("z") == 0


def test_staged_files_of_another_schema_are_refused(lake: Lake, tmp_path: Path) -> None:
    table = events(1).drop_columns(["at"])
    staged = stage(tmp_path / "staged", table)
    with pytest.raises(LakeError, match="at: staged None, table timestamp"):
        lake.publish_parquet("z", staged, schema=SCHEMA, partition_by=["event_date"])


def test_statistics_are_per_file_and_exact_to_the_microsecond(lake: Lake) -> None:
    lake.overwrite("z", events(5, 7), partition_by=["event_date"])

    added = pa.table(lake.open("z").get_add_actions(flatten=True)).to_pylist()[0]

    assert (added["min.id"], added["max.id"], added["num_records"]) == (5, 7, 2)
    assert added["max.at"] == datetime(2013, 1, 1, 0, 0, 0, 123456, tzinfo=UTC)
    assert added["null_count.id"] == 0


def test_duckdb_sees_one_snapshot_with_delta_types(lake: Lake) -> None:
    lake.overwrite("z", events(1), partition_by=["event_date"])
    first = lake.version("z")
    lake.overwrite("z", events(2, 3), partition_by=["event_date"])

    old = duckdb.sql(lake.duckdb_relation_sql("z", version=first))

    assert [str(kind) for kind in old.types] == [
        "BIGINT",
        "TIMESTAMP WITH TIME ZONE",
        "VARCHAR[]",
        "DATE",
    ]
    assert old.fetchall()[0][0] == 1


@pytest.mark.parametrize("value", ["#en/x y'z", "é%20", "01", None, "a=b"])
def test_any_text_can_be_a_partition(lake: Lake, value: str | None) -> None:
    rows = pa.table({"id": [1], "channel": pa.array([value], pa.string())})
    lake.overwrite("p", rows, partition_by=["channel"])

    assert lake.read("p").to_pylist() == [{"id": 1, "channel": value}]
    assert duckdb.sql(lake.duckdb_relation_sql("p")).fetchall() == [(1, value)]


def test_a_new_column_reads_as_null_in_old_files(lake: Lake) -> None:
    lake.append_once("n", pa.table({"id": [1]}), positions={"s": 1})
    lake.append_once("n", pa.table({"id": [2], "score": [0.5]}), positions={"s": 2})

    rows = duckdb.sql(f"select * from ({lake.duckdb_relation_sql('n')}) order by id").fetchall()
    assert rows == [(1, None), (2, 0.5)]


def test_a_changed_type_is_refused_by_name(lake: Lake) -> None:
    lake.append_once("n", pa.table({"id": [1]}), positions={"s": 1})
    with pytest.raises(LakeError, match="column id: is int64, wanted string"):
        lake.append_once("n", pa.table({"id": ["1"]}), positions={"s": 2})


def test_upsert_updates_and_inserts_by_key(lake: Lake) -> None:
    lake.upsert("u", pa.table({"k": ["a", "b"], "n": [1, 2]}), keys=["k"])
    lake.upsert("u", pa.table({"k": ["b", "c"], "n": [20, 30]}), keys=["k"])

    assert dict(zip(*lake.read("u").to_pydict().values(), strict=True)) == {
        "a": 1,
        "b": 20,
        "c": 30,
    }
    with pytest.raises(LakeError, match="occur twice"):
        lake.upsert("u", pa.table({"k": ["a", "a"], "n": [1, 2]}), keys=["k"])


def test_partitions_changed_since_a_version_are_those_that_got_rows(lake: Lake) -> None:
    one = {"partition_by": ["event_date"]}
    lake.append_once("raw/x", events(1), positions={"s": 1}, **one)
    version = lake.version("raw/x")
    lake.append_once("raw/x", events(2, day=THIRD), positions={"s": 2}, **one)
    lake.open("raw/x").optimize.compact()

    assert lake.partitions_changed_since("raw/x", version) == [{"event_date": "2013-01-03"}]
    assert len(lake.partitions_changed_since("raw/x", None)) == 2


def test_commits_tell_what_each_of_them_added(lake: Lake) -> None:
    for number, day in enumerate((SECOND, THIRD)):
        rows = events(number, day=day).append_column("of", pa.array(["a b/c"]))
        lake.append_once("raw/x", rows, positions={"s": number + 1}, partition_by=["of"])
    lake.open("raw/x").optimize.compact()
    handle = lake.open("raw/x")

    found = changes_of_commits_after(handle, handle.version() - 3) or {}

    assert list(found) == [handle.version() - n for n in (2, 1, 0)]
    first, second, compacted = found.values()
    assert (compacted.added, compacted.removed) == ([], [])
    read = [
        snapshot_dataset(handle, paths_here(handle, each.added)).to_table()
        for each in (first, second)
    ]
    assert [rows["of"].to_pylist() for rows in read] == [["a b/c"], ["a b/c"]]
    assert read[1].select(["id"]).equals(events(1, day=THIRD).select(["id"]))


def test_a_log_that_is_cut_off_does_not_tell_what_was_added(lake: Lake) -> None:
    for number in range(3):
        lake.append_once("n", pa.table({"id": [number]}), positions={"s": number + 1})
    handle = lake.open("n")
    (Path(handle.table_uri.removeprefix("file://")) / "_delta_log" / f"{1:020}.json").unlink()
    assert changes_of_commits_after(handle, 0) is None
    assert list(changes_of_commits_after(handle, 1) or {}) == [2, 3]


def test_a_missing_table_is_named(lake: Lake) -> None:
    with pytest.raises(MissingTable, match="no table raw/x"):
        lake.read("raw/x")
    assert lake.position("raw/x", "s") is None


def test_transactions_read_in_one_pass_are_those_that_delta_reads(lake: Lake) -> None:
    for number in range(6):
        positions = {f"s/{number}": number, "s": number}
        lake.append_once("n", pa.table({"id": [number]}), positions=positions)
        if number == 3:
            lake.open("n").create_checkpoint()
    for version in (6, 4, 2):
        handle = lake.open("n", version=version)
        found = transactions(handle)
        assert found["s"] == version - 1
        assert {app: handle.transaction_version(app) for app in found} == found
        assert f"s/{version}" not in found


@pytest.mark.parametrize("gone", ["nothing", "file", "log"])
def test_an_earlier_snapshot_is_read_as_long_as_all_of_it_is_there(lake: Lake, gone: str) -> None:
    first = lake.overwrite("z", events(1))
    (file,) = lake.files("z")
    second = lake.overwrite("z", events(2))
    if gone == "file":
        Path(file).unlink()
    elif gone == "log":
        lake.open("z").create_checkpoint()
        log = Path(lake.uri("z"), "_delta_log")
        for version in range(second):
            (log / f"{version:020}.json").unlink()

    relation = lake.former_relation_sql("z", first)

    assert (relation is not None) == (gone == "nothing")
    if relation is not None:
        assert duckdb.sql(relation).fetchall()[0][0] == 1
