"""Benchmarks leave nothing behind that git would take."""

import subprocess
from pathlib import Path

import pytest

from benchmarks.measure import scratch_folder
from scale_assets.settings import project_dir

BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"


def test_scratch_space_is_ignored_by_git_and_gone_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("SCALE_DATA_DIR", raising=False)

    with scratch_folder() as folder:
        ignored = subprocess.run(
            ["git", "check-ignore", str(folder)],
            cwd=project_dir(),
            capture_output=True,
            check=False,
        )
        assert ignored.returncode == 0
        assert folder.is_dir()
    assert not folder.exists()


def test_every_benchmark_takes_its_scratch_space_there() -> None:
    own = [
        path.name
        for path in sorted(BENCHMARKS.glob("*.py"))
        if path.name != "measure.py" and "tempfile" in path.read_text()
    ]

    assert own == []
