"""Trains one or more candidates in this process: ``python -m training.run MODULE ...``.

Under Dagster the metrics travel through Pipes while training runs; elsewhere they are printed.
``torchrun -m training.run ...`` starts several ranks, of which only rank 0 reports.
"""

import argparse
import importlib
import inspect
import json
import logging
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from dagster_pipes import DAGSTER_PIPES_CONTEXT_ENV_VAR, PipesContext, open_dagster_pipes
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from training.errors import TrainingError

Report = Callable[[dict[str, float]], None]
OWN_PARAMETERS = {"dataset", "output", "report"}


@dataclass(frozen=True, kw_only=True)
class Job:
    """One candidate to train: which function, into which folder, with which hyperparameters."""

    entry: str
    output: Path
    hyperparameters: dict[str, Any]

    @property
    def candidate(self) -> str:
        return self.output.name


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    jobs = jobs_of(options)
    with ExitStack() as stack:
        send = stack.enter_context(Messages())
        for job in jobs:
            try:
                train_one(job, dataset=options.dataset, send=send)
            except Exception as error:
                text = f"{type(error).__name__}: {error}"
                send({"candidate": job.candidate, "event": "failed", "error": text})
                raise


def quieten() -> None:
    """Silence what libraries say about themselves; warnings about the user's data stay."""
    for name in ("lightning", "lightning.pytorch", "lightning.fabric", "torch.onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for text in (".*LeafSpec.*", ".*The axis name: .* will not be used.*", ".*num_workers.*"):
        warnings.filterwarnings("ignore", message=text)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="training.run", description=__doc__)
    parser.add_argument(
        "entries",
        nargs="+",
        metavar="MODULE[:FUNCTION]",
        help="What to train; several share this process. FUNCTION is `train` unless given.",
    )
    parser.add_argument("--dataset", required=True, type=Path, help="Folder with dataset.json.")
    parser.add_argument(
        "--output", required=True, nargs="+", type=Path, help="One folder for each entry."
    )
    parser.add_argument(
        "--hyperparameters", nargs="+", metavar="JSON", help="One object for each entry."
    )
    return parser.parse_args(arguments)


def jobs_of(options: argparse.Namespace) -> list[Job]:
    texts = options.hyperparameters or ["{}"] * len(options.entries)
    if not len(options.entries) == len(options.output) == len(texts):
        raise TrainingError(
            f"{len(options.entries)} entries need as many --output folders "
            f"(got {len(options.output)}) and --hyperparameters objects (got {len(texts)})"
        )
    return [
        Job(entry=entry, output=output, hyperparameters=parse_object(text, entry=entry))
        for entry, output, text in zip(options.entries, options.output, texts, strict=True)
    ]


def parse_object(text: str, *, entry: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise TrainingError(
            f"--hyperparameters of {entry} are not JSON ({error}): {text}"
        ) from error
    if not isinstance(value, dict):
        raise TrainingError(f"--hyperparameters of {entry} must be a JSON object, got {text}")
    return value


class Messages:
    """Where messages go: Dagster Pipes on rank 0, nowhere on other ranks, else the terminal."""

    def __init__(self) -> None:
        self.pipes: PipesContext | None = None

    def __enter__(self) -> Callable[[dict[str, Any]], None]:
        if os.environ.get("RANK", "0") != "0":
            return drop
        if DAGSTER_PIPES_CONTEXT_ENV_VAR in os.environ:
            self.pipes = open_dagster_pipes().__enter__()
            return self.pipes.report_custom_message
        return lambda message: print(json.dumps(message), flush=True)

    def __exit__(self, *exception: object) -> None:
        if self.pipes is not None:
            self.pipes.__exit__(*exception)


def drop(message: dict[str, Any]) -> None:
    """Ranks other than 0 repeat what rank 0 has said."""


def train_one(job: Job, *, dataset: Path, send: Callable[[dict[str, Any]], None]) -> None:
    # Before the heavy imports, so that the parent gets its tracking ready meanwhile.
    send({"candidate": job.candidate, "event": "loading"})
    train = load(job.entry)
    quieten()  # after the imports, which set their own levels
    hyperparameters = validated(train, job.hyperparameters, entry=job.entry)
    job.output.mkdir(parents=True, exist_ok=True)
    started = time.perf_counter()
    send({"candidate": job.candidate, "event": "started", "hyperparameters": hyperparameters})
    train(
        dataset=dataset,
        output=job.output,
        report=lambda metrics: send(
            {"candidate": job.candidate, "event": "metrics", "metrics": metrics}
        ),
        **hyperparameters,
    )
    send(
        {
            "candidate": job.candidate,
            "event": "finished",
            "seconds": round(time.perf_counter() - started, 3),
            "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        }
    )


def load(entry: str) -> Callable[..., None]:
    module_name, _, function_name = entry.partition(":")
    module = importlib.import_module(module_name)
    function: Callable[..., None] | None = getattr(module, function_name or "train", None)
    if not callable(function):
        raise TrainingError(f"{module_name} has no function {function_name or 'train'!r}")
    return function


def validated(train: Callable[..., None], given: dict[str, Any], *, entry: str) -> dict[str, Any]:
    """The hyperparameters with their defaults, checked against the function's annotations."""
    hints = get_type_hints(train, include_extras=True)
    parameters = {
        name: parameter
        for name, parameter in inspect.signature(train).parameters.items()
        if name not in OWN_PARAMETERS
    }
    fields: dict[str, Any] = {
        name: (hints[name], ... if parameter.default is parameter.empty else parameter.default)
        for name, parameter in parameters.items()
    }
    schema: type[BaseModel] = create_model(
        "Hyperparameters", __config__=ConfigDict(extra="forbid", strict=True), **fields
    )
    try:
        return schema.model_validate(given).model_dump()
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}, got {problem['input']!r}"
            for problem in error.errors()
        )
        raise TrainingError(
            f"hyperparameters of {entry}: {problems}. It takes: {', '.join(parameters)}"
        ) from error


if __name__ == "__main__":
    try:
        main()
    except TrainingError as error:
        sys.exit(f"error: {error}")
