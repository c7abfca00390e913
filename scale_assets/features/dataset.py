"""A dataset folder: written beside its place, checked, then put there whole."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from scale_assets.errors import ScaleError
from scale_assets.lake import Lake

NUMERIC = {"bool", "int32", "int64", "float32", "float64"}


class DatasetError(ScaleError):
    """A declaration that does not fit its tables, or rows that must not be trained on."""


class NotEnoughHistory(DatasetError):
    """The declaration fits, but what it needs has not happened yet; later runs will have it."""


@dataclass(frozen=True)
class Check:
    """The verdict of one check on a dataset, with the figures behind it."""

    name: str
    passed: bool
    found: Mapping[str, Any] = field(default_factory=dict)


@contextmanager
def replaced_folder(folder: Path) -> Iterator[Path]:
    """An empty folder that takes the place of ``folder`` if the block ends without an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(leftover)
    staged = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        staged.chmod(0o755)
        yield staged
        if folder.exists():
            folder.rename(staged.with_name(f"{staged.name}-old"))
        staged.rename(folder)
    finally:
        for leftover in folder.parent.glob(f"{staged.name}*"):
            shutil.rmtree(leftover)


def write_rows(table: pa.Table, path: Path) -> None:
    """One Parquet file; equal rows give equal bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="zstd", row_group_size=100_000)


def write_manifest(folder: Path, manifest: Mapping[str, Any], *, lake: Lake) -> None:
    """dataset.json: the manifest, and the contract versions behind the lake's sources."""
    described = {**manifest, "contract_versions": contract_versions(lake)}
    text = json.dumps(described, indent=2, sort_keys=True)
    (folder / "dataset.json").write_text(text + "\n")


def contract_versions(lake: Lake) -> dict[str, str]:
    """The contract version that each source's newest rows were checked against, by table."""
    said = {table: lake.last_metadata(table).get("contract_version") for table in lake.tables()}
    return {table: str(version) for table, version in said.items() if version is not None}


def split_columns(columns: Sequence[tuple[str, str]]) -> tuple[list[str], list[str]]:
    """Names of the numeric and of the categorical columns, by their declared types.

    Raises:
        DatasetError: A column is neither, such as a list.
    """
    for name, kind in columns:
        if kind not in NUMERIC and kind != "string":
            raise DatasetError(
                f"feature {name!r} is a {kind}; a tabular set takes numbers and strings, "
                "so leave it out of the feature service"
            )
    numeric = [name for name, kind in columns if kind in NUMERIC]
    return numeric, [name for name, kind in columns if kind == "string"]
