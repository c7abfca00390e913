"""Redis servers for tests, each on free ports and in a folder of its own."""

import functools
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from redis import Redis, RedisError

NUM_SLOTS = 16384


def program() -> str:
    """The server's program; skips the test where there is none."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("there is no redis-server; `apt-get install redis-server`")
    return found


@contextmanager
def redis_server(folder: Path, *options: str, port: int | None = None) -> Iterator[int]:
    """A server that keeps nothing on disk; gives its port."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(program(), "--port", str(port), "--bind", "127.0.0.1"),
                *("--save", "", "--appendonly", "no", "--dir", str(folder), *options),
            ],
            stdout=log,
            stderr=log,
        )
    try:
        yield port
    finally:
        process.kill()
        process.wait()


@contextmanager
def redis_cluster(folder: Path, *, num_nodes: int = 3) -> Iterator[list[int]]:
    """Primaries that share out the slots; gives their ports."""
    with ExitStack() as stack:
        ports, bus_ports = ([free_port() for _ in range(num_nodes)] for _ in range(2))
        for port, bus_port in zip(ports, bus_ports, strict=True):
            options = ("--cluster-enabled", "yes", "--cluster-port", str(bus_port))
            stack.enter_context(redis_server(folder / str(port), *options, port=port))
        nodes = [stack.enter_context(Redis(port=port, decode_responses=True)) for port in ports]
        for number, node in enumerate(nodes):
            wait_until(node.ping)
            first, end = (NUM_SLOTS * each // num_nodes for each in (number, number + 1))
            node.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)
        for port, bus_port in zip(ports[1:], bus_ports[1:], strict=True):
            nodes[0].execute_command("CLUSTER", "MEET", "127.0.0.1", port, bus_port)
        for node in nodes:
            wait_until(functools.partial(_knows, node, num_nodes))
        yield ports


def _knows(node: Redis, num_nodes: int) -> bool:
    info = node.execute_command("CLUSTER INFO")
    return info["cluster_state"] == "ok" and info["cluster_known_nodes"] == str(num_nodes)


def wait_until(holds: Callable[[], object], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except RedisError:
            pass
        assert time.monotonic() < deadline, "the server did not come up"
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
