"""What benchmarks share: scratch space, peak memory of a process tree, machine, one result line."""

import json
import os
import platform
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import psutil

from scale_assets.settings import Settings, project_dir

SAMPLE_EVERY_S = 1.0  # reading the maps of a large process stops it for a moment


@dataclass(frozen=True)
class Comparison:
    """One row of docs/results.md. ``ok`` says whether ``ratio`` keeps the goal."""

    name: str
    ours: float
    unit: str
    peer: str
    peer_value: float
    goal: str
    ok: bool

    @property
    def ratio(self) -> float:
        return self.ours / self.peer_value

    def as_json(self) -> str:
        return json.dumps({**asdict(self), "ratio": round(self.ratio, 4)})

    def as_text(self) -> str:
        verdict = "ok" if self.ok else "MISSED"
        return (
            f"{self.name}: {self.ours:.3f} {self.unit} against {self.peer} "
            f"{self.peer_value:.3f} = {self.ratio:.3f} (goal {self.goal}) {verdict}"
        )


@dataclass(frozen=True)
class Run:
    """A finished child process with all its children: seconds, peak memory, output."""

    seconds: float
    peak_memory_bytes: int
    output: str


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """An empty folder on the lake's disk, in the data folder, which git ignores; gone afterwards."""
    root = Settings(_env_file=project_dir() / ".env").data_dir / "bench"
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=root) as folder:
        yield Path(folder)


def run_measured(command: Sequence[str], *, env: Mapping[str, str] | None = None) -> Run:
    """Run ``command`` to its end while sampling the proportional memory of its process tree.

    Raises:
        RuntimeError: It ended with another code than 0; the message carries its last lines.
    """
    started = time.monotonic()
    process = subprocess.Popen(
        command,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peaks = [0]
    sampler = threading.Thread(target=_sample, args=(process.pid, peaks), daemon=True)
    sampler.start()
    output, _ = process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {output[-2000:]}")
    return Run(time.monotonic() - started, max(peaks), output)


def _sample(pid: int, peaks: list[int]) -> None:
    while True:
        try:
            root = psutil.Process(pid)
            tree = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        peaks.append(sum(_memory(each) for each in tree))
        time.sleep(SAMPLE_EVERY_S)


def _memory(process: psutil.Process) -> int:
    """Proportional set size, so that pages shared between processes count once."""
    try:
        return int(process.memory_full_info().pss)
    except psutil.Error:
        return 0


def machine() -> dict[str, str]:
    """Where and with what a figure was taken."""
    packages = ("dagster", "pyspark", "deltalake", "duckdb", "torch", "onnxruntime")
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "cores": str(os.cpu_count()),
        "memory_gib": str(psutil.virtual_memory().total >> 30),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }
