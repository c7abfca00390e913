"""Fixtures that several test folders share."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import prometheus_client  # noqa: F401 # before Feast, which makes it keep all counters of a process in files
import pytest
from hypothesis import settings

from scale_assets.contracts.native.build import build
from tests.servers.fixtures import jars_dir, kafka_server, postgres_server, s3_server, servers_dir

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["jars_dir", "kafka_server", "postgres_server", "s3_server", "servers_dir"]

settings.register_profile("nightly", max_examples=1000, deadline=None)

build()  # the C reader of a checkout that was installed before it had this source

PROJECT_DIR = Path(__file__).resolve().parent.parent


@contextmanager
def _put_back() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
    for name in [each for each in sys.modules if each.partition(".")[0] == "shop"]:
        del sys.modules[name]  # the next project of this name lies elsewhere


@pytest.fixture(autouse=True, scope="module")
def _after_the_module() -> Iterator[None]:
    """The same for what a fixture of a whole module exports."""
    with _put_back():
        yield


@pytest.fixture(autouse=True)
def _after_the_test() -> Iterator[None]:
    """What a test exports (``Settings.apply`` does) or imports of a project is gone after it."""
    with _put_back():
        yield


@pytest.fixture(scope="session")
def shared_data_dir() -> Path:
    """The real input beside the project; tests that need it are skipped where it is absent."""
    folder = PROJECT_DIR.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder


@pytest.fixture(scope="session")
def oulad_dir(shared_data_dir: Path) -> Path:
    return shared_data_dir / "oulad"


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator["SparkSession"]:
    """One small Spark session for all tests."""
    from scale_assets.transforms.session import spark_session

    session = spark_session(
        master="local[2]",
        driver_memory="1g",
        scratch_dir=tmp_path_factory.mktemp("spark"),
        shuffle_partitions=2,
    )
    yield session
    session.stop()
