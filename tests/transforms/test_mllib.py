"""Every MLlib baseline scores alike in Spark and in the graph that would be served."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from scale_assets.transforms.mllib import train_boosting, train_forest, train_logistic
from scale_assets.transforms.tables import TransformError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

NUMERIC = ["clicks", "score", "always_known"]
CATEGORICAL = ["region", "course"]
LABELS = ["left_within_7d", "left_within_28d"]


def write_dataset(
    folder: Path, *, num_rows: int = 400, all_left: bool = False, rate: float = 1.0
) -> Path:
    """Nulls in numbers, texts and labels; the test split has a category never trained on."""
    rng = np.random.default_rng(7)
    for split in ("train", "test"):
        clicks, score = rng.gamma(1.0, 30.0, num_rows), rng.normal(60.0, 20.0, num_rows)
        left = rng.random(num_rows) < rate / (1 + np.exp((clicks - 20) / 20))
        unknown_score, unmatured = rng.random(num_rows) < 0.2, rng.random(num_rows) < 0.1
        regions = np.array(["north", "south", None] + (["moon"] if split == "test" else []))
        table = pa.table(
            {
                "registration_id": [f"{split}-{row}" for row in range(num_rows)],
                "label_time": pa.array(
                    [datetime(2014, 3, 1, tzinfo=UTC)] * num_rows, pa.timestamp("us", tz="UTC")
                ),
                LABELS[0]: pa.array(left | all_left, pa.bool_()),
                LABELS[1]: pa.array(left | all_left, pa.bool_(), mask=unmatured),
                "clicks": clicks.astype(np.int64),
                "score": pa.array(score, pa.float64(), mask=unknown_score),
                "always_known": np.where(rng.random(num_rows) < (split == "test") / 2, np.nan, 1.5),
                "region": pa.array(rng.choice(regions, num_rows).tolist(), pa.string()),
                "course": pa.array(["AAA"] * num_rows),
            }
        )
        (folder / split).mkdir(parents=True)
        pq.write_table(table, folder / split / "part-0.parquet")
    manifest = {
        "name": "churn",
        "kind": "tabular",
        "entity": "registration_id",
        "time": "label_time",
        "labels": LABELS,
        "numeric": NUMERIC,
        "categorical": CATEGORICAL,
        "splits": {split: [f"{split}/part-0.parquet"] for split in ("train", "test")},
        "evaluation": {},
    }
    (folder / "dataset.json").write_text(json.dumps(manifest))
    return folder


def graph_scores(model: Path, table: pa.Table) -> np.ndarray:
    numeric = [table[name].cast(pa.float64()).to_numpy() for name in NUMERIC]
    categorical = [table[name].fill_null("").to_pylist() for name in CATEGORICAL]
    inputs = {
        "numeric": np.stack(numeric, axis=1).astype(np.float32),
        "categorical": np.array(categorical, dtype=object).T,
    }
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, inputs)
    return np.asarray(scores)


@pytest.mark.parametrize(
    ("train", "settings"),
    [
        pytest.param(train_logistic, {}, id="logistic"),
        pytest.param(train_forest, {"num_trees": 5, "max_depth": 4}, id="forest"),
        pytest.param(train_boosting, {"num_trees": 4, "max_depth": 3}, id="boosting"),
    ],
)
def test_the_graph_scores_as_spark_does(
    spark: "SparkSession", tmp_path: Path, train: Callable[..., None], settings: dict[str, Any]
) -> None:
    dataset, output = write_dataset(tmp_path / "dataset"), tmp_path / "candidate"
    reported: dict[str, float] = {}

    train(spark=spark, dataset=dataset, output=output, report=reported.update, **settings)

    test = pq.read_table(dataset / "test" / "part-0.parquet").sort_by("registration_id")
    predictions = pq.read_table(output / "predictions.parquet").sort_by("registration_id")
    by_spark = np.stack([predictions["score_7d"], predictions["score_28d"]], axis=1)
    by_graph = graph_scores(output / "model.onnx", test)
    assert np.abs(by_graph - by_spark).max() < 1e-5
    assert predictions.column_names == [
        "registration_id",
        "label_time",
        *LABELS,
        "score_7d",
        "score_28d",
    ]

    left = np.array(test[LABELS[0]].to_pylist())
    assert by_graph[left, 0].mean() > by_graph[~left, 0].mean() + 0.05
    matured = pq.read_table(dataset / "train" / "part-0.parquet")[LABELS[1]].drop_null()
    assert reported[f"{LABELS[1]}/num_train_rows"] == len(matured)
    signature = json.loads((output / "signature.json").read_text())
    assert signature["inputs"][0] == {"name": "numeric", "type": "float32", "shape": [-1, 3]}
    assert signature["outputs"] == [{"name": "probabilities", "type": "float32", "shape": [-1, 2]}]


def test_a_label_with_one_outcome_is_refused(spark: "SparkSession", tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "dataset", num_rows=20, all_left=True)

    with pytest.raises(TransformError, match="left_within_7d: 20 of 20 training rows are true"):
        train_logistic(spark=spark, dataset=dataset, output=tmp_path, report=print)


def test_a_forest_still_ranks_by_a_rare_label(spark: "SparkSession", tmp_path: Path) -> None:
    """No leaf has a majority of true labels; MLlib's classifier would merge them all into one."""
    dataset = write_dataset(tmp_path / "dataset", num_rows=2000, rate=0.1)

    train_forest(
        spark=spark,
        dataset=dataset,
        output=tmp_path / "forest",
        report=print,
        num_trees=10,
        max_depth=3,
    )

    predictions = pq.read_table(tmp_path / "forest" / "predictions.parquet")
    left = np.array(predictions[LABELS[0]].to_pylist())
    scores = predictions["score_7d"].to_numpy()
    assert scores.max() < 0.5
    assert len(np.unique(scores)) > 20  # merged trees would score every row alike
    assert scores[left].mean() > scores[~left].mean()
