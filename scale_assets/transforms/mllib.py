"""Spark MLlib baselines over a tabular dataset folder, one model per label.

Each trainer writes what every candidate writes: predictions.parquet (test split), model.onnx and
signature.json.
"""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scale_assets.transforms.encoding import (
    FEATURES,
    Encoding,
    TabularFolder,
    learn_encoding,
    write_encoded,
)
from scale_assets.transforms.tables import TransformError

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from scale_assets.transforms.mllib_onnx import Graph

Report = Callable[[dict[str, float]], None]


@dataclass(frozen=True, kw_only=True)
class Family:
    """A kind of MLlib classifier: how to make one, what it is fed, how it becomes a graph."""

    estimator: Callable[..., Any]
    on_logs: bool
    add_to_graph: Callable[["Graph", str, Any, str], str]


def train_logistic(
    *,
    spark: "SparkSession",
    dataset: Path,
    output: Path,
    report: Report,
    regularization: float = 1e-4,
    max_iterations: int = 100,
) -> None:
    """Logistic regression on signed logs of the features."""
    from pyspark.ml.classification import LogisticRegression

    def estimator(**columns: str) -> Any:
        return LogisticRegression(regParam=regularization, maxIter=max_iterations, **columns)

    family = Family(estimator=estimator, on_logs=True, add_to_graph=_logistic_graph)
    _train(family, spark=spark, dataset=dataset, output=output, report=report)


def train_forest(
    *,
    spark: "SparkSession",
    dataset: Path,
    output: Path,
    report: Report,
    num_trees: int = 50,
    max_depth: int = 8,
    min_rows_per_leaf: int = 20,
    seed: int = 0,
) -> None:
    """Random forest; a leaf's share of true labels is its probability.

    As a regression on 0 and 1, whose splits are the same. MLlib's classifier merges leaves that
    vote for the same class, which for a rare label leaves no tree at all (SPARK-3159).
    """
    from pyspark.ml.regression import RandomForestRegressor

    def estimator(**columns: str) -> Any:
        return RandomForestRegressor(
            numTrees=num_trees,
            maxDepth=max_depth,
            minInstancesPerNode=min_rows_per_leaf,
            subsamplingRate=0.5,
            seed=seed,
            **columns,
        )

    family = Family(estimator=estimator, on_logs=False, add_to_graph=_forest_graph)
    _train(family, spark=spark, dataset=dataset, output=output, report=report)


def train_boosting(
    *,
    spark: "SparkSession",
    dataset: Path,
    output: Path,
    report: Report,
    num_trees: int = 20,
    max_depth: int = 4,
    learning_rate: float = 0.3,
    min_rows_per_leaf: int = 20,
    seed: int = 0,
) -> None:
    """Gradient-boosted trees."""
    from pyspark.ml.classification import GBTClassifier

    def estimator(**columns: str) -> Any:
        return GBTClassifier(
            maxIter=num_trees,
            maxDepth=max_depth,
            stepSize=learning_rate,
            minInstancesPerNode=min_rows_per_leaf,
            subsamplingRate=0.5,
            seed=seed,
            **columns,
        )

    family = Family(estimator=estimator, on_logs=False, add_to_graph=_boosting_graph)
    _train(family, spark=spark, dataset=dataset, output=output, report=report)


def _train(
    family: Family, *, spark: "SparkSession", dataset: Path, output: Path, report: Report
) -> None:
    source = TabularFolder.open(dataset)
    output.mkdir(parents=True, exist_ok=True)
    encoding = learn_encoding(source)
    with tempfile.TemporaryDirectory(prefix="_encoded-", dir=output) as folder:

        def encoded(split: str, keep: Sequence[str]) -> "DataFrame":
            path = Path(folder, f"{split}.parquet")
            write_encoded(source, encoding, split, keep=keep, on_logs=family.on_logs, path=path)
            return _vectors(spark.read.parquet(str(path)))

        rows = encoded("train", source.labels).cache()
        try:
            models = _fit_together(family, rows, source.labels, report)
        finally:
            rows.unpersist()
        scored = encoded("test", source.identity(source.columns("test")))
        _write_predictions(
            models, scored, labels=source.labels, path=output / "predictions.parquet"
        )
    _write_graph(family, models, encoding, labels=source.labels, output=output)


def _vectors(rows: "DataFrame") -> "DataFrame":
    from pyspark.ml.functions import array_to_vector

    return rows.withColumn(FEATURES, array_to_vector(FEATURES))


def _fit_together(
    family: Family, rows: "DataFrame", labels: Sequence[str], report: Report
) -> list[Any]:
    """One model per label, at the same time: a tree is many short jobs, between which cores idle."""
    from pyspark import inheritable_thread_target

    rows.count()  # fills the cache once, before all of them ask for it
    session = rows.sparkSession

    def fit(label: str) -> Any:
        return inheritable_thread_target(session)(_fit)(family, rows, label, report)

    with ThreadPoolExecutor(max_workers=len(labels)) as threads:
        return list(threads.map(fit, labels))


def _fit(family: Family, rows: "DataFrame", label: str, report: Report) -> Any:
    from pyspark.sql import functions as sf

    known = rows.where(sf.col(label).isNotNull()).select(
        FEATURES, sf.col(label).cast("double").alias("_label")
    )
    counts = known.agg(sf.count("*").alias("rows"), sf.sum("_label").alias("positive")).first()
    num_rows, num_positive = counts["rows"], counts["positive"] or 0
    if not 0 < num_positive < num_rows:
        raise TransformError(
            f"label {label}: {num_positive:.0f} of {num_rows} training rows are true; a model needs "
            "both outcomes"
        )
    started = time.monotonic()
    model = family.estimator(featuresCol=FEATURES, labelCol="_label").fit(known)
    seconds = time.monotonic() - started
    report({f"{label}/num_train_rows": float(num_rows), f"{label}/fit_seconds": seconds})
    return model


def _write_predictions(
    models: Sequence[Any], scored: "DataFrame", *, labels: Sequence[str], path: Path
) -> None:
    import pyarrow.parquet as pq
    from pyspark.ml.functions import vector_to_array
    from pyspark.sql import functions as sf

    identity = [name for name in scored.columns if name != FEATURES]
    for label, model in zip(labels, models, strict=True):
        score = f"score_{label.rsplit('_', 1)[-1]}"
        for column in ("prediction", "rawPrediction", "probability"):
            if model.hasParam(f"{column}Col"):
                model.set(model.getParam(f"{column}Col"), f"_{column}_{score}")
        if model.hasParam("probabilityCol"):
            probability = vector_to_array(sf.col(f"_probability_{score}"))[1]
        else:
            probability = sf.col(f"_prediction_{score}")
        scored = model.transform(scored).withColumn(score, probability.cast("float"))
        identity.append(score)
    pq.write_table(scored.select(*identity).toArrow(), path)


def _write_graph(
    family: Family,
    models: Sequence[Any],
    encoding: Encoding,
    *,
    labels: Sequence[str],
    output: Path,
) -> None:
    from scale_assets.transforms import mllib_onnx as to_onnx

    graph = to_onnx.Graph([], [])
    features = to_onnx.add_encoder(graph, encoding)
    if family.on_logs:
        features = to_onnx.add_logs(graph, features)
    probabilities = [
        family.add_to_graph(graph, features, model, label)
        for label, model in zip(labels, models, strict=True)
    ]
    to_onnx.save_graph(
        graph, encoding=encoding, probabilities=probabilities, path=output / "model.onnx"
    )
    signature = to_onnx.signature(output / "model.onnx")
    (output / "signature.json").write_text(json.dumps(signature, indent=1) + "\n")


def _logistic_graph(graph: "Graph", features: str, model: Any, label: str) -> str:
    from scale_assets.transforms import mllib_onnx as to_onnx

    return to_onnx.add_logistic(
        graph,
        features,
        weights=model.coefficients.toArray(),
        intercept=model.intercept,
        label=label,
    )


def _forest_graph(graph: "Graph", features: str, model: Any, label: str) -> str:
    from scale_assets.transforms import mllib_onnx as to_onnx

    trees = _saved_trees(model, weights=[1 / model.getNumTrees] * model.getNumTrees)
    total = to_onnx.add_trees(graph, features, trees=trees, label=label)
    return graph.node("Identity", [total], f"probability_{label}")


def _boosting_graph(graph: "Graph", features: str, model: Any, label: str) -> str:
    import numpy as np

    from scale_assets.transforms import mllib_onnx as to_onnx

    trees = _saved_trees(model, weights=model.treeWeights)
    total = to_onnx.add_trees(graph, features, trees=trees, label=label)
    # MLlib's logistic loss is defined on labels -1 and 1, hence the factor
    two = graph.constant(f"two_{label}", 2.0, np.float32)
    return to_onnx.add_sigmoid(graph, graph.node("Mul", [total, two], f"logit_{label}"), label)


def _saved_trees(model: Any, *, weights: Sequence[float]) -> Any:
    """MLlib's saved form is its one public listing of all nodes."""
    from scale_assets.transforms import mllib_onnx as to_onnx

    folder = Path(tempfile.mkdtemp(prefix="mllib-"))
    try:
        model.write().overwrite().save(str(folder / "model"))
        return to_onnx.read_trees(folder / "model", weights=weights)
    finally:
        shutil.rmtree(folder)
