"""What is Redis's own: round trips, keys that go, TLS, users, a server that starts anew."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis

from scale_assets.features.codec import Layout
from scale_assets.features.reader import OnlineReader, OnlineStoreError
from scale_assets.features.stores import Backend, PackedRow, Put, open_backend
from scale_assets.features.stores import lease as leases
from scale_assets.features.stores.redis_client import parse_address
from tests.features.redis_servers import free_port, redis_server, wait_until

LAYOUT = Layout((("clicks", "int64"),))
HOUR = timedelta(hours=1)
HOUR_US = HOUR // timedelta(microseconds=1)


def row(key: str, time_us: int, clicks: int = 1) -> PackedRow:
    return PackedRow(key, LAYOUT.encode([clicks], feature_time=time_us, known_at=time_us))


@pytest.fixture
def backend(empty_redis: str) -> Iterator[Backend]:
    with open_backend(empty_redis) as backend:
        yield backend


def num_calls(client: Redis, command: str) -> int:
    return int(client.info("commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"])


def test_several_views_and_the_clock_are_one_command(backend: Backend, empty_redis: str) -> None:
    for view in ("one", "two", "three"):
        backend.declare(view, LAYOUT, ttl=HOUR)
        backend.put(view, [row("a", 1), row("b", 1)], Put.PUSH)
    reader = OnlineReader(backend)
    reader.views()
    with Redis.from_url(empty_redis) as client:
        client.config_resetstat()

        reader.read_views({view: ["a", "b"] for view in ("one", "two", "three")})

        assert num_calls(client, "mget") == 1
        assert num_calls(client, "get") == num_calls(client, "hgetall") == 0


def test_views_of_an_entity_share_a_slot_of_the_cluster(empty_cluster: str) -> None:
    with open_backend(empty_cluster) as backend:
        for view in ("one", "two"):
            backend.declare(view, LAYOUT, ttl=None)
            backend.put(view, [row(f"u{i}", 1) for i in range(50)], Put.PUSH)
        slots = {
            view: [backend.client.keyslot(f"scale:{{u{i}}}:{view}") for i in range(50)]
            for view in ("one", "two")
        }
        assert slots["one"] == slots["two"]
        assert len(set(slots["one"])) > 40


def test_expired_values_go_by_the_wall_clock_after_another_ttl(empty_redis: str) -> None:
    now = time.time_ns() // 1000
    with open_backend(empty_redis, clock="wall") as backend:
        backend.declare("clicks", LAYOUT, ttl=HOUR)
        backend.declare("ever", LAYOUT, ttl=None)
        ages = {"fresh": 0, "expired": HOUR_US + 1_000_000, "gone": 2 * HOUR_US + 1_000_000}
        for view in ("clicks", "ever"):
            rows = [row(key, now - age) for key, age in ages.items()]
            backend.put(view, rows, Put.PUSH)

        found = OnlineReader(backend).read("clicks", list(ages))

        assert [each and each.is_expired for each in found] == [False, True, None]
        left_ms = backend.client.pttl("scale:{fresh}:clicks")
        assert 0 <= 2 * HOUR_US // 1000 - left_ms < 10_000
        assert backend.client.pttl("scale:{gone}:ever") == -1


def test_in_a_replayed_world_nothing_goes(backend: Backend) -> None:
    backend.declare("clicks", LAYOUT, ttl=HOUR)
    backend.put("clicks", [row("a", 1)], Put.PUSH)

    assert backend.client.pttl("scale:{a}:clicks") == -1  # type: ignore[attr-defined]


def test_namespaces_keep_apart(empty_redis: str) -> None:
    for namespace, clicks in (("one", 1), ("two", 2)):
        with open_backend(f"{empty_redis}?namespace={namespace}") as backend:
            backend.declare("clicks", LAYOUT, ttl=None)
            backend.put("clicks", [row("a", 1, clicks)], Put.PUSH)
    with open_backend(f"{empty_redis}?namespace=one") as backend:
        assert OnlineReader(backend).read("clicks", ["a"])[0].values == {"clicks": 1}
        assert list(backend.keys("clicks")) == [["a"]]


def test_a_server_that_forgot_its_scripts(backend: Backend) -> None:
    backend.declare("clicks", LAYOUT, ttl=None)
    backend.put("clicks", [row("a", 1)], Put.PUSH)
    backend.client.script_flush()  # type: ignore[attr-defined]

    assert backend.put("clicks", [row("a", 2)], Put.PUSH).num_written == 1


def test_a_dead_loader_of_this_machine_is_not_waited_for(backend: Backend) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    import socket

    key = "scale.meta{scale}:loading:clicks"
    held = f"{socket.gethostname()} {process.pid} x"
    backend.client.set(key, held, px=60_000)  # type: ignore[attr-defined]
    started = time.monotonic()

    with backend.sole_loader("clicks") as check:
        check()

    assert time.monotonic() - started < 5


def test_a_loader_that_lost_its_lease_stops(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "LEASE_S", 0.3)
    with backend.sole_loader("clicks") as check:
        backend.client.set("scale.meta{scale}:loading:clicks", "other 1 x")  # type: ignore[attr-defined]
        time.sleep(0.3)

        with pytest.raises(OnlineStoreError, match="taken over"):
            check()


def test_a_user_with_few_rights_over_tls(tmp_path: Path) -> None:
    """What the guide grants is enough, and the password is in no message."""
    certificate, key = _certificate(tmp_path)
    port = free_port()
    options = [
        *("--tls-port", str(port), "--tls-cert-file", str(certificate), "--tls-key-file", str(key)),
        *("--tls-ca-cert-file", str(certificate), "--tls-auth-clients", "no"),
    ]
    with redis_server(tmp_path, *options) as plain, Redis(port=plain) as admin:
        wait_until(admin.ping)
        admin.execute_command(
            *[
                "ACL",
                "SETUSER",
                "features",
                "on",
                ">s3cret",
                "~scale:*",
                "~scale.meta*",
                "+@read",
                "+@write",
            ],
            *["+@scripting", "+@connection", "+@transaction", "-@dangerous", "+info"],
        )
        url = f"rediss://features:s3cret@localhost:{port}/0?ssl_ca_certs={certificate}"
        with open_backend(url) as backend:
            backend.declare("clicks", LAYOUT, ttl=None)
            backend.put("clicks", [row("a", 1)], Put.PUSH)
            assert OnlineReader(backend).read("clicks", ["a"])[0].values == {"clicks": 1}
            assert "s3cret" not in f"{backend.where} {backend.address!r}"  # type: ignore[attr-defined]
        with (
            open_backend(url.replace("s3cret", "s3cret-no")) as backend,
            pytest.raises(OnlineStoreError) as refused,
        ):
            OnlineReader(backend)
        assert "s3cret" not in str(refused.value)
        assert f"rediss://localhost:{port}" in str(refused.value)


def test_a_server_that_is_down_is_named_without_its_password() -> None:
    port = free_port()
    with pytest.raises(OnlineStoreError, match=f"redis://127.0.0.1:{port}/0") as refused:
        OnlineReader(f"redis://:s3cret@127.0.0.1:{port}/0")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [("redis:///0", "no host"), ("redis://host/0?namespace=a{b}", "namespace")],
)
def test_a_url_that_cannot_be_is_refused(url: str, message: str) -> None:
    with pytest.raises(OnlineStoreError, match=message):
        parse_address(url)


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of localhost that signs itself."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    certificate, key = folder / "server.pem", folder / "server.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"),
            *("-keyout", str(key), "-out", str(certificate), "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate, key
