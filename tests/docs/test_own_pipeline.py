"""docs/guides/own-pipeline.md as written: its files are made, its commands run and compared."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from scale_assets.lake import Lake

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "own-pipeline.md"
BLOCK = re.compile(
    r"(?:^`(?P<file>[^`\n]+)`:\n\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
SECONDS = re.compile(r"\d+\.\d s")  # the guide's timings are one machine's


@dataclass(frozen=True)
class Block:
    """One fenced block, and the file that the line above it names."""

    language: str
    text: str
    file: str | None


def blocks() -> Iterator[Block]:
    for match in BLOCK.finditer(GUIDE.read_text()):
        yield Block(match["language"], match["text"], match["file"])


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own") / "pipeline"
    for block in blocks():
        if block.file is not None:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    return folder


def run(command: str, folder: Path) -> str:
    """A command of the guide, in the project's folder, with this environment on the path."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("SCALE_") and name != "DAGSTER_HOME"
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    shell = ["bash", "-ec", command]
    done = subprocess.run(
        shell, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_guide_is_what_this_test_reads() -> None:
    found = list(blocks())

    assert [block.language for block in found if block.file is None] == ["sh", "text"] * 3
    assert len([block for block in found if block.file]) == 7


@pytest.mark.timeout(900)
def test_every_command_prints_what_the_guide_shows(project: Path) -> None:
    steps = [block for block in blocks() if block.file is None]
    for command, shown in zip(steps[::2], steps[1::2], strict=True):
        printed = run(command.text, project)

        assert SECONDS.sub("N s", printed) == SECONDS.sub("N s", shown.text), command.text

    lake = Lake(project / ".data" / "lake")
    assert lake.num_rows("raw/orders") == 2
    assert lake.num_rows("raw/orders_quarantine") == 1
