"""NDCG, hit rate and reciprocal rank at k of ranked lists, one value per registration."""

import numpy as np
import pyarrow as pa

from training.errors import TrainingError

CUTOFFS = (1, 5, 10, 20, 50)


def per_registration(ranked: pa.Table) -> tuple[list[str], dict[str, np.ndarray]]:
    """Metrics of one list: its registrations and `{metric}_at_{k}`, each one value per registration.

    Registrations without a relevant site are left out: no ranking of theirs can be right or wrong.
    A metric is binary: NDCG divides by the best list possible for that many relevant sites.
    """
    ranked = ranked.filter(pa.compute.greater(ranked["num_relevant"], 0))
    if ranked.num_rows == 0:
        raise TrainingError("no registration of the predictions has a relevant site")
    keys = ranked["registration_id"].combine_chunks().dictionary_encode()
    owner = keys.indices.to_numpy()
    rank = ranked["rank"].to_numpy()
    relevant = ranked["relevant"].to_numpy().astype(np.float64)
    num_relevant = np.zeros(len(keys.dictionary), dtype=np.int64)
    num_relevant[owner] = ranked["num_relevant"].to_numpy()
    return keys.dictionary.to_pylist(), {
        name: values
        for k in CUTOFFS
        for name, values in at_cutoff(k, owner, rank, relevant, num_relevant).items()
    }


def at_cutoff(
    k: int, owner: np.ndarray, rank: np.ndarray, relevant: np.ndarray, num_relevant: np.ndarray
) -> dict[str, np.ndarray]:
    hits = relevant * (rank <= k)
    size = len(num_relevant)
    gain = np.bincount(owner, weights=hits / np.log2(rank + 1), minlength=size)
    ideal = np.cumsum(1 / np.log2(np.arange(1, k + 1) + 1))[np.minimum(num_relevant, k) - 1]
    reciprocal = np.zeros(size)
    np.maximum.at(reciprocal, owner, hits / rank)
    return {
        f"ndcg_at_{k}": gain / ideal,
        f"hr_at_{k}": (reciprocal > 0).astype(np.float64),
        f"mrr_at_{k}": reciprocal,
    }
