"""A lake in an S3 store is the lake that a folder is."""

import shutil
import socket
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from scale_assets.lake import Lake, LakeError, S3Options
from scale_assets.lake.errors import StoreFault
from scale_assets.lake.history import partitions_changed_since
from scale_assets.lake.places import Bucket
from scale_assets.lake.s3 import S3Place
from scale_assets.lake.transactions import transactions

slow = pytest.mark.slow
VALUES = ["a b", "é/ü", "x%y", None]


def parts(offset: int = 0) -> pa.Table:
    return pa.table({"p": VALUES, "n": [offset + n for n in range(len(VALUES))]})


def sorted_rows(table: pa.Table) -> list[dict[str, Any]]:
    return sorted(table.to_pylist(), key=lambda row: row["n"])


@slow
def test_it_reads_what_was_written_with_and_without_its_mirror(
    s3_lake: Lake, s3_options: S3Options, tmp_path: Path
) -> None:
    s3_lake.append_once("raw/x", parts(), positions={"feed": 1}, partition_by=["p"])
    assert s3_lake.append_once("raw/x", parts(), positions={"feed": 1}, partition_by=["p"]) is None
    s3_lake.append_once("raw/x", parts(9), positions={"feed": 2}, partition_by=["p"])
    elsewhere = Lake(s3_lake.root, s3=replace(s3_options, cache_dir=str(tmp_path / "other")))

    for lake in (s3_lake, elsewhere):
        expected = sorted_rows(pa.concat_tables([parts(), parts(9)]))
        assert sorted_rows(lake.read("raw/x")) == expected
        with duckdb.connect() as connection:
            found = connection.sql(lake.duckdb_relation_sql("raw/x")).to_arrow_table()
        assert sorted_rows(found) == expected
        assert transactions(lake.open("raw/x"))["feed"] == 2
        added = partitions_changed_since(lake.open("raw/x"), 1)
        assert {each["p"] for each in added} == set(VALUES)
        assert lake.tables() == ["raw/x"]


@slow
def test_partitions_and_whole_tables_are_replaced(s3_lake: Lake) -> None:
    days = [date(2013, 1, 1), date(2013, 1, 2)]
    s3_lake.replace_partitions("d", pa.table({"day": days, "n": [1, 2]}), partition_by="day")
    s3_lake.replace_partitions("d", pa.table({"day": days[:1], "n": [3]}), partition_by="day")
    assert sorted(s3_lake.read("d")["n"].to_pylist()) == [2, 3]
    s3_lake.overwrite("d", pa.table({"n": [7]}))
    assert s3_lake.read("d").to_pylist() == [{"n": 7}]


@slow
def test_files_of_another_engine_are_published(s3_lake: Lake, tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    staged = s3_lake.staging_folder("s") / "one" / "day=2013-01-01"
    staged.mkdir(parents=True)
    pq.write_table(pa.table({"n": [1, 2]}), staged / "part-0.parquet")
    s3_lake.publish_parquet(
        "s",
        staged.parent,
        schema=pa.schema([("n", pa.int64()), ("day", pa.date32())]),
        partition_by=["day"],
    )
    shutil.rmtree(tmp_path / "cache")
    assert s3_lake.read("s")["n"].to_pylist() == [1, 2]


@slow
def test_a_table_made_anew_is_not_read_from_the_old_ones_mirror(
    s3_lake: Lake, s3_options: S3Options
) -> None:
    s3_lake.append_once("again", parts(), positions={"feed": 5})
    assert transactions(s3_lake.open("again"))["feed"] == 5
    client = s3_options.client()
    place = S3Place.parse(s3_lake.uri("again"))
    for found in client.list_objects_v2(Bucket=place.bucket, Prefix=place.prefix)["Contents"]:
        client.delete_object(Bucket=place.bucket, Key=found["Key"])
    s3_lake.append_once("again", parts(), positions={"feed": 1})
    assert transactions(s3_lake.open("again"))["feed"] == 1


@slow
def test_a_store_that_overwrites_is_refused(
    s3_root: str, s3_options: S3Options, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket(S3Place.parse(s3_root), s3_options)
    bucket.require_conditional_put()
    put = bucket.mirror.client.put_object
    monkeypatch.setattr(bucket.mirror.client, "put_object", lambda IfNoneMatch, **rest: put(**rest))
    with pytest.raises(LakeError, match="If-None-Match"):
        bucket.require_conditional_put()


def test_renames_are_never_allowed(tmp_path: Path) -> None:
    options = S3Options(cache_dir=str(tmp_path), secret_access_key="hidden", access_key_id="me")
    said = options.for_delta()
    assert said["aws_conditional_put"] == "etag"
    assert said["AWS_S3_ALLOW_UNSAFE_RENAME"] == "false"
    assert "hidden" not in repr(options)


@pytest.mark.parametrize("root", ["gs://lake", "s3://", "s3:///x"])
def test_other_stores_are_refused(root: str, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match=r"s3://bucket/prefix"):
        Lake(root, s3=S3Options(cache_dir=str(tmp_path)))


def test_a_store_without_its_options_is_refused() -> None:
    with pytest.raises(LakeError, match="s3="):
        Lake("s3://lake/x")


def test_a_store_that_does_not_answer_is_said_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # and it does not listen
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        options = S3Options(
            cache_dir=str(tmp_path),
            endpoint_url=url,
            region="us-east-1",
            access_key_id="a",
            secret_access_key="b",
        )
        lake = Lake("s3://lake/prefix", s3=options)

        with pytest.raises(StoreFault, match=r"refused.*SCALE_S3_ENDPOINT_URL") as raised:
            lake.exists("raw/x")

    assert url in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
