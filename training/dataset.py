"""Reads a dataset folder: ``dataset.json`` and its Parquet shards, as arrays ready to train on.

Shape suffixes used below: B = rows, F = numeric features, C = categorical features, T = labels.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from training.errors import TrainingError


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What a dataset folder says about itself."""

    folder: Path
    manifest: dict[str, Any]

    @property
    def kind(self) -> str:
        return str(self.field("kind"))

    @property
    def entity(self) -> str:
        return str(self.field("entity"))

    @property
    def time(self) -> str:
        return str(self.field("time"))

    @property
    def labels(self) -> list[str]:
        return list(self.field("labels"))

    @property
    def numeric(self) -> list[str]:
        return list(self.field("numeric"))

    @property
    def categorical(self) -> list[str]:
        return list(self.field("categorical"))

    @property
    def evaluation(self) -> dict[str, Any]:
        return dict(self.manifest.get("evaluation", {}))

    def field(self, name: str) -> Any:
        if name not in self.manifest:
            raise TrainingError(
                f"{self.folder / 'dataset.json'} has no {name!r}; it has {sorted(self.manifest)}"
            )
        return self.manifest[name]


@dataclass(frozen=True, kw_only=True)
class TabularSplit:
    """One split as arrays; the released graph takes exactly `numeric_BF` and `categorical_BC`."""

    table: pa.Table  # every other column: entity, time, labels, those the protocol asks for
    numeric_BF: np.ndarray  # float32, NaN = unknown
    categorical_BC: np.ndarray  # object of str, "" = unknown
    labels_BT: np.ndarray  # float32, NaN = not known yet


def open_dataset(folder: Path) -> Dataset:
    path = folder / "dataset.json"
    if not path.exists():
        raise TrainingError(f"no dataset.json in {folder}: materialize the dataset first")
    return Dataset(folder=folder, manifest=json.loads(path.read_text()))


def read_parquet(dataset: Dataset, file: str) -> pa.Table:
    """One file of the folder as a table, for datasets whose `splits` do not apply."""
    return pq.read_table(dataset.folder / file)


def read_split(dataset: Dataset, split: str) -> pa.Table:
    splits = dataset.field("splits")
    if split not in splits:
        raise TrainingError(f"{dataset.folder} has no split {split!r}; it has {sorted(splits)}")
    return pa.concat_tables(pq.read_table(dataset.folder / file) for file in splits[split])


def read_tabular(dataset: Dataset, split: str) -> TabularSplit:
    """One split of a tabular dataset.

    Raises:
        TrainingError: The dataset is of another kind, the split is empty or a column is missing.
    """
    if dataset.kind != "tabular":
        raise TrainingError(f"{dataset.folder} holds a {dataset.kind} dataset; tabular is needed")
    table = read_split(dataset, split)
    named = [*dataset.labels, *dataset.numeric, *dataset.categorical]
    missing = sorted(set(named) - set(table.column_names))
    if missing:
        raise TrainingError(f"split {split!r} of {dataset.folder} lacks the columns {missing}")
    if table.num_rows == 0:
        raise TrainingError(f"split {split!r} of {dataset.folder} is empty")
    # A feature that the protocol asks for, the day for instance, is identity as well.
    asked_for = {rule["column"] for rule in dataset.evaluation.values()}
    features = {*dataset.numeric, *dataset.categorical} - asked_for
    return TabularSplit(
        table=table.select([name for name in table.column_names if name not in features]),
        numeric_BF=float_matrix(table, dataset.numeric),
        categorical_BC=string_matrix(table, dataset.categorical),
        labels_BT=float_matrix(table, dataset.labels),
    )


def float_matrix(table: pa.Table, columns: list[str]) -> np.ndarray:
    """Columns side by side as float32, null as NaN, shape (B, len(columns))."""
    matrix_BF = np.empty((table.num_rows, len(columns)), dtype=np.float32)
    for index, name in enumerate(columns):
        values = pc.cast(table.column(name), pa.float64(), safe=False)
        matrix_BF[:, index] = values.to_numpy(zero_copy_only=False)
    return matrix_BF


def string_matrix(table: pa.Table, columns: list[str]) -> np.ndarray:
    """Columns side by side as Python strings, null as "", shape (B, len(columns))."""
    matrix_BC = np.empty((table.num_rows, len(columns)), dtype=object)
    for index, name in enumerate(columns):
        values = pc.fill_null(pc.cast(table.column(name), pa.string()), "")
        encoded = values.combine_chunks().dictionary_encode()  # equal strings are one object
        words = encoded.dictionary.to_numpy(zero_copy_only=False)
        matrix_BC[:, index] = words[encoded.indices.to_numpy()]
    return matrix_BC


def write_predictions(
    path: Path, split: TabularSplit, scores_BT: np.ndarray, dataset: Dataset
) -> None:
    """One row per row of the split: its identity, labels, and one `score_<horizon>` per label."""
    table = split.table
    for index, label in enumerate(dataset.labels):
        table = table.append_column(
            score_column(label), pa.array(scores_BT[:, index], pa.float32())
        )
    pq.write_table(table, path)


def score_column(label: str) -> str:
    """`cancelled_within_28d` is scored by `score_28d`."""
    return f"score_{label.rsplit('_', 1)[-1]}"
