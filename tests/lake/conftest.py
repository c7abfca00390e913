"""A lake in the test run's S3 store, and the same store behind a proxy that fails on demand."""

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scale_assets.lake import Lake, S3Options
from scale_assets.servers.server import Server
from tests.lake.store import Faults, faulty


@pytest.fixture
def s3_root() -> str:
    return f"s3://lake/{uuid.uuid4().hex}"


@pytest.fixture
def s3_options(s3_server: Server, tmp_path: Path) -> S3Options:
    found = s3_server.running()
    assert found is not None
    return S3Options(
        cache_dir=str(tmp_path / "cache"),
        endpoint_url=found.settings["SCALE_S3_ENDPOINT_URL"],
        region=found.settings["SCALE_S3_REGION"],
        access_key_id=found.settings["SCALE_S3_ACCESS_KEY_ID"],
        secret_access_key=found.settings["SCALE_S3_SECRET_ACCESS_KEY"],
        part_mib=5,
    )


@pytest.fixture
def s3_lake(s3_root: str, s3_options: S3Options) -> Lake:
    return Lake(s3_root, s3=s3_options)


@pytest.fixture(scope="session")
def faults(s3_server: Server) -> Iterator[Faults]:
    found = s3_server.running()
    assert found is not None
    with faulty(found.settings["SCALE_S3_ENDPOINT_URL"]) as proxy:
        yield proxy


@pytest.fixture
def faulty_lake(s3_root: str, s3_options: S3Options, faults: Faults) -> Lake:
    options = replace(s3_options, endpoint_url=faults.url, timeout_seconds=2.0)
    return Lake(s3_root, s3=options)
