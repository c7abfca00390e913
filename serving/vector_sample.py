"""Which served vectors are logged, where, and for how long: from the command line."""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from serving.errors import ServingError
from serving.vector_files import VectorFiles
from serving.vectors import VectorLog

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class VectorSample:
    """``rate`` is the share of entities, 0 to 1; the folder keeps to both bounds."""

    folder: Path
    rate: float
    max_mib: float
    max_days: float

    def log(self, count: Callable[[str], None]) -> VectorLog:
        """Start to take vectors.

        Raises:
            ServingError: The folder cannot be made.
        """
        try:
            files = VectorFiles(
                self.folder,
                max_bytes=int(self.max_mib * MIB),
                max_age=timedelta(days=self.max_days),
            )
        except OSError as error:
            raise ServingError(
                f"--vectors: {self.folder} cannot be written to: {error}; give another folder, or "
                "none to log nothing"
            ) from error
        return VectorLog(files, rate=self.rate, count=count)


def add_vector_sample(parser: argparse.ArgumentParser) -> None:
    """The options that ``vector_sample`` reads."""
    parser.add_argument("--vectors", type=Path, help="folder to log served vectors to")
    parser.add_argument(
        "--sample-vectors",
        type=_share,
        default=0.01,
        help="share of entities, by a hash of the key, whose vectors are logged",
    )
    parser.add_argument("--vectors-mib", type=_positive, default=256, help="size of that log")
    parser.add_argument("--vectors-days", type=_positive, default=28, help="how long it keeps them")


def vector_sample(options: argparse.Namespace) -> VectorSample | None:
    """What the command line says; None where nothing is to be logged."""
    if options.vectors is None or not options.sample_vectors:
        return None
    return VectorSample(
        folder=options.vectors,
        rate=options.sample_vectors,
        max_mib=options.vectors_mib,
        max_days=options.vectors_days,
    )


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share from 0 to 1")
    return share


def _positive(text: str) -> float:
    number = float(text)
    if not number > 0:
        raise argparse.ArgumentTypeError(f"{text} is not greater than 0")
    return number
