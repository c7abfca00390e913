"""A server's process is started once, found again, and ended with whatever it started."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from scale_assets.servers import process
from scale_assets.servers.errors import ServerFailed
from scale_assets.servers.process import Launch
from scale_assets.servers.server import Server

LISTENS = """
import signal, socket, subprocess, sys
if {deaf}:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = socket.create_server(("127.0.0.1", {port}))
while True:
    server.accept()[0].close()
"""


class Echo(Server):
    name: ClassVar[str] = "echo"
    default_ports: ClassVar[tuple[int, ...]] = (0,)
    program = LISTENS
    deaf = False

    def launch(self) -> Launch:
        code = self.program.format(port=self.port, deaf=self.deaf)
        return Launch(
            command=[sys.executable, "-c", code],
            answers=lambda: process.listens(self.port),
            address=f"127.0.0.1:{self.port}",
            ready_seconds=20,
            stop_seconds=0.5,
        )


@pytest.fixture
def echo(tmp_path: Path) -> Iterator[Echo]:
    server = Echo(tmp_path / "echo", any_port=True)
    yield server
    server.stop(hard=True)


def test_starting_twice_gives_the_same_process(echo: Echo) -> None:
    first = echo.start()
    assert Echo(echo.folder, any_port=True).start() == first
    assert echo.running() == first


def test_it_comes_back_on_the_same_port(echo: Echo) -> None:
    first = echo.start()
    assert echo.stop()
    assert not echo.stop()
    again = echo.start()
    assert (again.address, again.pid != first.pid) == (first.address, True)


def test_one_that_died_is_not_taken_for_running(echo: Echo) -> None:
    os.kill(echo.start().pid, signal.SIGKILL)
    deadline = time.monotonic() + 5
    while echo.running() is not None:
        assert time.monotonic() < deadline


def test_one_that_ignores_the_signal_is_killed(echo: Echo) -> None:
    echo.deaf = True
    echo.start()
    assert echo.stop()
    assert echo.running() is None


def test_one_that_fails_says_what_it_said(echo: Echo) -> None:
    echo.program = "raise SystemExit('port {port} is haunted')"
    with pytest.raises(ServerFailed, match=r"echo does not answer: .*\n?.*is haunted"):
        echo.start()
    assert echo.running() is None


def test_its_record_is_closed_to_others(echo: Echo) -> None:
    echo.start()
    assert (echo.folder / process.RECORD).stat().st_mode & 0o077 == 0


def test_the_usual_port_is_taken_only_where_it_is_free(tmp_path: Path) -> None:
    (usual,) = process.free_ports(1)

    class Usual(Echo):
        default_ports: ClassVar[tuple[int, ...]] = (usual,)

    first, second = Usual(tmp_path / "1"), Usual(tmp_path / "2")
    with first.up(), second.up():
        assert first.port == usual
        assert second.port != usual
    assert first.running() is second.running() is None
