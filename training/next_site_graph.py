"""The released next_site graph: raw histories and catalogues in, scores of both lists out.

Shape suffixes: B = batch, L = history length, C = candidate sites, M = tokens, F = features,
P = popularity columns.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.export import StringInput, export_torch, prepend_string_encoders, write_signature
from training.next_site_data import POPULARITY_COLUMNS
from training.next_site_features import (
    LONGEST_AGE_DAYS,
    own_features,
    site_features,
    student_features,
)
from training.next_site_inputs import LOWEST_SCORE
from training.next_site_network import NextSiteNetwork

OUTPUTS = ("scores", "discovery_scores")
ACTIVITY_TYPES = "candidate_activity_types"
ACTIVITY_CODES = "candidate_activity_codes"
CANDIDATE_INPUTS = (
    "candidate_site_ids",
    "candidate_week_from",
    "candidate_week_to",
    "candidate_first_opened_day",
    *(f"candidate_{name}" for name in POPULARITY_COLUMNS),
)
INPUTS = ("history_site_ids", "history_days", "day", ACTIVITY_CODES, *CANDIDATE_INPUTS)


class SiteGraph(nn.Module):
    """Base of every releasable ranking: the same inputs and outputs for network and baselines.

    Padding has site_id 0, on either side. What a history holds from `day` on is ignored.
    """

    def forward(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        candidates_BC = inputs["candidate_site_ids"]
        # One place of padding, so that an empty history is not an empty tensor.
        history_BL, days_BL = (
            functional.pad(inputs[name], (1, 0)) for name in ("history_site_ids", "history_days")
        )
        same_BLC = history_BL[:, :, None] == candidates_BC[:, None, :]
        index_BL = same_BLC.to(torch.int32).argmax(dim=2)
        ages_BL = (inputs["day"][:, None] - days_BL).float()
        mask_BL = same_BLC.any(dim=2) & (history_BL != 0) & (ages_BL > 0)
        ages_BL = ages_BL.clamp(1.0, LONGEST_AGE_DAYS)
        scores_BC, discovery_BC = self.score(inputs, index_BL, ages_BL, mask_BL)
        absent_BC = candidates_BC == 0
        opened_BC = torch.zeros_like(scores_BC).scatter_add(1, index_BL, mask_BL.float()) > 0
        return (
            scores_BC.masked_fill(absent_BC, LOWEST_SCORE),
            discovery_BC.masked_fill(absent_BC | opened_BC, LOWEST_SCORE),
        )

    def score(
        self, inputs: dict[str, Tensor], index_BL: Tensor, ages_BL: Tensor, mask_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scores of all sites and for discovery, (B, C) each; `index_BL` points at candidates."""
        raise NotImplementedError


class NetworkGraph(SiteGraph):
    """Features, then the network, with the candidates in catalogue order whatever order came."""

    def __init__(self, network: NextSiteNetwork) -> None:
        super().__init__()
        self.network = network

    def score(
        self, inputs: dict[str, Tensor], index_BL: Tensor, ages_BL: Tensor, mask_BL: Tensor
    ) -> tuple[Tensor, Tensor]:
        site_ids_BC = inputs["candidate_site_ids"]
        # Padding goes last: the network looks at neighbours, and past the end it finds zeros.
        key_BC = torch.where(site_ids_BC == 0, torch.iinfo(torch.int64).max, site_ids_BC)
        order_BC = torch.argsort(key_BC, dim=1)
        place_BC = torch.argsort(order_BC, dim=1)
        batch, num_candidates = order_BC.shape
        index_BL = torch.gather(place_BC, 1, index_BL)
        own_BCF = own_features(
            history_index_BL=index_BL,
            history_age_BL=ages_BL,
            mask_BL=mask_BL,
            num_sites=num_candidates,
        )
        token_sites_BM, token_ages_BM, token_mask_BM = latest_tokens(
            index_BL, ages_BL, mask_BL, num_tokens=self.network.num_tokens
        )
        ordered = {name: torch.gather(inputs[name], 1, order_BC) for name in CANDIDATE_INPUTS}
        codes_BC = torch.gather(inputs[ACTIVITY_CODES], 1, order_BC)
        logits_BCT = self.network(
            sites_KCF=raw_site_features(
                ordered, codes_BC, inputs["day"], self.network.num_activity_types
            ),
            day_index_B=torch.arange(batch),
            candidates_BW=torch.arange(num_candidates).expand(batch, -1),
            own_BWF=own_BCF,
            student_BF=student_features(age_BL=ages_BL, mask_BL=mask_BL, own_BCF=own_BCF),
            token_sites_BM=token_sites_BM,
            token_ages_BM=token_ages_BM,
            token_mask_BM=token_mask_BM,
        )
        return (
            torch.gather(logits_BCT[..., 0], 1, place_BC),
            torch.gather(logits_BCT[..., 1], 1, place_BC),
        )


def raw_site_features(
    candidates: dict[str, Tensor], codes_BC: Tensor, day_B: Tensor, num_activity_types: int
) -> Tensor:
    """Site features from the raw candidate inputs; all zero at padding (B, C, F)."""
    present_BC = candidates["candidate_site_ids"] != 0
    popularity = [candidates[f"candidate_{name}"] for name in POPULARITY_COLUMNS]
    features_BCF = site_features(
        day_B=day_B,
        activity_BCT=functional.one_hot(codes_BC, num_activity_types).float(),
        week_from_BC=candidates["candidate_week_from"],
        week_to_BC=candidates["candidate_week_to"],
        first_opened_day_BC=candidates["candidate_first_opened_day"],
        popularity_BCP=torch.stack(popularity, dim=-1) * present_BC[..., None].float(),
        present_BC=present_BC,
    )
    return features_BCF * present_BC[..., None].float()


def latest_tokens(
    index_BL: Tensor, ages_BL: Tensor, mask_BL: Tensor, *, num_tokens: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The last `num_tokens` known entries in their order, padded at the front; (B, M) each."""
    padding = (num_tokens, 0)  # so that there are always enough to choose from
    index_BL, ages_BL = functional.pad(index_BL, padding), functional.pad(ages_BL, padding)
    mask_BL = functional.pad(mask_BL, padding, value=False)
    place_L = torch.arange(1, mask_BL.shape[1] + 1)
    # Known entries by place; padding below all of them.
    chosen_BM = torch.topk(place_L * mask_BL.long(), num_tokens, dim=1).indices.flip(1)
    mask_BM = torch.gather(mask_BL, 1, chosen_BM)
    return (
        torch.gather(index_BL, 1, chosen_BM) * mask_BM.long(),
        torch.gather(ages_BL, 1, chosen_BM),
        mask_BM,
    )


class NamedInputs(nn.Module):
    """What is exported: one named tensor per input, in the order of the signature."""

    def __init__(self, graph: SiteGraph) -> None:
        super().__init__()
        self.ranking = graph  # fx has a `graph` of its own

    def forward(
        self,
        history_site_ids: Tensor,
        history_days: Tensor,
        day: Tensor,
        candidate_activity_codes: Tensor,
        candidate_site_ids: Tensor,
        candidate_week_from: Tensor,
        candidate_week_to: Tensor,
        candidate_first_opened_day: Tensor,
        candidate_students_1d: Tensor,
        candidate_students_3d: Tensor,
        candidate_students_7d: Tensor,
        candidate_students_14d: Tensor,
        candidate_students_28d: Tensor,
        candidate_students_total: Tensor,
        candidate_new_students_7d: Tensor,
    ) -> tuple[Tensor, Tensor]:
        inputs = {name: value for name, value in locals().items() if name in INPUTS}
        return self.ranking(**inputs)


def example_inputs() -> dict[str, Tensor]:
    """Two rows of made-up input with every name, type and rank of the signature."""
    integers = torch.arange(1, 7).reshape(2, 3)
    example = {
        "history_site_ids": torch.tensor([[0, 1, 2, 1], [0, 0, 0, 4]]),
        "history_days": torch.tensor([[0, 1, 2, 3], [0, 0, 0, 2]]),
        "day": torch.tensor([4, 5]),
        ACTIVITY_CODES: torch.zeros(2, 3, dtype=torch.int64),
    }
    for name in CANDIDATE_INPUTS:
        is_count = name.removeprefix("candidate_") in POPULARITY_COLUMNS
        # Copies: the exporter takes one tensor given twice for one input.
        example[name] = integers.float() if is_count else integers.clone()
    return example


def export_graph(graph: SiteGraph, activity_types: Sequence[str], output: Path) -> Path:
    """Write model.onnx and signature.json into `output`; batch, history and sites may vary."""
    axes = {"history_site_ids": "length", "history_days": "length"}
    example = example_inputs()
    dynamic = {
        name: {0: "batch"} if name == "day" else {0: "batch", 1: axes.get(name, "sites")}
        for name in example
    }
    path = output / "model.onnx"
    export_torch(NamedInputs(graph), example, OUTPUTS, path, dynamic)
    types = StringInput(
        name=ACTIVITY_TYPES, codes=ACTIVITY_CODES, vocabularies=[activity_types], per_column=False
    )
    prepend_string_encoders(path, [types])
    write_signature(path)
    return path
