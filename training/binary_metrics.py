"""AUC, average precision, calibration and curves of binary scores, with clustered intervals.

Shape suffixes used below: B = rows, N = clusters, R = resamples, G = groups of equal scores.
"""

from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

NUM_CALIBRATION_BINS = 10
MAX_CURVE_POINTS = 200


@dataclass(frozen=True, kw_only=True)
class Grouped:
    """Positive and negative weight at each distinct score, lowest score first.

    Neighbouring groups without a positive are one: no metric changes between them. That leaves
    about two groups per positive, which makes hundreds of resamples of a rare label cheap.
    """

    positives_GN: csr_matrix
    negatives_GN: csr_matrix


def group(scores_B: np.ndarray, labels_B: np.ndarray, clusters_B: np.ndarray) -> Grouped:
    order = np.argsort(scores_B, kind="stable")
    scores_B, labels_B, clusters_B = scores_B[order], labels_B[order] > 0, clusters_B[order]
    tied_B = np.concatenate([[0], np.cumsum(scores_B[1:] != scores_B[:-1])])
    has_positive = np.bincount(tied_B, weights=labels_B) > 0
    # A run of groups without positives becomes one; a group with positives stays alone.
    starts = np.concatenate([[True], has_positive[1:] | has_positive[:-1]])
    groups_B = (np.cumsum(starts) - 1)[tied_B]
    shape = (int(groups_B[-1]) + 1, int(clusters_B.max()) + 1)
    weights_B = labels_B.astype(np.float64)
    return Grouped(
        positives_GN=csr_matrix((weights_B, (groups_B, clusters_B)), shape=shape),
        negatives_GN=csr_matrix((1 - weights_B, (groups_B, clusters_B)), shape=shape),
    )


def auc_and_ap(grouped: Grouped, weights_NR: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Area under the ROC curve and average precision, each of shape (R,).

    Ties count half in the AUC; the average precision is sum(precision x gain in recall) over
    thresholds, scikit-learn's definition. A resample without both classes gives NaN.
    """
    positives_GR = grouped.positives_GN @ weights_NR
    negatives_GR = grouped.negatives_GN @ weights_NR
    total_positive_R, total_negative_R = positives_GR.sum(0), negatives_GR.sum(0)
    below_GR = np.cumsum(negatives_GR, axis=0) - negatives_GR / 2
    above_positive_GR = np.cumsum(positives_GR[::-1], axis=0)
    above_negative_GR = np.cumsum(negatives_GR[::-1], axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        auc_R = (positives_GR * below_GR).sum(0) / (total_positive_R * total_negative_R)
        precision_GR = above_positive_GR / (above_positive_GR + above_negative_GR)
        gained_GR = positives_GR[::-1] / total_positive_R
    ap_R = np.where(gained_GR > 0, precision_GR * gained_GR, 0.0).sum(0)
    one_class_R = (total_positive_R == 0) | (total_negative_R == 0)
    return np.where(one_class_R, np.nan, auc_R), np.where(one_class_R, np.nan, ap_R)


def calibration(scores_B: np.ndarray, labels_B: np.ndarray) -> list[dict[str, float]]:
    """Mean score against observed rate in bins of equally many rows, lowest scores first."""
    order = np.argsort(scores_B, kind="stable")
    bins = [rows for rows in np.array_split(order, NUM_CALIBRATION_BINS) if rows.size]
    return [
        {
            "mean_score": float(scores_B[rows].mean()),
            "observed_rate": float(labels_B[rows].mean()),
            "num_rows": int(rows.size),
        }
        for rows in bins
    ]


def expected_calibration_error(bins: list[dict[str, float]]) -> float:
    """Mean gap between score and observed rate over the bins, weighted by their rows."""
    num_rows = sum(item["num_rows"] for item in bins)
    gaps = (abs(b["mean_score"] - b["observed_rate"]) * b["num_rows"] for b in bins)
    return sum(gaps) / num_rows


def roc_points(scores_B: np.ndarray, labels_B: np.ndarray) -> list[list[float]]:
    """[false positive rate, true positive rate] from (0, 0) to (1, 1), at most 200 points."""
    true_B, false_B = counts_above(scores_B, labels_B)
    x = np.concatenate([[0.0], false_B / false_B[-1]])
    y = np.concatenate([[0.0], true_B / true_B[-1]])
    return thinned(x, y)


def precision_recall_points(scores_B: np.ndarray, labels_B: np.ndarray) -> list[list[float]]:
    """[recall, precision] by falling threshold, at most 200 points."""
    true_B, false_B = counts_above(scores_B, labels_B)
    return thinned(true_B / true_B[-1], true_B / (true_B + false_B))


def counts_above(scores_B: np.ndarray, labels_B: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives at each distinct threshold, highest first."""
    order = np.argsort(-scores_B, kind="stable")
    scores_B, labels_B = scores_B[order], labels_B[order]
    last_of_tie = np.append(scores_B[1:] != scores_B[:-1], True)
    true_B = np.cumsum(labels_B)[last_of_tie]
    return true_B, np.flatnonzero(last_of_tie) + 1 - true_B


def thinned(x: np.ndarray, y: np.ndarray) -> list[list[float]]:
    """Points evenly spread along x, first and last kept."""
    places = np.searchsorted(x, np.linspace(x[0], x[-1], MAX_CURVE_POINTS))
    kept = np.unique(np.concatenate([[0], np.clip(places, 0, len(x) - 1), [len(x) - 1]]))
    points: list[list[float]] = np.round(np.column_stack([x[kept], y[kept]]), 6).tolist()
    return points
