"""`python -m serving` as a process: what it says, and whose port it takes."""

import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

Process = subprocess.Popen[str]


def command(releases: Path, store: Path, *, port: int, host: str = "127.0.0.1") -> list[str]:
    folders = ("--releases", str(releases), "--online-store", str(store))
    return [sys.executable, "-m", "serving", *folders, "--host", host, "--port", str(port)]


@contextmanager
def running(
    releases: Path, store: Path, *, host: str = "127.0.0.1"
) -> Iterator[tuple[Process, list[str]]]:
    """The server on a port that it chose, and the lines that it said when it began to listen."""
    process = subprocess.Popen(
        command(releases, store, port=0, host=host), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        yield process, [process.stdout.readline().rstrip("\n") for _ in range(4)]
    finally:
        process.terminate()
        process.communicate(timeout=30)


def port_of(lines: list[str]) -> int:
    found = re.search(r"http://\S+:(\d+)/docs", "\n".join(lines))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize(
    ("host", "base"), [("127.0.0.1", "http://127.0.0.1"), ("::1", "http://[::1]")]
)
def test_a_server_says_what_it_serves_and_where(
    releases_dir: Path, online_store: Path, host: str, base: str
) -> None:
    with running(releases_dir, online_store, host=host) as (_, lines):
        url = f"{base}:{port_of(lines)}"

        assert lines[:2] == [
            f"next_site 1 (network)  POST {url}/v1/recommend",
            f"withdrawal 1 (network)  POST {url}/v1/predict/withdrawal",
        ]
        assert str(releases_dir) in lines[3]
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=10) as answer:
            assert answer.status == 200


def test_a_second_server_on_the_port_is_refused_in_one_line(
    releases_dir: Path, online_store: Path
) -> None:
    with running(releases_dir, online_store) as (_, lines):
        port = port_of(lines)
        second = subprocess.run(
            command(releases_dir, online_store, port=port),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    assert second.returncode == 1
    assert f"127.0.0.1:{port}" in second.stderr
    assert len(second.stderr.splitlines()) == 1
