"""The server understands what the settings say to it."""

import argparse
from pathlib import Path

import pytest

from scale_assets.demo import serve_command
from scale_assets.settings import Settings
from serving.online_store import add_online_store
from serving.vector_sample import VectorSample, add_vector_sample, vector_sample


def parsed(command: list[str]) -> argparse.Namespace:
    """The options as `python -m serving` reads them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--releases", type=Path)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    add_online_store(parser)
    add_vector_sample(parser)
    return parser.parse_args(command[3:])  # behind python -m serving


@pytest.mark.parametrize(("asked", "rate"), [(None, 0.25), (1.0, 1.0)])
def test_the_sample_of_vectors(tmp_path: Path, asked: float | None, rate: float) -> None:
    settings = Settings(data_dir=tmp_path, vectors_sample=0.25, vectors_mib=3, vectors_days=1.5)

    command = serve_command(settings, host="127.0.0.1", port=1, vectors_sample=asked)

    assert vector_sample(parsed(command)) == VectorSample(
        folder=tmp_path / "vectors", rate=rate, max_mib=3, max_days=1.5
    )


def test_a_sample_of_none_logs_nothing(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, vectors_sample=0)

    assert vector_sample(parsed(serve_command(settings, host="127.0.0.1", port=1))) is None
