"""The input world: a folder with the seven OULAD tables, as Parquet or as the official CSV files."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from scale_assets.errors import ScaleError
from scale_assets.replay.world import WorldSpec, write_world

TABLE_NAMES = (
    "courses",
    "assessments",
    "vle",
    "studentInfo",
    "studentRegistration",
    "studentAssessment",
    "studentVle",
)
SHARED_FOLDER = Path("../shared/data/oulad")  # relative to the project's root
FETCHED_FOLDER = "oulad"  # inside the cache folder, filled by `scale fetch oulad`

Layout = Literal["parquet", "csv"]


class InputError(ScaleError):
    """The input folder lacks a table, a column or a value that the replay needs."""


@dataclass(frozen=True)
class Input:
    """One folder of tables, how they are stored, and why this folder was taken."""

    folder: Path
    layout: Layout
    description: str

    def table_path(self, table: str) -> Path:
        """The one file of a table; studentVle in Parquet is a folder, see click_files()."""
        return self.folder / f"{table}.{self.layout}"

    def click_files(self) -> list[Path]:
        """The files of studentVle, in a fixed order."""
        if self.layout == "csv":
            return [self.table_path("studentVle")]
        pattern = "code_module=*/code_presentation=*/*.parquet"
        return sorted((self.folder / "studentVle_ds").glob(pattern))

    def files(self) -> list[Path]:
        """Every file of the seven tables, in a fixed order."""
        small = [self.table_path(table) for table in TABLE_NAMES if table != "studentVle"]
        return small + self.click_files()

    def fingerprint(self) -> str:
        """SHA-256 over the names and contents of all files; the folder's place does not count."""
        digest = hashlib.sha256()
        for path in self.files():
            digest.update(f"{path.relative_to(self.folder)}\0{path.stat().st_size}\0".encode())
            for chunk in _chunks(path):
                digest.update(chunk)
        return digest.hexdigest()


def find_input(
    explicit: Path | None,
    cache_dir: Path,
    *,
    project_root: Path,
    synthetic: WorldSpec | None = None,
) -> Input:
    """Return the first input that is there: explicit, shared, fetched, else a synthetic world.

    A ``synthetic`` spec asks for that world outright and excludes ``explicit``.

    Raises:
        InputError: The explicit folder is not a complete input, or both were asked for.

    """
    if explicit is not None and synthetic is not None:
        raise InputError(f"--input {explicit} and a synthetic world exclude each other; give one")
    if explicit is not None:
        return open_input(explicit, reason="given by --input")
    if synthetic is not None:
        return synthetic_input(cache_dir, synthetic, reason="asked for")
    shared = (project_root / SHARED_FOLDER).resolve()
    if shared.is_dir():
        return open_input(shared, reason=f"found at {SHARED_FOLDER}")
    fetched = cache_dir / FETCHED_FOLDER
    if fetched.is_dir():
        return open_input(fetched, reason="downloaded by `scale fetch oulad`")
    return synthetic_input(
        cache_dir, WorldSpec(), reason="no OULAD here; `scale fetch oulad` downloads it"
    )


def open_input(folder: Path, *, reason: str) -> Input:
    """Check that a folder holds all seven tables in one layout.

    Raises:
        InputError: The folder or one of its tables is missing.

    """
    if not folder.is_dir():
        raise InputError(f"input folder {folder} does not exist; give a folder with OULAD's tables")
    layout: Layout = "csv" if (folder / "courses.csv").is_file() else "parquet"
    opened = Input(
        folder=folder,
        layout=layout,
        description=f"OULAD tables ({layout}) in {folder}: {reason}",
    )
    missing = [path.name for path in opened.files() if not path.is_file()]
    if not opened.click_files():
        missing.append("studentVle_ds/code_module=*/code_presentation=*/*.parquet")
    if missing:
        raise InputError(
            f"input folder {folder} lacks {', '.join(missing)}; it must hold the seven tables "
            f"{', '.join(TABLE_NAMES)} as .csv, or as .parquet with studentVle_ds/"
        )
    for path in opened.files() if layout == "csv" else []:
        if _last_line(path).count(b'"') % 2:
            raise InputError(f"{path} ends inside a quoted value, so it was cut off; copy it anew")
    return opened


def synthetic_input(cache_dir: Path, spec: WorldSpec, *, reason: str) -> Input:
    """The synthetic world of this spec, generated into the cache folder unless it is there."""
    folder = write_world(cache_dir / f"synthetic-{spec.digest()}", spec)
    return Input(
        folder=folder,
        layout="parquet",
        description=f"synthetic world, seed {spec.seed}, in {folder}: {reason}",
    )


def _last_line(path: Path, *, num_bytes: int = 1 << 14) -> bytes:
    """The last line, which Arrow would accept with an open quote; rows are far shorter."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - num_bytes))
        return file.read().rstrip(b"\r\n").rpartition(b"\n")[2]


def _chunks(path: Path, *, num_bytes: int = 1 << 20) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(num_bytes):
            yield chunk


def module_names(source: Input) -> list[str]:
    """The courses that the input has."""
    path = source.table_path("courses")
    if source.layout == "csv":
        import pyarrow.csv

        table = pyarrow.csv.read_csv(path)
    else:
        import pyarrow.parquet

        table = pyarrow.parquet.read_table(path)
    return sorted(set(table["code_module"].to_pylist()))
