"""What a user reads when a store refuses, is gone or forgot: one line, and the way out. Never half a load."""

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from redis import Redis, RedisError

from scale_assets.features import changes
from scale_assets.features.codec import Layout
from scale_assets.features.loading import LoadReport, load_view
from scale_assets.features.reader import OnlineReader
from scale_assets.features.stores import OnlineStoreError, PackedRow, Put, open_backend
from scale_assets.features.stores.sqlite import SqliteBackend
from scale_assets.lake import Lake
from tests.features.redis_servers import free_port, redis_server, wait_until
from tests.features.test_loading import VIEW, append, table

NUM_ROWS = 2_000


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lake:
    """A table that takes seven parts to load."""
    monkeypatch.setattr(changes, "PART_ROWS", 300)
    lake = Lake(tmp_path / "lake")
    append(lake, table(*[(f"u{i}", 1, 1, i % 7) for i in range(NUM_ROWS)]))
    return lake


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """host:port of a server with a password, and a user without rights."""
    folder = tmp_path_factory.mktemp("secured")
    with (
        redis_server(folder, "--requirepass", "right") as port,
        Redis(port=port, password="right") as admin,
    ):
        wait_until(admin.ping)
        admin.execute_command(
            *["ACL", "SETUSER", "few", "on", ">s3cret", "~scale:*", "+@read", "+@connection"]
        )
        yield f"127.0.0.1:{port}"


def load(
    lake: Lake, url: str | Path, on_part: Callable[[int, int], None] = lambda _done, _all: None
) -> LoadReport:
    with open_backend(url) as backend:
        return load_view(lake, VIEW, backend, on_part=on_part)


def refusal(lake: Lake, url: str | Path) -> str:
    """The one line of a load that was refused, which names the address but no password."""
    with pytest.raises(OnlineStoreError) as refused:
        load(lake, url)
    said = str(refused.value)
    assert "\n" not in said
    assert "s3cret" not in said
    return said


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("redis://:s3cret@{server}/0", "invalid username-password pair.*give its user and"),
        ("redis://{server}/0", "Authentication required; give its user and password"),
        ("redis://few:s3cret@{server}/0", "'set' command; grant .*docs/guides/features.md"),
        ("redis://:right@{server}/99", "DB index is out of range; see SCALE_ONLINE_STORE_URL"),
        ("redis+cluster://:right@{server}", "not enabled.*a single server is redis://"),
    ],
    ids=["wrong password", "no password", "no rights", "no such database", "no cluster"],
)
def test_a_load_that_the_server_refuses(lake: Lake, server: str, address: str, said: str) -> None:
    url = address.format(server=server)
    scheme = url.partition("://")[0]

    refused = refusal(lake, url)

    assert refused.startswith(f"{scheme}://{server}")
    assert re.search(said, refused), refused


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
def test_a_load_that_nobody_answers(lake: Lake, scheme: str) -> None:
    url = f"{scheme}://:s3cret@127.0.0.1:{free_port()}"
    assert "Connection refused; see SCALE_ONLINE_STORE_URL" in refusal(lake, url)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:s3cret@host:many/0", "the port is no number"),
        (
            "redis://:s3cret@host:1/0?sockettimeout=1",
            "an option after the [?] is wrong.*'sockettimeout'",
        ),
        ("redis://:s3cret@host:1/0?socket_timeout=long", "an option after the [?] is wrong"),
    ],
)
def test_a_url_that_cannot_be_read(lake: Lake, url: str, said: str) -> None:
    refused = refusal(lake, url)
    assert re.search(said, refused), refused


def test_a_replica_is_no_place_to_load_into(lake: Lake, empty_redis: str, tmp_path: Path) -> None:
    port = empty_redis.rpartition(":")[2].removesuffix("/0")
    with (
        redis_server(tmp_path / "replica", "--replicaof", "127.0.0.1", port) as replica,
        Redis(port=replica) as client,
    ):
        wait_until(client.ping)
        said = refusal(lake, f"redis://127.0.0.1:{replica}/0")

    assert "read only replica; name the primary" in said


def test_a_server_that_is_full_and_then_is_not(lake: Lake, tmp_path: Path) -> None:
    """Nothing of our script or of anybody's key is in the message; the next load goes on."""
    with redis_server(tmp_path / "full") as port, Redis(port=port) as client:
        wait_until(client.ping)
        url = f"redis://127.0.0.1:{port}/0"
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 150_000)
        said = refusal(lake, url)
        client.config_set("maxmemory", 0)
        load(lake, url)

        assert num_online(url) == NUM_ROWS
    assert said.endswith(
        "0: command not allowed when used memory > 'maxmemory'; raise its maxmemory and run again; "
        "what was written stays, and the rest follows"
    )


def test_a_server_that_goes_in_the_middle(lake: Lake, tmp_path: Path) -> None:
    with redis_server(tmp_path / "gone") as port, Redis(port=port) as client:
        wait_until(client.ping)

        def shut_down(done: int, _all: int) -> None:
            if done == 2:
                with suppress(RedisError):
                    client.shutdown(nosave=True)

        with pytest.raises(OnlineStoreError, match=r"redis://127\.0\.0\.1:\d+/0: .*is up$"):
            load(lake, f"redis://127.0.0.1:{port}/0", shut_down)


def test_a_server_that_forgets_in_the_middle_is_not_taken_for_loaded(
    lake: Lake, empty_redis: str
) -> None:
    """It came back empty: the parts that were there are gone, so this load has to fail."""
    with Redis.from_url(empty_redis) as client:

        def forget(done: int, _all: int) -> None:
            if done == 2:
                client.flushall()

        with pytest.raises(OnlineStoreError, match="the server lost what it held; run again"):
            load(lake, empty_redis, forget)

    load(lake, empty_redis)
    assert num_online(empty_redis) == NUM_ROWS


def num_online(url: str) -> int:
    with open_backend(url) as backend:
        return sum(map(len, backend.keys(VIEW.name)))


@pytest.mark.parametrize("kind", ["another file", "a folder", "below a file"])
def test_a_path_that_cannot_be_a_store(lake: Lake, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "online.db"
    if kind == "a folder":
        path.mkdir()
    else:
        path.write_text("name,clicks\n" * 100)

    said = refusal(lake, path / "deeper.db" if kind == "below a file" else path)

    assert said.startswith(str(path))
    assert ("move it away" if kind == "another file" else "this user may write") in said


def test_a_full_disk(tmp_path: Path) -> None:
    layout = Layout((("clicks", "int64"),))
    rows = [
        PackedRow(f"u{i}", layout.encode([i], feature_time=i, known_at=i)) for i in range(5_000)
    ]
    with SqliteBackend(tmp_path / "online.db") as backend:
        backend.declare("clicks", layout, ttl=None)
        backend._writing.execute("pragma max_page_count = 20")
        with pytest.raises(OnlineStoreError, match=r"online\.db: .*full; .*disk with room"):
            backend.put("clicks", rows, Put.PUSH)
        backend._writing.execute("pragma max_page_count = 10000")

        assert backend.put("clicks", rows, Put.PUSH).num_written == 5_000


def test_a_lock_that_is_held_too_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scale_assets.features.stores.sqlite.BUSY_TIMEOUT_S", 0.1)
    path = tmp_path / "online.db"
    with SqliteBackend(path) as backend:
        backend.declare("clicks", Layout((("clicks", "int64"),)), ttl=None)
        with sqlite3.connect(path, isolation_level=None) as other:
            other.execute("begin immediate")
            with pytest.raises(
                OnlineStoreError, match=r"is locked; another process wrote for more"
            ):
                backend.drop("clicks")
            other.execute("rollback")
        other.close()


def test_a_file_that_somebody_is_just_making_has_no_views(tmp_path: Path) -> None:
    path = tmp_path / "online.db"
    path.touch()
    with SqliteBackend(path) as backend:
        assert backend.views() == {}
        with pytest.raises(OnlineStoreError, match="run `scale load`"):
            OnlineReader(backend)
