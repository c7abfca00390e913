"""The process as its operator sees it: how it starts, what it tells, how it ends."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from scale_assets.collect import collector_config
from scale_assets.errors import ScaleError
from scale_assets.settings import Settings
from serving.collector.config import Config, read_config
from serving.collector.errors import CollectorError
from tests.serving.collector.server import (
    EXAMPLE,
    Server,
    example_config,
    free_port,
    running,
    wait_until_up,
)

PII_KEY = "0123456789abcdef0123456789abcdef"


def send(url: str, message: dict[str, Any]) -> int:
    request = urllib.request.Request(
        f"{url}/v1/page", data=json.dumps({"writeKey": "web-key", **message}).encode()
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return int(answer.status)


def sealed_ids(config: Config) -> list[str]:
    folder = Path(config.feeds_dir) / "interactions"
    assert not list(folder.glob(".*"))
    files = sorted(folder.glob("*.jsonl"))
    return [
        json.loads(line)["event_id"] for path in files for line in path.read_bytes().splitlines()
    ]


def test_sigterm_answers_what_is_in_flight_seals_and_ends_with_0(tmp_path: Path) -> None:
    config = example_config(tmp_path)
    body = json.dumps({"writeKey": "web-key", "messageId": "slow"}).encode()
    head = f"POST /v1/page HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    with running(config, tmp_path) as server, socket.socket() as slow:
        send(server.url, {"messageId": "first"})
        slow.connect(("127.0.0.1", config.port))
        slow.sendall(head + body[:10])
        time.sleep(0.3)
        server.process.terminate()
        time.sleep(0.3)
        with pytest.raises(OSError, match="refused"):
            send(server.url, {"messageId": "late"})
        slow.sendall(body[10:])
        answer = slow.recv(1000)
        code = server.process.wait(timeout=30)

    assert answer.startswith(b"HTTP/1.1 200")
    assert code == 0
    assert sealed_ids(config) == ["first", "slow"]


def test_sigterm_under_load_keeps_every_event_that_was_answered(tmp_path: Path) -> None:
    config = example_config(tmp_path)
    answered: list[str] = []

    def keep_sending(url: str, name: str) -> None:
        for number in range(10_000):
            try:
                send(url, {"messageId": f"{name}-{number}"})
            except OSError:
                return
            answered.append(f"{name}-{number}")

    with running(config, tmp_path) as server:
        senders = [
            threading.Thread(target=keep_sending, args=(server.url, f"s{n}")) for n in range(4)
        ]
        for sender in senders:
            sender.start()
        time.sleep(1)
        assert server.stop() == 0
        for sender in senders:
            sender.join()

    assert len(answered) > 20
    ids = sealed_ids(config)
    assert len(ids) == len(set(ids))
    assert set(answered) <= set(ids)


def test_connections_that_say_nothing_keep_nobody_out(tmp_path: Path) -> None:
    config = example_config(tmp_path)
    with running(config, tmp_path) as server, ExitStack() as silent:
        for _ in range(300):
            silent.enter_context(socket.create_connection(("127.0.0.1", config.port), timeout=10))

        assert send(server.url, {"messageId": "m1"}) == 200


def test_a_client_that_leaves_in_the_middle_is_no_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = example_config(tmp_path)
    with running(config, tmp_path) as server:
        for told in (b"POST /v1/page HT", b"POST /v1/page HTTP/1.1\r\nContent-Length: 9\r\n\r\n{"):
            with socket.create_connection(("127.0.0.1", config.port)) as leaving:
                leaving.sendall(told)
        assert send(server.url, {"messageId": "m1"}) == 200

    assert sealed_ids(config) == ["m1"]
    assert capfd.readouterr().err == ""


def test_what_is_wrong_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(msgspec.json.encode(example_config(tmp_path, pii_key=None)))

    ended = subprocess.run(
        [sys.executable, "-m", "serving.collector", "--config", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert ended.returncode == 1
    assert ended.stderr.startswith("cannot collect: ")
    assert "SCALE_COLLECT_PII_KEY" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_a_port_that_is_taken_is_said_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        config = example_config(tmp_path, port=taken.getsockname()[1])
        path.write_bytes(msgspec.json.encode(config))
        ended = subprocess.run(
            [sys.executable, "-m", "serving.collector", "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert ended.returncode == 1
    assert f"127.0.0.1:{config.port}" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"write_keys": {}}, "SCALE_COLLECT_WRITE_KEYS"),
        ({"write_keys": {"a": "k", "b": "k"}}, "same write key"),
        ({"port": 70000}, "port"),
        ({"on_breach": "ignore"}, "on_breach"),
        ({"colour": "red"}, "colour"),
    ],
    ids=str,
)
def test_a_configuration_that_cannot_be_used_is_named(
    tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    document = msgspec.to_builtins(example_config(tmp_path)) | change
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))

    with pytest.raises(CollectorError, match=says):
        read_config(path)


def test_a_configuration_does_not_show_its_secrets(tmp_path: Path) -> None:
    assert "web-key" not in repr(example_config(tmp_path))
    assert PII_KEY not in repr(example_config(tmp_path))


def test_scale_collect_becomes_the_collector_with_its_secrets_out_of_sight(tmp_path: Path) -> None:
    port = free_port()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SCALE_")},
        "PYTHONPATH": str(EXAMPLE.parents[1]),
        "SCALE_DATA_DIR": str(tmp_path),
        "SCALE_COLLECT_WRITE_KEYS": "web=web-key",
        "SCALE_COLLECT_PII_KEY": PII_KEY,
    }
    command = [sys.executable, "-m", "scale_assets", "collect", "--port", str(port)]
    process = subprocess.Popen(command, cwd=EXAMPLE, env=environment)
    server = Server(f"http://127.0.0.1:{port}", process)
    try:
        wait_until_up(server)
        send(server.url, {"messageId": "m1"})
        told = Path(f"/proc/{process.pid}/cmdline").read_bytes()
    finally:
        assert server.stop() == 0

    assert b"serving.collector" in told
    assert b"web-key" not in told
    assert PII_KEY.encode() not in told
    assert len(list((tmp_path / "feeds" / "interactions").glob("*.jsonl"))) == 1


def test_every_setting_reaches_the_collector(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {
        "DATA_DIR": str(tmp_path),
        "COLLECT_STREAMS": str(tmp_path / "s.yaml"),
        "COLLECT_WRITE_KEYS": "web=a=b, backend=c",
        "COLLECT_PII_KEY": PII_KEY,
        "COLLECT_PII_KEY_ID": "k7",
        "COLLECT_ON_BREACH": "refuse",
        "COLLECT_CORS_ORIGINS": "https://a.example, https://b.example",
        "COLLECT_TRUSTED_PROXIES": "10.0.0.0/8,192.0.2.1",
        "COLLECT_EVENTS_PER_SECOND": "7",
        "COLLECT_QUEUE_MIB": "3",
        "COLLECT_SEAL_SECONDS": "1.5",
        "COLLECT_SEAL_MIB": "2",
        "FEEDS": "kafka",
        "KAFKA_BOOTSTRAP_SERVERS": "k:9092",
        "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
        "KAFKA_PASSWORD": "secret",
        "KAFKA_PROPERTIES": '{"linger.ms": "5"}',
        "KAFKA_TOPIC_PREFIX": "shop.",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"SCALE_{name}", value)
    document = collector_config(Settings(), host="0.0.0.0", port=9)
    path = tmp_path / "config.json"
    path.write_text(json.dumps(document))

    assert document.keys() == set(Config.__struct_fields__)
    assert msgspec.to_builtins(read_config(path)) == {
        "host": "0.0.0.0",
        "port": 9,
        "streams": str(tmp_path / "s.yaml"),
        "feeds_dir": str(tmp_path / "feeds"),
        "write_keys": {"web": "a=b", "backend": "c"},
        "pii_key": PII_KEY,
        "pii_key_id": "k7",
        "on_breach": "refuse",
        "cors_origins": ["https://a.example", "https://b.example"],
        "trusted_proxies": ["10.0.0.0/8", "192.0.2.1"],
        "events_per_second": 7,
        "queue_mib": 3,
        "seal_seconds": 1.5,
        "seal_mib": 2,
        "kafka": {
            "bootstrap.servers": "k:9092",
            "client.id": "scale-assets",
            "security.protocol": "SASL_SSL",
            "sasl.password": "secret",
            "linger.ms": "5",
        },
        "topic_prefix": "shop.",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WRITE_KEYS", "abc"),
        ("WRITE_KEYS", "web=a,web=b"),
    ],
)
def test_a_setting_that_cannot_be_read_is_named_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"SCALE_COLLECT_{name}", value)

    with pytest.raises(ScaleError, match=f"SCALE_COLLECT_{name}") as refused:
        collector_config(Settings(), host="127.0.0.1", port=1)

    assert value not in str(refused.value)
