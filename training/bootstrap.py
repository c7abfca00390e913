"""Bootstrap resampling weights and percentile intervals, resampling whole registrations.

One registration is scored many times and its rows share their fate, so rows are not independent:
the cluster bootstrap (Davison and Hinkley 1997, section 3.8) draws registrations, and a drawn one
brings all its rows.

Shape suffixes used below: N = clusters, R = resamples.
"""

import numpy as np

CONFIDENCE = 0.95


def resample_weights(num_clusters: int, *, num_resamples: int, seed: int) -> np.ndarray:
    """How often each cluster is drawn in each resample, float32, shape (N, R)."""
    generator = np.random.default_rng(seed)
    weights_NR = np.empty((num_clusters, num_resamples), dtype=np.float32)
    for resample in range(num_resamples):
        drawn = generator.integers(0, num_clusters, size=num_clusters)
        weights_NR[:, resample] = np.bincount(drawn, minlength=num_clusters)
    return weights_NR


def interval(values_R: np.ndarray) -> tuple[float, float]:
    """The central 95 % of the resampled values; resamples without a value (NaN) are left out."""
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.nanpercentile(values_R, [tail, 100 - tail])
    return float(low), float(high)
