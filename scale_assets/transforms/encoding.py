"""Columns of a tabular dataset as one vector, made alike here and by an ONNX graph.

Encoded by Arrow and numpy before Spark sees them: as Spark expressions, a hundred columns take
longer to compile for every query than a small dataset takes to learn from.

Layout: every numeric column (null replaced by its training mean), an indicator for each numeric
column that was null in training, and one 0/1 column for each category seen in training. A category
never seen is all zeros. Numbers pass through float32, since that is what the graph is fed.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from scale_assets.transforms.tables import TransformError

FEATURES = "_features"
BATCH_ROWS = 1 << 15


@dataclass(frozen=True)
class TabularFolder:
    """The part of a dataset folder that a tabular model needs."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: Path) -> "TabularFolder":
        manifest = json.loads((folder / "dataset.json").read_text())
        if manifest.get("kind") != "tabular":
            raise TransformError(f"{folder}: kind is {manifest.get('kind')!r}, must be 'tabular'")
        return cls(folder, manifest)

    @property
    def labels(self) -> list[str]:
        return list(self.manifest["labels"])

    @property
    def numeric(self) -> list[str]:
        return list(self.manifest["numeric"])

    @property
    def categorical(self) -> list[str]:
        return list(self.manifest["categorical"])

    def identity(self, columns: Sequence[str]) -> list[str]:
        """Columns that a prediction carries: all but the features, and what evaluation asks for."""
        rules = (self.manifest.get("evaluation") or {}).values()
        asked_for = {rule["column"] for rule in rules}
        features = {*self.numeric, *self.categorical} - asked_for
        return [name for name in columns if name not in features]

    def columns(self, split: str) -> list[str]:
        return list(pq.read_schema(self._files(split)[0]).names)

    def batches(self, split: str, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The split's rows in order, a bounded number at a time."""
        for file in self._files(split):
            with pq.ParquetFile(file) as parquet:
                yield from parquet.iter_batches(BATCH_ROWS, columns=list(columns))

    def _files(self, split: str) -> list[Path]:
        return [self.folder / file for file in self.manifest["splits"][split]]


@dataclass(frozen=True)
class Encoding:
    """What training data taught about the columns; the rest follows from it."""

    numeric: list[str]
    means: list[float]  # of values as float32, so that the graph imputes the very same number
    indicated: list[int]  # positions in `numeric` that had nulls
    categorical: list[str]
    categories: list[list[str]]

    @property
    def size(self) -> int:
        return len(self.numeric) + len(self.indicated) + sum(map(len, self.categories))

    def vectors(self, rows: pa.RecordBatch) -> np.ndarray[Any, Any]:
        """One vector per row, float64, shape (rows, size)."""
        values = [_numbers(rows[name]) for name in self.numeric]
        texts = [_texts(rows[name]) for name in self.categorical]
        columns = [
            *(np.where(np.isnan(v), mean, v) for v, mean in zip(values, self.means, strict=True)),
            *(np.isnan(values[index]) for index in self.indicated),
            *(
                pc.equal(text, category).to_numpy(zero_copy_only=False)
                for text, categories in zip(texts, self.categories, strict=True)
                for category in categories
            ),
        ]
        return np.stack(columns, axis=1, dtype=np.float64, casting="unsafe")


def learn_encoding(source: TabularFolder) -> Encoding:
    """One pass over the training rows.

    Raises:
        TransformError: There are none.
    """
    numeric, categorical = source.numeric, source.categorical
    num_rows = 0
    sums, known = np.zeros(len(numeric)), np.zeros(len(numeric), dtype=np.int64)
    seen: list[set[str]] = [set() for _ in categorical]
    for rows in source.batches("train", [*numeric, *categorical]):
        num_rows += rows.num_rows
        for index, name in enumerate(numeric):
            values = _numbers(rows[name])
            sums[index] += np.nansum(values)
            known[index] += np.count_nonzero(~np.isnan(values))
        for index, name in enumerate(categorical):
            seen[index].update(pc.unique(_texts(rows[name])).to_pylist())
    if not num_rows:
        raise TransformError("the training split has no rows")
    return Encoding(
        numeric=numeric,
        means=[float(np.float32(mean)) for mean in sums / np.maximum(known, 1)],
        indicated=[index for index in range(len(numeric)) if known[index] < num_rows],
        categorical=categorical,
        categories=[sorted(texts) for texts in seen],
    )


def write_encoded(
    source: TabularFolder,
    encoding: Encoding,
    split: str,
    *,
    keep: Sequence[str],
    on_logs: bool,
    path: Path,
) -> None:
    """Write the kept columns and the vectors, as lists of doubles under FEATURES.

    On logs, every entry x becomes sign(x) log(|x| + 1); 0/1 entries only change scale.

    Raises:
        TransformError: The split has no rows.
    """
    needed = dict.fromkeys([*keep, *encoding.numeric, *encoding.categorical])
    writer: pq.ParquetWriter | None = None
    try:
        for rows in source.batches(split, list(needed)):
            vectors = encoding.vectors(rows)
            if on_logs:
                vectors = np.sign(vectors) * np.log1p(np.abs(vectors))
            table = pa.table({**{n: rows[n] for n in keep}, FEATURES: _lists(vectors)})
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
    finally:
        if writer is not None:
            writer.close()
    if writer is None:
        raise TransformError(f"the {split} split has no rows")


def _lists(vectors: np.ndarray[Any, Any]) -> pa.ListArray:
    offsets = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(vectors.ravel()))


def _numbers(column: pa.Array) -> np.ndarray[Any, Any]:
    """As the graph sees them: rounded to float32, null and not-a-number alike."""
    numbers: np.ndarray[Any, Any] = column.cast(pa.float32()).to_numpy(zero_copy_only=False)
    return numbers.astype(np.float64)


def _texts(column: pa.Array) -> pa.Array:
    return column.cast(pa.string()).fill_null("")
