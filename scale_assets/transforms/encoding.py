"""Columns of a tabular dataset as one vector, made alike by Spark and by an ONNX graph.

Layout: every numeric column (null replaced by its training mean), an indicator for each numeric
column that was null in training, and one 0/1 column for each category seen in training. A category
never seen is all zeros. Numbers pass through float32, since that is what the graph is fed.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scale_assets.transforms.tables import TransformError

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

FEATURES = "_features"


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

    def read(self, spark: "SparkSession", split: str) -> "DataFrame":
        files = [str(self.folder / file) for file in self.manifest["splits"][split]]
        return spark.read.parquet(*files)


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

    def columns(self) -> list["Column"]:
        """The vector's entries as double columns, in order."""
        from pyspark.sql import functions as sf

        filled = [
            sf.coalesce(_known(name), sf.lit(mean)).alias(f"_n{index}")
            for index, (name, mean) in enumerate(zip(self.numeric, self.means, strict=True))
        ]
        missing = [
            _known(self.numeric[index]).isNull().cast("double").alias(f"_m{index}")
            for index in self.indicated
        ]
        shown = [
            (_text(name) == category).cast("double").alias(f"_c{index}_{position}")
            for index, name in enumerate(self.categorical)
            for position, category in enumerate(self.categories[index])
        ]
        return [*filled, *missing, *shown]

    def apply(self, rows: "DataFrame", *, keep: Sequence[str]) -> "DataFrame":
        """The kept columns and the feature vector."""
        from pyspark.ml.feature import VectorAssembler

        entries = self.columns()
        wide = rows.select(*keep, *entries)
        names = wide.columns[len(keep) :]
        assembler = VectorAssembler(inputCols=names, outputCol=FEATURES)
        return assembler.transform(wide).select(*keep, FEATURES)


def learn_encoding(rows: "DataFrame", *, numeric: list[str], categorical: list[str]) -> Encoding:
    """One pass over the training rows."""
    import numpy as np
    from pyspark.sql import functions as sf

    means = [sf.avg(_known(name)).alias(f"mean{i}") for i, name in enumerate(numeric)]
    nulls = [
        sf.max(_known(name).isNull().cast("int")).alias(f"null{i}")
        for i, name in enumerate(numeric)
    ]
    seen = [sf.collect_set(_text(name)).alias(f"seen{i}") for i, name in enumerate(categorical)]
    found = rows.agg(sf.count("*").alias("num_rows"), *means, *nulls, *seen).first().asDict()
    if not found["num_rows"]:
        raise TransformError("the training split has no rows")
    return Encoding(
        numeric=numeric,
        means=[float(np.float32(found[f"mean{i}"] or 0.0)) for i in range(len(numeric))],
        indicated=[i for i in range(len(numeric)) if found[f"null{i}"]],
        categorical=categorical,
        categories=[sorted(found[f"seen{i}"]) for i in range(len(categorical))],
    )


def _known(name: str) -> "Column":
    """A number as the graph sees it: float32, not-a-number meaning null."""
    from pyspark.sql import functions as sf

    value = sf.col(name).cast("float")
    return sf.when(~sf.isnan(value), value).cast("double")


def _text(name: str) -> "Column":
    from pyspark.sql import functions as sf

    return sf.coalesce(sf.col(name).cast("string"), sf.lit(""))
