"""The raw inputs of every next_site graph, as serving sends them.

Shape suffixes: B = batch, L = history length, C = candidate sites.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from training.next_site_data import POPULARITY_COLUMNS, Examples, Presentation, SiteState

LOWEST_SCORE = -1e9  # of padding and, for discovery, of what the history holds
MAX_HISTORY = 512  # distinct site-days that the online store keeps per registration

# Inputs of every graph, in order: element type and shape. Padding has site_id 0.
SIGNATURE = {
    "history_site_ids": ("int64", "batch,length"),  # oldest first
    "history_days": ("int64", "batch,length"),
    "day": ("int64", "batch"),  # the presentation day that is predicted
    "candidate_activity_types": ("string", "batch,sites"),
    "candidate_site_ids": ("int64", "batch,sites"),
    "candidate_week_from": ("int64", "batch,sites"),  # -1 = none
    "candidate_week_to": ("int64", "batch,sites"),
    "candidate_first_opened_day": ("int64", "batch,sites"),  # -999 = nobody yet
    **{f"candidate_{name}": ("float", "batch,sites") for name in POPULARITY_COLUMNS},
}


def graph_inputs(
    presentation: Presentation, state: SiteState, examples: Examples
) -> dict[str, np.ndarray]:
    """Histories padded on the left with 0, and the whole catalogue as candidates."""
    site_ids_BL, days_BL = histories(presentation, examples)
    candidates = candidate_inputs(presentation, state).items()
    return {
        "history_site_ids": site_ids_BL,
        "history_days": days_BL,
        "day": np.full(len(examples), examples.day, dtype=np.int64),
        **{name: np.repeat(values_C[None], len(examples), axis=0) for name, values_C in candidates},
    }


def candidate_inputs(presentation: Presentation, state: SiteState) -> dict[str, np.ndarray]:
    """One presentation_sites row: a value per site and input (C,)."""
    return {
        "candidate_site_ids": presentation.site_ids_C,
        "candidate_activity_types": np.array(presentation.activity_types_C, dtype=object),
        "candidate_week_from": presentation.week_from_C,
        "candidate_week_to": presentation.week_to_C,
        "candidate_first_opened_day": state.first_opened_day_C,
        **{f"candidate_{name}": state.students_C[name] for name in POPULARITY_COLUMNS},
    }


def histories(presentation: Presentation, examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """The last site-days of each registration: site_ids and days, both (B, L)."""
    entry_BL, known_BL = history_entries(examples)
    site_ids_E = presentation.site_ids_C[presentation.site_index_E]
    return (
        np.where(known_BL, site_ids_E[entry_BL], 0),
        np.where(known_BL, presentation.day_E[entry_BL], 0),
    )


def history_entries(examples: Examples) -> tuple[np.ndarray, np.ndarray]:
    """Which entry of the presentation stands at each place, and whether one does; (B, L) both."""
    start_B, end_B = examples.history_start_N, examples.history_end_N
    length = int(min(MAX_HISTORY, (end_B - start_B).max()))
    entry_BL = end_B[:, None] - length + np.arange(length)
    known_BL = entry_BL >= start_B[:, None]
    return np.maximum(entry_BL, 0), known_BL


def in_batches(examples: Examples, size: int) -> Iterator[Examples]:
    """Shortest histories first: a batch is as long as its longest."""
    names = ("registration_N", "history_start_N", "history_end_N", "target_end_N")
    order_N = np.argsort(examples.history_end_N - examples.history_start_N, kind="stable")
    for start in range(0, len(examples), size):
        rows = order_N[start : start + size]
        yield replace(examples, **{name: getattr(examples, name)[rows] for name in names})


def relevant_sites(presentation: Presentation, examples: Examples) -> np.ndarray:
    """True where a site was opened on the first active day from the cut on (B, C)."""
    relevant_BC = np.zeros((len(examples), presentation.num_sites), dtype=bool)
    mark(relevant_BC, presentation, examples.history_end_N, examples.target_end_N)
    return relevant_BC


def opened_sites(presentation: Presentation, examples: Examples) -> np.ndarray:
    """True where the student opened the site before the cut, however long ago (B, C)."""
    opened_BC = np.zeros((len(examples), presentation.num_sites), dtype=bool)
    mark(opened_BC, presentation, examples.history_start_N, examples.history_end_N)
    return opened_BC


def mark(
    flags_BC: np.ndarray, presentation: Presentation, start_B: np.ndarray, end_B: np.ndarray
) -> None:
    rows = np.repeat(np.arange(len(start_B)), end_B - start_B)
    entries = np.concatenate([np.arange(*pair) for pair in zip(start_B, end_B, strict=True)])
    flags_BC[rows, presentation.site_index_E[entries.astype(np.int64)]] = True
