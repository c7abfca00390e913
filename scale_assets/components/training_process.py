"""Trains candidates in a child process and hands on what it says while it runs."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from scale_assets.errors import ScaleError

POLL_SECONDS = 0.1
GRACE_SECONDS = 20.0
# Threads that spin while they wait take the cores from Spark, the web server and each other.
CHILD_ENVIRONMENT = {"OMP_WAIT_POLICY": "passive"}


class TrainingFailed(ScaleError):
    """The child process ended badly; the message is its own error where it could send one."""


@dataclass(frozen=True, kw_only=True)
class ChildJob:
    """One candidate as the child process gets it."""

    entry: str
    output: Path
    hyperparameters: Mapping[str, Any]


def training_command(jobs: Sequence[ChildJob], *, dataset: Path, num_ranks: int) -> list[str]:
    """`python -m training.run ...`, under torchrun where several ranks are asked for."""
    launcher = [sys.executable, "-m"]
    if num_ranks > 1:
        launcher += ["torch.distributed.run", "--standalone"]
        launcher += [f"--nproc-per-node={num_ranks}", "-m"]
    return [
        *launcher,
        "training.run",
        *(job.entry for job in jobs),
        "--dataset",
        str(dataset),
        "--output",
        *(str(job.output) for job in jobs),
        "--hyperparameters",
        *(json.dumps(job.hyperparameters) for job in jobs),
    ]


def run_training(
    context: dg.AssetExecutionContext, command: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Yield the child's messages as they arrive; stopping early stops the child as well.

    Raises:
        TrainingFailed: It ended with an error.
    """
    with dg.open_pipes_session(
        context=context,
        context_injector=dg.PipesTempFileContextInjector(),
        message_reader=dg.PipesTempFileMessageReader(),
    ) as session:
        environment = {**CHILD_ENVIRONMENT, **os.environ, **session.get_bootstrap_env_vars()}
        process = subprocess.Popen(command, env=environment)
        seen: list[dict[str, Any]] = []
        try:
            while process.poll() is None:
                yield from _unseen(session, seen)
                _wait(process)
        finally:
            _stop(process)
    yield from _unseen(session, seen)
    if process.returncode != 0:
        raise TrainingFailed(_explain(process.returncode, seen))


def _unseen(session: dg.PipesSession, seen: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for message in session.get_custom_messages()[len(seen) :]:
        seen.append(message)
        yield message


def _wait(process: "subprocess.Popen[bytes]") -> None:
    try:
        process.wait(timeout=POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return  # still training: look for messages again


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Leave no child behind when the run is cancelled or a message cannot be handled."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(timeout=GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _explain(returncode: int, messages: Sequence[Mapping[str, Any]]) -> str:
    for message in messages:
        if message["event"] == "failed":
            return f"candidate {message['candidate']!r}: {message['error']}"
    if returncode == -9:
        return "training was killed (signal 9): most likely it ran out of memory"
    return f"training ended with code {returncode} before it said why; its output is in the logs"
