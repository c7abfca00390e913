"""What must hold before anybody trains on a dataset: nothing in it may know the answer."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from scale_assets.features.dataset import Check


def nothing_from_the_future(rows: pa.Table, *, time: str, views: Sequence[str]) -> Check:
    """No feature row that was used describes, or became known at, a time after the label's."""
    label_time = rows[time].cast(pa.timestamp("us", tz="UTC"))
    num_late = {
        f"{view}.{kind}": pc.sum(pc.greater(rows[f"{view}__{kind}"], label_time)).as_py() or 0
        for view in views
        for kind in ("feature_time", "known_at")
    }
    return Check(
        "nothing_from_the_future",
        passed=not any(num_late.values()),
        found={"num_late_rows": num_late, "num_rows": rows.num_rows},
    )


def every_label_once(labels: pa.Table, rows: pa.Table, *, keys: Sequence[str]) -> Check:
    """The join returned the label rows: none lost, none doubled, in the same order."""
    same_order = labels.num_rows == rows.num_rows and all(
        labels[key].combine_chunks().equals(rows[key].combine_chunks()) for key in keys
    )
    num_distinct = labels.group_by(list(keys)).aggregate([]).num_rows
    return Check(
        "every_label_once",
        passed=same_order and num_distinct == labels.num_rows,
        found={
            "num_labels": labels.num_rows,
            "num_distinct_labels": num_distinct,
            "num_rows": rows.num_rows,
        },
    )


def no_forbidden_columns(columns: Sequence[str], *, forbidden: Sequence[str]) -> Check:
    """No column matches a declared pattern, such as "closed_*"."""
    present = sorted(
        name for name in columns if any(fnmatchcase(name, pattern) for pattern in forbidden)
    )
    return Check(
        "no_forbidden_columns",
        passed=not present,
        found={"present": present, "forbidden": list(forbidden)},
    )


def no_feature_tells_the_label(
    rows: pa.Table,
    *,
    labels: Sequence[str],
    numeric: Sequence[str],
    categorical: Sequence[str],
    max_auc: float,
) -> Check:
    """No single feature ranks a label's rows better than max_auc, in either direction."""
    highest: dict[str, dict[str, float]] = {}
    for label in labels:
        known = rows.filter(pc.is_valid(rows[label]))
        truth_B = known[label].to_numpy().astype(bool)
        if truth_B.all() or not truth_B.any():
            continue  # one class only: nothing to tell apart
        aucs = {name: _separation(_codes(known[name]), truth_B) for name in numeric}
        aucs |= {name: _rate_auc(_codes(known[name]), truth_B) for name in categorical}
        best = sorted(aucs, key=lambda name: -aucs[name])[:5]
        highest[label] = {name: round(aucs[name], 4) for name in best}
    worst = max((auc for found in highest.values() for auc in found.values()), default=0.5)
    return Check(
        "no_feature_tells_the_label",
        passed=worst <= max_auc,
        found={"max_auc": max_auc, "worst_auc": worst, "highest": highest},
    )


def auc(score_B: np.ndarray, truth_B: np.ndarray) -> float:
    """Area under the ROC curve; equal scores count half."""
    _, codes_B = np.unique(score_B, return_inverse=True)
    return _ordered_auc(codes_B, truth_B)


def _ordered_auc(codes_B: np.ndarray, truth_B: np.ndarray) -> float:
    num_rows = np.bincount(codes_B)
    num_true = np.bincount(codes_B, weights=truth_B)
    num_false = num_rows - num_true
    false_below = np.cumsum(num_false) - num_false
    pairs = num_true.sum() * num_false.sum()
    return float((num_true * (false_below + num_false / 2)).sum() / pairs)


def _separation(codes_B: np.ndarray, truth_B: np.ndarray) -> float:
    found = _ordered_auc(codes_B, truth_B)
    return max(found, 1 - found)


def _rate_auc(codes_B: np.ndarray, truth_B: np.ndarray) -> float:
    """AUC of each category's share of positives, learnt on the other half of the rows."""
    fold_B = np.arange(len(truth_B)) % 2
    rate_B = np.empty(len(truth_B))
    for fold in (0, 1):
        learn = fold_B != fold
        size = codes_B.max() + 1
        num_rows = np.bincount(codes_B[learn], minlength=size)
        num_true = np.bincount(codes_B[learn], weights=truth_B[learn], minlength=size)
        rate = (num_true + truth_B.mean()) / (num_rows + 1)  # a category unseen gets the base rate
        rate_B[fold_B == fold] = rate[codes_B[fold_B == fold]]
    return auc(rate_B, truth_B)


def _codes(column: pa.ChunkedArray) -> np.ndarray:
    """Dense ranks of the values; null is the lowest, since being unknown can tell the label too."""
    values = column.combine_chunks()
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.int8())
    codes = values.dictionary_encode()
    order = pc.sort_indices(codes.dictionary).to_numpy()
    rank = np.empty(len(order) + 1, dtype=np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    rank[-1] = 0
    positions: np.ndarray = pc.fill_null(codes.indices, -1).to_numpy()
    return np.asarray(rank[positions])
