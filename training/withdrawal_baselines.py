"""Honest baselines on the same split: logistic regression and histogram gradient boosting.

Both are released like the network: one ONNX graph from raw numbers and strings to probabilities.

Shape suffixes used below: B = rows, F = numeric features, C = categorical features, I = inputs of
the estimator, T = labels.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field
from sklearn.base import ClassifierMixin
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from training.dataset import Dataset, TabularSplit, open_dataset, read_tabular, write_predictions
from training.export import encode, run_in_batches, vocabulary_of, write_signature
from training.export_sklearn import export_estimators

PREDICTION_BATCH = 16384
Report = Callable[[dict[str, float]], None]


def logistic(
    *,
    dataset: Path,
    output: Path,
    report: Report,
    inverse_regularization: Annotated[float, Field(gt=0)] = 0.1,
    max_iterations: Annotated[int, Field(gt=0)] = 200,
    seed: int = 0,
) -> None:
    """Logistic regression on signed logarithms, missing indicators and one-hot categories."""
    source = open_dataset(dataset)

    def estimator() -> Pipeline:
        first_code = len(source.numeric)
        first_indicator = first_code + len(source.categorical)
        numeric = Pipeline(
            [("impute", SimpleImputer(keep_empty_features=True)), ("scale", StandardScaler())]
        )
        one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
        columns = ColumnTransformer(
            [
                ("numeric", numeric, list(range(first_code))),
                ("one_hot", one_hot, list(range(first_code, first_indicator))),
                (
                    "missing",
                    "passthrough",
                    list(range(first_indicator, first_indicator + first_code)),
                ),
            ]
        )
        regression = LogisticRegression(
            C=inverse_regularization, max_iter=max_iterations, random_state=seed
        )
        return Pipeline([("columns", columns), ("regression", regression)])

    fit_and_release(source, estimator, output=output, report=report, linear=True)


def boosting(
    *,
    dataset: Path,
    output: Path,
    report: Report,
    max_iterations: Annotated[int, Field(gt=0)] = 150,
    learning_rate: Annotated[float, Field(gt=0)] = 0.05,
    max_leaf_nodes: Annotated[int, Field(gt=1)] = 8,
    min_samples_leaf: Annotated[int, Field(gt=0)] = 200,
    l2_regularization: Annotated[float, Field(ge=0)] = 5.0,
    seed: int = 0,
) -> None:
    """Histogram gradient boosting on the raw numbers; unknown values go their own way."""

    def estimator() -> HistGradientBoostingClassifier:
        return HistGradientBoostingClassifier(
            max_iter=max_iterations,
            learning_rate=learning_rate,
            max_leaf_nodes=max_leaf_nodes,
            min_samples_leaf=min_samples_leaf,
            l2_regularization=l2_regularization,
            early_stopping=False,
            random_state=seed,
        )

    fit_and_release(open_dataset(dataset), estimator, output=output, report=report, linear=False)


def fit_and_release(
    source: Dataset,
    estimator: Callable[[], Any],
    *,
    output: Path,
    report: Report,
    linear: bool,
) -> None:
    """One estimator per label, exported as one graph, which then scores the test split."""
    split = read_tabular(source, "train")
    vocabularies = [vocabulary_of(column_B) for column_B in split.categorical_BC.T]
    inputs_BI = estimator_inputs(split, vocabularies, linear=linear)
    fitted: list[ClassifierMixin] = []
    for label, labels_B in zip(source.labels, split.labels_BT.T, strict=True):
        known_B = ~np.isnan(labels_B)
        usable_BI = without_empty_columns(inputs_BI[known_B])
        fitted.append(estimator().fit(usable_BI, labels_B[known_B].astype(np.int64)))
        report({"step": len(fitted), f"num_rows_{label}": float(known_B.sum())})
    path = output / "model.onnx"
    export_estimators(fitted, vocabularies, path, num_numeric=len(source.numeric), linear=linear)
    write_signature(path)
    score_test_split(source, path, output)


def estimator_inputs(
    split: TabularSplit, vocabularies: list[list[str]], *, linear: bool
) -> np.ndarray:
    """What the front of the exported graph computes, float32, shape (B, I).

    Numbers, then category codes; for a linear model the numbers are signed logarithms, and
    missing indicators follow.
    """
    numeric_BF = split.numeric_BF
    codes_BC = encode(split.categorical_BC, vocabularies).astype(np.float32)
    if not linear:
        return np.concatenate([numeric_BF, codes_BC], axis=1)
    logarithms_BF = np.sign(numeric_BF) * np.log1p(np.abs(numeric_BF))
    missing_BF = np.isnan(numeric_BF).astype(np.float32)
    return np.concatenate([logarithms_BF, codes_BC, missing_BF], axis=1)


def without_empty_columns(inputs_BI: np.ndarray) -> np.ndarray:
    """Zero where a column is never known: scikit-learn's binning fails on it, nothing splits on it."""
    return np.where(np.isnan(inputs_BI).all(axis=0), np.float32(0), inputs_BI)


def score_test_split(source: Dataset, path: Path, output: Path) -> None:
    test = read_tabular(source, "test")
    scores_BT = run_in_batches(
        path,
        len(test.numeric_BF),
        lambda part: {
            "numeric": test.numeric_BF[part],
            "categorical": test.categorical_BC[part],
        },
        size=PREDICTION_BATCH,
    )
    write_predictions(output / "predictions.parquet", test, scores_BT, source)
