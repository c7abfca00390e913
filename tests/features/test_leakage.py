"""Each check passes on honest rows and fails on the fault that it is for."""

import numpy as np
import pyarrow as pa
import pytest
from sklearn.metrics import roc_auc_score

from scale_assets.features.leakage import (
    auc,
    every_label_once,
    no_feature_tells_the_label,
    no_forbidden_columns,
    nothing_from_the_future,
)

TIME = pa.timestamp("us", tz="UTC")


def times(*micros: int | None) -> pa.Array:
    return pa.array(micros, TIME)


@pytest.mark.parametrize(
    ("feature_time", "known_at", "num_late"),
    [((5, None), (5, None), 0), ((6, None), (5, None), 1), ((5, 1), (5, 6), 1)],
)
def test_nothing_from_the_future(feature_time: tuple, known_at: tuple, num_late: int) -> None:
    rows = pa.table(
        {"t": times(5, 5), "v__feature_time": times(*feature_time), "v__known_at": times(*known_at)}
    )

    check = nothing_from_the_future(rows, time="t", views=["v"])

    assert check.passed == (num_late == 0)
    assert sum(check.found["num_late_rows"].values()) == num_late


@pytest.mark.parametrize(
    ("found", "passed"),
    [(["a", "b"], True), (["b", "a"], False), (["a"], False), (["a", "b", "b"], False)],
)
def test_every_label_once(found: list[str], passed: bool) -> None:
    assert (
        every_label_once(pa.table({"k": ["a", "b"]}), pa.table({"k": found}), keys=["k"]).passed
        is passed
    )


def test_a_label_that_comes_twice_is_found() -> None:
    labels = pa.table({"k": ["a", "a"]})

    assert not every_label_once(labels, labels, keys=["k"]).passed


def test_forbidden_columns_by_pattern() -> None:
    check = no_forbidden_columns(
        ["clicks", "unregistered_day", "final_result"], forbidden=["final_result", "unregistered_*"]
    )

    assert check.found["present"] == ["final_result", "unregistered_day"]
    assert not check.passed
    assert no_forbidden_columns(["clicks"], forbidden=["final_*"]).passed


def rows_with(leak: str | None) -> pa.Table:
    random = np.random.default_rng(4)
    label = random.random(4_000) < 0.2
    noise = random.normal(size=4_000)
    columns = {
        "label": pa.array(label),
        "clicks": pa.array(noise),
        "flag": pa.array(random.random(4_000) < 0.5).cast(pa.int8()),
        "region": pa.array(random.choice(list("abcdefgh"), 4_000)),
        "user": pa.array([f"user {i}" for i in range(4_000)]),  # of one row each: tells nothing
    }
    if leak == "value":
        columns["clicks"] = pa.array(noise - 4 * label)
    if leak == "null":
        columns["clicks"] = pa.array([None if y else x for x, y in zip(noise, label, strict=True)])
    if leak == "category":
        columns["region"] = pa.array(np.where(label, "left", "here"))
    return pa.table(columns)


@pytest.mark.parametrize(
    ("leak", "culprit"),
    [(None, None), ("value", "clicks"), ("null", "clicks"), ("category", "region")],
)
def test_a_feature_that_tells_the_label_is_named(leak: str | None, culprit: str | None) -> None:
    check = no_feature_tells_the_label(
        rows_with(leak),
        labels=["label"],
        numeric=["clicks", "flag"],
        categorical=["region", "user"],
        max_auc=0.75,
    )

    assert check.passed == (culprit is None)
    if culprit:
        assert next(iter(check.found["highest"]["label"])) == culprit


def test_a_label_of_one_class_has_nothing_to_tell() -> None:
    rows = pa.table({"label": [True, True, None], "x": [1, 2, 3]})
    check = no_feature_tells_the_label(
        rows, labels=["label"], numeric=["x"], categorical=[], max_auc=0.6
    )

    assert check.passed


def test_auc_is_scikit_learns() -> None:
    random = np.random.default_rng(1)
    score, truth = random.integers(0, 9, 500).astype(float), random.random(500) < 0.3

    assert auc(score, truth) == pytest.approx(roc_auc_score(truth, score))
