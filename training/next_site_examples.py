"""What the next_site network trains on: earlier cuts, each with the candidates that matter.

Shape suffixes: N = examples, W = candidates per example, C = sites, F = features, M = tokens,
K = cut days.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from training.next_site_data import Examples, Presentation, SiteState
from training.next_site_features import HALF_LIVES_DAYS, own_features, student_features
from training.next_site_graph import latest_tokens, raw_site_features
from training.next_site_inputs import (
    candidate_inputs,
    history_entries,
    in_batches,
    relevant_sites,
)

OWN_DECAYED_7D = 2 + HALF_LIVES_DAYS.index(7.0)  # its place among the own features
ABSENT = -1e4  # log weight of a padded candidate
PREPARED_AT_ONCE = 512  # examples; bounds the memory of the full candidate lists


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """How examples are made. An example keeps the likely candidates and a few of the others."""

    cut_days: Sequence[int]
    target_before: int
    num_activity_types: int
    num_likely: int
    num_random: int
    num_tokens: int


@dataclass(frozen=True, kw_only=True)
class PresentationExamples:
    """All examples of one presentation; `rows` holds tensors of N rows, `day_index` among them."""

    sites_KCF: Tensor
    registration_N: np.ndarray
    rows: dict[str, Tensor]


def prepare(
    presentation: Presentation,
    codes_C: Tensor,
    preparation: Preparation,
    generator: torch.Generator,
) -> PresentationExamples | None:
    """Examples of every cut day whose next active day lies before `target_before`.

    None where nobody is active again yet: the presentation has only just begun.
    """
    sites: list[Tensor] = []
    registrations: list[np.ndarray] = []
    parts: list[dict[str, Tensor]] = []
    for index, day in enumerate(preparation.cut_days):
        state = presentation.site_state(day)
        sites.append(
            catalogue_features(presentation, state, codes_C, preparation.num_activity_types)
        )
        examples = presentation.examples(day=day, target_before=preparation.target_before)
        for batch in in_batches(examples, PREPARED_AT_ONCE):
            rows = prepare_batch(presentation, state, batch, preparation, generator)
            parts.append({"day_index": torch.full((len(batch),), index), **rows})
            registrations.append(batch.registration_N)
    if not parts:
        return None
    return PresentationExamples(
        sites_KCF=torch.stack(sites),
        registration_N=np.concatenate(registrations),
        rows={name: torch.cat([part[name] for part in parts]) for name in parts[0]},
    )


def prepare_batch(
    presentation: Presentation,
    state: SiteState,
    examples: Examples,
    preparation: Preparation,
    generator: torch.Generator,
) -> dict[str, Tensor]:
    """The kept candidates of each example; narrow types, because all examples stay in memory."""
    student = student_inputs(presentation, examples, num_tokens=preparation.num_tokens)
    own_NCF = student.pop("own")
    relevant_NC = torch.from_numpy(relevant_sites(presentation, examples))
    kept_NW, log_weight_NW = choose_candidates(
        likelihood(own_NCF, state) + 1e3 * relevant_NC, preparation, generator
    )
    index_NWF = kept_NW[..., None].expand(-1, -1, own_NCF.shape[-1])
    return {
        "candidates": widen(kept_NW, preparation).to(torch.int16),
        "log_weight": widen(log_weight_NW, preparation, fill=ABSENT).half(),
        "own": widen(torch.gather(own_NCF, 1, index_NWF).transpose(1, 2), preparation)
        .transpose(1, 2)
        .half(),
        "relevant": widen(torch.gather(relevant_NC, 1, kept_NW), preparation),
        "student": student["student"],
        "token_sites": student["token_sites"].to(torch.int16),
        "token_ages": student["token_ages"].half(),
        "token_mask": student["token_mask"],
    }


def likelihood(own_NCF: Tensor, state: SiteState) -> Tensor:
    """A rough score that only decides which candidates to keep: own recent use and popularity."""
    week_C = torch.from_numpy(state.students_C["students_7d"])
    yesterday_C = torch.from_numpy(state.students_C["students_1d"])
    own_NC = own_NCF[..., OWN_DECAYED_7D]
    popular_C = torch.log1p(week_C) / torch.log1p(week_C.max()).clamp(min=1.0)
    return own_NC + popular_C + 0.5 * yesterday_C / (yesterday_C.max() + 1.0)


def choose_candidates(
    likelihood_NC: Tensor, preparation: Preparation, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The likeliest sites and a random few of the rest; each of the few stands for several.

    The log weights make the softmax over the kept an estimate of the softmax over all (sampled
    softmax with importance correction, Bengio and Senecal 2003).
    """
    num_rows, num_sites = likelihood_NC.shape
    num_likely = min(preparation.num_likely, num_sites)
    num_random = min(preparation.num_random, num_sites - num_likely)
    likely_NW = likelihood_NC.topk(num_likely, dim=1).indices
    log_weight_NW = torch.zeros(num_rows, num_likely)
    if num_random == 0:
        return likely_NW, log_weight_NW
    rest_NC = torch.ones(num_rows, num_sites).scatter(1, likely_NW, 0.0)
    random_NW = torch.multinomial(rest_NC, num_random, generator=generator)
    log_weight = math.log((num_sites - num_likely) / num_random)
    random_weight_NW = torch.full((num_rows, num_random), log_weight)
    return (
        torch.cat([likely_NW, random_NW], dim=1),
        torch.cat([log_weight_NW, random_weight_NW], dim=1),
    )


def widen(values_NW: Tensor, preparation: Preparation, *, fill: float = 0.0) -> Tensor:
    """Pad to the same number of candidates in every presentation."""
    width = preparation.num_likely + preparation.num_random
    return functional.pad(values_NW, (0, width - values_NW.shape[-1]), value=fill)


def catalogue_features(
    presentation: Presentation, state: SiteState, codes_C: Tensor, num_activity_types: int
) -> Tensor:
    """Site features of one day (C, F), from the same function as in the released graph."""
    candidates = {
        name: torch.from_numpy(values_C)[None]
        for name, values_C in candidate_inputs(presentation, state).items()
        if values_C.dtype != object
    }
    day_1 = torch.tensor([state.day])
    return raw_site_features(candidates, codes_C[None], day_1, num_activity_types)[0]


def student_inputs(
    presentation: Presentation, examples: Examples, *, num_tokens: int
) -> dict[str, Tensor]:
    """What the network takes about each student, over the whole catalogue."""
    entry_NL, known_NL = history_entries(examples)
    index_NL = torch.from_numpy(np.where(known_NL, presentation.site_index_E[entry_NL], 0))
    age_NL = torch.from_numpy(np.where(known_NL, examples.day - presentation.day_E[entry_NL], 1))
    mask_NL, age_NL = torch.from_numpy(known_NL), age_NL.float()
    own_NCF = own_features(
        history_index_BL=index_NL,
        history_age_BL=age_NL,
        mask_BL=mask_NL,
        num_sites=presentation.num_sites,
    )
    tokens = latest_tokens(index_NL, age_NL, mask_NL, num_tokens=num_tokens)
    return {
        "own": own_NCF,
        "student": student_features(age_BL=age_NL, mask_BL=mask_NL, own_BCF=own_NCF),
        **dict(zip(("token_sites", "token_ages", "token_mask"), tokens, strict=True)),
    }
