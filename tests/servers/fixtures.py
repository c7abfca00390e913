"""Real servers for tests, one of each per test run; where one cannot be had, its tests skip."""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scale_assets.servers.errors import ServerUnavailable
from scale_assets.servers.kafka import Kafka
from scale_assets.servers.postgres import Postgres
from scale_assets.servers.s3 import ObjectStore
from scale_assets.servers.server import Server


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    """Like tmp_path, but open to the user that PostgreSQL runs as when root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="scale-servers-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def started(server: Server) -> Iterator[Server]:
    """The server, running; the test is skipped with the reason where it cannot be had."""
    try:
        server.start()
    except ServerUnavailable as error:
        pytest.skip(str(error))
    try:
        yield server
    finally:
        server.stop(hard=True)


@pytest.fixture(scope="session")
def postgres_server(servers_dir: Path) -> Iterator[Server]:
    """``server.start().address`` is its DSN."""
    with started(Postgres(servers_dir / "postgres", any_port=True)) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server(servers_dir: Path) -> Iterator[Server]:
    with started(ObjectStore(servers_dir / "s3", any_port=True)) as server:
        yield server


@pytest.fixture(scope="session")
def jars_dir(pytestconfig: pytest.Config) -> Path:
    """Jars are kept between test runs: Maven takes a minute to find them again."""
    assert pytestconfig.cache is not None
    return pytestconfig.cache.mkdir("jars")


@pytest.fixture(scope="session")
def kafka_server(servers_dir: Path, jars_dir: Path) -> Iterator[Server]:
    """A real broker at ``server.running().address``: tests that use it are slow ones."""
    with started(Kafka(servers_dir / "kafka", jars_dir=jars_dir, any_port=True)) as server:
        yield server
