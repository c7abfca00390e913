"""What the next_site network computes from its raw inputs, inside the graph.

Shape suffixes: B = batch, L = history length, C = candidate sites, F = features, M = tokens.
"""

import math

import torch
from torch import Tensor

from training.next_site_data import POPULARITY_COLUMNS

HALF_LIVES_DAYS = (1.0, 3.0, 7.0, 28.0)
LONGEST_AGE_DAYS = 400.0
NEIGHBOUR_REACH = (1, 3, 9)
NUM_OWN_FEATURES = 1 + (len(HALF_LIVES_DAYS) + 3) + 2 + 4 * len(NEIGHBOUR_REACH)
NUM_STUDENT_FEATURES = 6


def site_features(
    *,
    day_B: Tensor,
    activity_BCT: Tensor,
    week_from_BC: Tensor,
    week_to_BC: Tensor,
    first_opened_day_BC: Tensor,
    popularity_BCP: Tensor,
    present_BC: Tensor,
) -> Tensor:
    """Features of each site on a day, the same for every student of its presentation (B, C, F).

    Counts are taken relative to the presentation's most opened site, so that a course of 300
    students and one of 2,000 look alike.
    """
    largest_B1P = popularity_BCP.amax(dim=1, keepdim=True)
    share_BCP = popularity_BCP / (largest_B1P + 1.0)
    log_share_BCP = torch.log((popularity_BCP + 0.5) / (largest_B1P + 1.0)) / 4.0
    day_BC = day_B[:, None].float()
    age_BC = (day_BC - first_opened_day_BC.float()).clamp(0.0, LONGEST_AGE_DAYS)
    opened_BC = (popularity_BCP[..., POPULARITY_COLUMNS.index("students_total")] > 0).float()
    num_sites_B1 = present_BC.float().sum(dim=1, keepdim=True)
    position_BC = torch.cumsum(present_BC.float(), dim=1) / num_sites_B1.clamp(min=1.0)
    weeks = [_week_features(week, day_BC) for week in (week_from_BC, week_to_BC)]
    others_BCF = torch.stack(
        [torch.log1p(age_BC) / 3.0, opened_BC, position_BC, *weeks[0], *weeks[1]], dim=-1
    )
    return torch.cat([share_BCP, log_share_BCP, others_BCF, activity_BCT], dim=-1)


def num_site_features(num_activity_types: int) -> int:
    return 2 * len(POPULARITY_COLUMNS) + 9 + num_activity_types


def _week_features(week_BC: Tensor, day_BC: Tensor) -> list[Tensor]:
    known_BC = (week_BC >= 0).float()
    ahead_BC = ((week_BC.float() * 7.0 - day_BC) / 28.0).clamp(-2.0, 2.0)
    return [known_BC, known_BC * ahead_BC, known_BC * torch.exp(-4.0 * ahead_BC.abs())]


def own_features(
    *, history_index_BL: Tensor, history_age_BL: Tensor, mask_BL: Tensor, num_sites: int
) -> Tensor:
    """This student's own use of each site and of its neighbours in the catalogue (B, C, F).

    Feature 0 is 1 where the student opened the site before. `history_age_BL` counts days back from
    the predicted day (yesterday = 1).
    """
    mask = mask_BL.float()
    age_BL = history_age_BL.float().clamp(1.0, LONGEST_AGE_DAYS)
    latest_B1 = latest_age(age_BL, mask_BL)
    weekly_BL = (torch.remainder(age_BL, 7.0) == 0).float()
    weights_BLF = torch.stack(
        [
            mask,
            *(mask * torch.exp2((1.0 - age_BL) / half_life) for half_life in HALF_LIVES_DAYS),
            mask * (age_BL == latest_B1).float(),
            mask * weekly_BL * torch.exp2(-age_BL / 28.0),
        ],
        dim=-1,
    )
    index_BLF = history_index_BL[..., None].expand(-1, -1, weights_BLF.shape[-1])
    zeros_BCF = torch.zeros(mask.shape[0], num_sites, weights_BLF.shape[-1])
    sums_BCF = zeros_BCF.scatter_add(1, index_BLF, weights_BLF)
    recency_BC = torch.zeros(mask.shape[0], num_sites).scatter_reduce(
        1, history_index_BL, mask / age_BL, reduce="amax"
    )
    opened_BC1 = (sums_BCF[..., :1] > 0).float()
    near_BC = sums_BCF[..., 1 + HALF_LIVES_DAYS.index(3.0)]
    return torch.cat(
        [
            opened_BC1,
            torch.log1p(sums_BCF),
            recency_BC[..., None],
            torch.sqrt(recency_BC)[..., None],
            torch.log1p(neighbours(near_BC)),
            neighbours(opened_BC1[..., 0]),
        ],
        dim=-1,
    )


def latest_age(age_BL: Tensor, mask_BL: Tensor) -> Tensor:
    """Days since the student's last active day (B, 1)."""
    return torch.where(mask_BL, age_BL, LONGEST_AGE_DAYS).amin(dim=1, keepdim=True)


def neighbours(values_BC: Tensor) -> Tensor:
    """Mean over the 1, 3 and 9 sites before and after each in the catalogue (B, C, 6).

    Site numbers follow the course, so whoever opened the three sites before comes here next.
    """
    reach = max(NEIGHBOUR_REACH)
    padded = torch.nn.functional.pad(values_BC, (reach + 1, reach))
    sums = torch.cumsum(padded, dim=1)
    num_sites = values_BC.shape[1]
    middle = reach + 1
    parts = []
    for width in NEIGHBOUR_REACH:
        before = sums[:, middle - 1 : middle - 1 + num_sites]
        earlier = sums[:, middle - 1 - width : middle - 1 - width + num_sites]
        after = sums[:, middle + width : middle + width + num_sites]
        parts += [
            (before - earlier) / width,
            (after - sums[:, middle : middle + num_sites]) / width,
        ]
    return torch.stack(parts, dim=-1)


def student_features(*, age_BL: Tensor, mask_BL: Tensor, own_BCF: Tensor) -> Tensor:
    """How active the student has been of late (B, F)."""
    mask = mask_BL.float()
    latest_B1 = latest_age(age_BL, mask_BL)
    on_latest_B = (mask * (age_BL == latest_B1).float()).sum(dim=1)
    recent = [(mask * (age_BL <= days).float()).sum(dim=1) for days in (7, 28)]
    counts = [mask.sum(dim=1), own_BCF[..., 0].sum(dim=1), on_latest_B, *recent]
    return torch.stack(
        [torch.log(latest_B1[:, 0]) / 3.0, *(torch.log1p(count) / 4.0 for count in counts)], dim=-1
    )


def token_features(ages_BM: Tensor, mask_BM: Tensor) -> Tensor:
    """When each token happened (B, M, 6); weekly rhythm as a point on a circle."""
    age = ages_BM.clamp(min=1.0, max=LONGEST_AGE_DAYS)
    angle = age * (2.0 * math.pi / 7.0)
    new_day = torch.nn.functional.pad((age[:, 1:] != age[:, :-1]).float(), (1, 0))
    parts = [
        torch.log(age) / 3.0,
        1.0 / age,
        angle.sin(),
        angle.cos(),
        torch.exp2(-age / 7.0),
        new_day,
    ]
    return torch.stack(parts, dim=-1) * mask_BM[..., None].float()
