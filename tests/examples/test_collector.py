"""The example as its README says: its settings, its SDK, its commands, and what they print."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving.collector.server import Server, free_port, wait_until_up

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "collector"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
VARIES = re.compile(
    r"\d+\.\d s|1\.[\w-]{4}$|\d{4}-\d\d-\d\d", re.MULTILINE
)  # times, pseudonyms, dates
ALLOWED_SUFFIXES = {".yaml", ".toml", ".md", ".html"}


def blocks(language: str) -> list[str]:
    found = BLOCK.findall((EXAMPLE / "README.md").read_text())
    return [text for each, text in found if each == language]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The example outside this repository."""
    folder = tmp_path / "collector"
    shutil.copytree(EXAMPLE, folder, ignore=shutil.ignore_patterns(".*"))
    return folder


@pytest.fixture
def environment() -> dict[str, str]:
    """This environment on the path, and no setting but those of the README."""
    found = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SCALE_") and name != "DAGSTER_HOME"
    }
    found["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{found['PATH']}"
    found["PYTHONPATH"] = str(EXAMPLE.parents[1])
    return found


@pytest.fixture
def port(environment: dict[str, str]) -> int:
    """Another than the README's 8001, which may be taken."""
    found = free_port()
    environment["SCALE_COLLECT_PORT"] = str(found)
    return found


@pytest.fixture
def collector(project: Path, environment: dict[str, str], port: int) -> Iterator[Server]:
    *exports, command = blocks("sh")[0].splitlines()[1:]
    script = "\n".join([*exports, f"exec {command}"])
    process = subprocess.Popen(["bash", "-ec", script], cwd=project, env=environment)
    server = Server(f"http://127.0.0.1:{port}", process)
    try:
        wait_until_up(server)
        yield server
    finally:
        if process.poll() is None:
            server.stop()


def run(command: list[str], project: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_what_the_readme_sends_is_what_it_shows(
    project: Path, environment: dict[str, str], port: int, collector: Server
) -> None:
    (program,) = blocks("python")
    run([sys.executable, "-c", program.replace("8001", str(port))], project, environment)
    assert collector.stop() == 0

    printed = run(["bash", "-ec", blocks("sh")[-1]], project, environment)

    (shown,) = blocks("text")
    assert VARIES.sub("...", printed) == VARIES.sub("...", shown)
    assert len(set(re.findall(r" 1\.([\w-]{4})$", printed, re.MULTILINE))) == 1


def test_the_example_has_no_code_and_no_data() -> None:
    files = [
        path
        for path in EXAMPLE.rglob("*")
        if path.is_file()
        and ".data" not in path.relative_to(EXAMPLE).parts
        and path.name != "analytics.js"  # the README has one fetch it
    ]

    assert {path.suffix for path in files} == ALLOWED_SUFFIXES
    assert sum(path.name.endswith(".odcs.yaml") for path in files) == 1
