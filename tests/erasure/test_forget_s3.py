"""A lake in a store: the person leaves its objects, the versions that a bucket keeps, and the copies."""

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from scale_assets.erasure.forget import check
from scale_assets.ingest.account import account
from scale_assets.ingest.ingestion import ingest
from scale_assets.lake import Lake, S3Options, StoreFault
from scale_assets.lake.versions import StoredObject, delete_for_good, objects_below
from tests.erasure.conftest import GONE, STAYS, Shop, fill, json_lines, shop_in, visit

TABLES = ("raw/visits", "raw/members_changes", "members", "members_history")


@pytest.fixture(params=["plain", "versioned"])
def bucket(request: pytest.FixtureRequest, s3_options: S3Options) -> Iterator[str]:
    """A bucket of the test's own, which may keep what is deleted."""
    name = f"{request.param}-{uuid.uuid4().hex[:12]}"
    client = s3_options.client()
    client.create_bucket(Bucket=name)
    if request.param == "versioned":
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    yield name
    delete_for_good(client, name, objects_below(client, name, ""))
    client.delete_bucket(Bucket=name)


@pytest.fixture
def shop(tmp_path: Path, s3_options: S3Options, bucket: str) -> Shop:
    shop = shop_in(tmp_path, Lake(f"s3://{bucket}/lake", s3=s3_options))
    fill(shop)
    return shop


def objects(options: S3Options, bucket: str) -> list[StoredObject]:
    return list(objects_below(options.client(), bucket, ""))


def test_the_person_is_found_before_in_objects_and_in_copies(shop: Shop, bucket: str) -> None:
    found = check(shop.scope, subject="user", ids=[str(GONE)])

    places = " ".join(residue.path for residue in found.residues)
    for table in (*TABLES, "raw/visits_quarantine", "accounts"):
        assert f"s3://{bucket}/lake/{table}/" in places
    assert f"/cache/s3/{bucket}/lake/raw/visits/table-" in places


def test_nothing_of_the_person_is_left_in_any_version_and_all_others_are(
    shop: Shop, s3_options: S3Options, bucket: str
) -> None:
    before = {table: shop.lake.version(table) for table in TABLES}
    assert len(objects(s3_options, bucket)) > 20

    statement = shop.forget()

    assert statement.checked.residues == ()
    assert statement.checked.num_files > 20
    assert shop.users("raw/visits") == {STAYS, 9}
    assert all(GONE not in shop.users(table) for table in TABLES)
    assert shop.lake.read("accounts")["account_id"].to_pylist() == ["north-4712", "north-9"]
    left = objects(s3_options, bucket)
    for table, version in before.items():
        prefix = f"lake/{table}/"
        assert all(each.is_latest and not each.is_marker for each in left if prefix in each.key)
        with pytest.raises(Exception, match=r"No files in log segment"):
            shop.lake.read(table, version=version)


def test_rows_stay_accounted_for_and_ingestion_goes_on(shop: Shop) -> None:
    received = account(shop.lake, shop.visits).received
    shop.forget()
    assert account(shop.lake, shop.visits).received == received
    rows = [visit(20, GONE, day=5), visit(21, STAYS, day=5)]
    shop.deliver(shop.visits, "2.jsonl", json_lines(rows))

    report = ingest(shop.lake, shop.visits)

    assert (report.num_accepted, report.num_erased) == (1, 1)
    assert account(shop.lake, shop.visits).is_exact
    assert check(shop.scope, subject="user", ids=[str(GONE)]).residues == ()


def test_what_was_deleted_before_goes_with_what_the_bucket_keeps_of_it(
    shop: Shop, s3_options: S3Options, bucket: str
) -> None:
    """A vacuum hides files in a bucket with versions; the person is still in them."""
    handle = shop.lake.open("raw/visits")
    handle.optimize.compact()
    handle.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)

    assert shop.forget().checked.residues == ()

    left = [each for each in objects(s3_options, bucket) if "lake/raw/visits/" in each.key]
    assert all(each.is_latest and not each.is_marker for each in left)


def test_an_object_that_the_store_keeps_is_an_error_with_its_name(shop: Shop) -> None:
    handle: Any = shop.lake.open("raw/visits")
    locked = Mock(wraps=handle.mirror.client)
    refused = {"Key": "a", "Code": "AccessDenied", "Message": "under a lock"}
    locked.delete_objects = Mock(return_value={"Errors": [refused]})
    handle.mirror.client = locked

    with pytest.raises(StoreFault, match=r"/a was not deleted: under a lock"):
        handle.erase({name for name in handle.list_all() if name.endswith(".parquet")})
