"""One server process: started detached, found again, stopped.

Whether it runs is asked of a lock that the process and its children hold through an inherited
descriptor, so that a number taken over by another process is never mistaken for it.
"""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from scale_assets.servers.errors import ServerFailed

RECORD, LOCK, LOG = "server.json", "alive.lock", "server.log"
LOG_TAIL_BYTES = 2000

_children: dict[int, subprocess.Popen[bytes]] = {}  # started by this process, to be collected


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start a server, and how to see that it answers."""

    command: list[str]
    answers: Callable[[], bool]
    address: str  # as clients write it
    settings: Mapping[str, str] = field(default_factory=dict)  # by which a pipeline finds it
    user: str | None = None  # to run as, where this process is root
    stop_signal: int = signal.SIGTERM
    ready_seconds: float = 60
    stop_seconds: float = 30


@dataclass(frozen=True, kw_only=True)
class Running:
    """A server that answers."""

    pid: int
    address: str
    settings: Mapping[str, str]


def start(name: str, folder: Path, launch: Launch) -> Running:
    """Start the process and wait until it answers.

    Raises:
        ServerFailed: It ended, or says nothing in time; it is then stopped.
    """
    lock = (folder / LOCK).open("a")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with (folder / LOG).open("ab") as log, lock:
        process = _spawn(folder, launch, log, lock)
    _children[process.pid] = process
    _remember(folder, launch, process.pid)
    deadline = time.monotonic() + launch.ready_seconds
    while not launch.answers():
        if process.poll() is not None or time.monotonic() > deadline:
            stop(folder)
            raise ServerFailed(f"{name} does not answer: {_said(folder)}")
        time.sleep(0.1)
    return Running(pid=process.pid, address=launch.address, settings=launch.settings)


def _spawn(folder: Path, launch: Launch, log: IO[bytes], lock: IO[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        launch.command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        pass_fds=[lock.fileno()],
        user=launch.user,
        group=launch.user,
        extra_groups=[] if launch.user else None,
        start_new_session=True,
    )


def running(folder: Path) -> Running | None:
    """The server of this folder, if its process lives."""
    record = _record(folder)
    if record is None or not _is_alive(folder):
        return None
    return Running(pid=record["pid"], address=record["address"], settings=record["settings"])


def stop(folder: Path, *, hard: bool = False) -> bool:
    """End the server of this folder; False if none runs. ``hard`` is SIGKILL at once."""
    record = _record(folder)
    if record is None or not _is_alive(folder):
        return False
    _signal(record["pid"], signal.SIGKILL if hard else record["stop_signal"])
    if not _gone(folder, record["pid"], within_seconds=record["stop_seconds"]):
        _signal(record["pid"], signal.SIGKILL)
        if not _gone(folder, record["pid"], within_seconds=10):
            raise ServerFailed(f"process {record['pid']} of {folder} does not end")
    return True


def remove(folder: Path) -> None:
    """Stop the server and delete everything it wrote."""
    stop(folder)
    shutil.rmtree(folder, ignore_errors=True)


def free_ports(count: int) -> list[int]:
    """Ports of loopback that nobody listens on now, none of them twice."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _remember(folder: Path, launch: Launch, pid: int) -> None:
    record = {
        "pid": pid,
        "address": launch.address,
        "settings": dict(launch.settings),
        "stop_signal": int(launch.stop_signal),
        "stop_seconds": launch.stop_seconds,
    }
    path = folder / RECORD
    path.touch(mode=0o600)  # settings hold passwords
    path.write_text(json.dumps(record, indent=2))


def _record(folder: Path) -> dict[str, Any] | None:
    path = folder / RECORD
    return json.loads(path.read_text()) if path.is_file() else None


def _is_alive(folder: Path) -> bool:
    with (folder / LOCK).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def _gone(folder: Path, pid: int, *, within_seconds: float) -> bool:
    deadline = time.monotonic() + within_seconds
    while _is_alive(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    if (child := _children.pop(pid, None)) is not None:
        child.wait()
    return True


def _signal(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def _said(folder: Path) -> str:
    said = (folder / LOG).read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace").strip()
    return f"{folder / LOG} ends with\n{said}" if said else f"{folder / LOG} is empty"
