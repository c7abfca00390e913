"""The fast clustered metrics equal scikit-learn's, resample by resample."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from training import binary_metrics
from training.bootstrap import interval, resample_weights

ROWS = 3000
CLUSTERS = 200


@pytest.fixture(scope="module")
def scored() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(5)
    clusters_B = np.concatenate(
        [np.arange(CLUSTERS), generator.integers(0, CLUSTERS, ROWS - CLUSTERS)]
    )
    labels_B = (generator.random(ROWS) < 0.05).astype(float)
    scores_B = np.round(generator.random(ROWS) + 0.3 * labels_B, 2)  # many ties
    return scores_B, labels_B, clusters_B


def test_metrics_equal_scikit_learn_with_ties(
    scored: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    scores_B, labels_B, _ = scored
    grouped = binary_metrics.group(*scored)

    auc, ap = binary_metrics.auc_and_ap(grouped, np.ones((CLUSTERS, 1)))

    assert auc[0] == pytest.approx(roc_auc_score(labels_B, scores_B), abs=1e-12)
    assert ap[0] == pytest.approx(average_precision_score(labels_B, scores_B), abs=1e-12)


def test_each_resample_equals_scikit_learn_with_the_drawn_weights(
    scored: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    scores_B, labels_B, clusters_B = scored
    weights_NR = resample_weights(CLUSTERS, num_resamples=5, seed=1)

    auc_R, ap_R = binary_metrics.auc_and_ap(binary_metrics.group(*scored), weights_NR)

    for resample in range(5):
        weights_B = weights_NR[clusters_B, resample]
        assert auc_R[resample] == pytest.approx(
            roc_auc_score(labels_B, scores_B, sample_weight=weights_B), abs=1e-6
        )
        assert ap_R[resample] == pytest.approx(
            average_precision_score(labels_B, scores_B, sample_weight=weights_B), abs=1e-6
        )


def test_copies_of_a_row_widen_the_interval_only_if_taken_for_independent() -> None:
    """Ten copies of each row add no knowledge, and clustering knows it."""
    generator = np.random.default_rng(3)
    labels_B = (generator.random(300) < 0.3).astype(float)
    scores_B = generator.random(300) + 0.5 * labels_B
    copied = [np.repeat(values, 10) for values in (scores_B, labels_B, np.arange(300))]

    def width(scores: np.ndarray, labels: np.ndarray, clusters: np.ndarray) -> float:
        weights_NR = resample_weights(int(clusters.max()) + 1, num_resamples=300, seed=2)
        auc_R, _ = binary_metrics.auc_and_ap(
            binary_metrics.group(scores, labels, clusters), weights_NR
        )
        low, high = interval(auc_R)
        return high - low

    alone = width(scores_B, labels_B, np.arange(300))
    assert width(*copied) == pytest.approx(alone, rel=0.01)
    assert width(copied[0], copied[1], np.arange(3000)) < 0.5 * alone


def test_calibration_of_true_probabilities_is_good_and_of_shifted_ones_is_not() -> None:
    generator = np.random.default_rng(1)
    scores_B = generator.random(20_000)
    labels_B = (generator.random(20_000) < scores_B).astype(float)

    honest = binary_metrics.calibration(scores_B, labels_B)
    shifted = binary_metrics.calibration(scores_B * 0.5, labels_B)

    assert sum(item["num_rows"] for item in honest) == 20_000
    assert binary_metrics.expected_calibration_error(honest) < 0.02
    assert binary_metrics.expected_calibration_error(shifted) == pytest.approx(0.25, abs=0.02)


def test_curves_start_and_end_where_they_must(
    scored: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    scores_B, labels_B, _ = scored

    roc = binary_metrics.roc_points(scores_B, labels_B)
    curve = binary_metrics.precision_recall_points(scores_B, labels_B)

    assert roc[0] == [0.0, 0.0]
    assert roc[-1] == [1.0, 1.0]
    assert curve[-1] == [1.0, pytest.approx(labels_B.mean(), abs=1e-6)]
    assert len(roc) <= 202
    area = np.trapezoid([y for _, y in roc], [x for x, _ in roc])
    assert area == pytest.approx(roc_auc_score(labels_B, scores_B), abs=0.01)
