"""A causal transformer over the sites opened so far, and what each candidate has to say to it.

A candidate brings its recent popularity and the student's own recent use of it. Site identifiers differ between presentations, so none is embedded: a site is its features.

Shape suffixes: B = batch, K = distinct days in the batch, C = sites of the catalogue,
W = candidates scored, F = features, M = tokens, D = token width, H = hidden units, L = history
length, T = the two lists (all sites, discovery).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.next_site_features import (
    NUM_OWN_FEATURES,
    NUM_STUDENT_FEATURES,
    num_site_features,
    token_features,
)

NUM_TOKEN_FEATURES = 6
NUM_LISTS = 2
BLOCKED = -1e4  # added to attention logits; finite, so that a padded query stays finite


class CausalBlock(nn.Module):
    """Pre-norm self-attention over earlier tokens, then a two-layer perceptron."""

    def __init__(self, *, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.before_attention = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.attended = nn.Linear(dim, dim)
        self.before_mlp = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, tokens_BMD: Tensor, blocked_BQM: Tensor) -> Tensor:
        """The last Q tokens after the block (B, Q, D), Q being how many rows are blocked out."""
        asking_BQD = tokens_BMD[:, -blocked_BQM.shape[1] :]
        normal_BMD = self.before_attention(tokens_BMD)
        query = self.by_head(self.query(normal_BMD[:, -blocked_BQM.shape[1] :]))
        key, value = (self.by_head(part) for part in self.key_value(normal_BMD).chunk(2, dim=-1))
        logits = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        attention = torch.softmax(logits + blocked_BQM[:, None], dim=-1)
        asking_BQD = asking_BQD + self.attended((attention @ value).transpose(1, 2).flatten(2))
        return asking_BQD + self.mlp(self.before_mlp(asking_BQD))

    def by_head(self, part_BMD: Tensor) -> Tensor:
        """(B, M, D) to (B, heads, M, D / heads)."""
        return part_BMD.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)


class NextSiteNetwork(nn.Module):
    """Logits of every candidate in two lists: all sites, and sites not opened before."""

    def __init__(
        self,
        *,
        num_activity_types: int,
        token_dim: int,
        hidden_dim: int,
        num_layers: int,
        num_heads: int,
        num_tokens: int,
    ) -> None:
        super().__init__()
        self.num_activity_types = num_activity_types
        self.num_tokens = num_tokens
        num_features = num_site_features(num_activity_types)
        self.site = nn.Sequential(
            nn.Linear(num_features, 2 * token_dim), nn.GELU(), nn.Linear(2 * token_dim, token_dim)
        )
        # Neighbours in the catalogue are neighbours in the course.
        self.neighbourhood = nn.Conv1d(num_features, token_dim, kernel_size=9, padding=4)
        self.token = nn.Linear(token_dim + NUM_TOKEN_FEATURES, token_dim)
        self.question_D = nn.Parameter(torch.randn(token_dim) * 0.02)
        self.blocks = nn.ModuleList(
            CausalBlock(dim=token_dim, num_heads=num_heads) for _ in range(num_layers)
        )
        self.after_blocks = nn.LayerNorm(token_dim)
        self.match = nn.Linear(token_dim, NUM_LISTS * token_dim)
        self.site_hidden = nn.Linear(2 * token_dim + num_features, hidden_dim)
        self.own_hidden = nn.Linear(NUM_OWN_FEATURES, hidden_dim)
        self.student_hidden = nn.Linear(token_dim + NUM_STUDENT_FEATURES, hidden_dim)
        self.site_logit = nn.Linear(num_features, NUM_LISTS)
        self.own_logit = nn.Linear(NUM_OWN_FEATURES, NUM_LISTS)
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, NUM_LISTS),
        )

    def forward(
        self,
        *,
        sites_KCF: Tensor,
        day_index_B: Tensor,
        candidates_BW: Tensor,
        own_BWF: Tensor,
        student_BF: Tensor,
        token_sites_BM: Tensor,
        token_ages_BM: Tensor,
        token_mask_BM: Tensor,
    ) -> Tensor:
        """Logits (B, W, T). `candidates_BW` and `token_sites_BM` index the catalogue."""
        num_sites = sites_KCF.shape[1]
        site_KCD = self.site(sites_KCF)
        around_KCD = functional.gelu(self.neighbourhood(sites_KCF.transpose(1, 2)).transpose(1, 2))
        hidden_KCH = self.site_hidden(torch.cat([site_KCD, around_KCD, sites_KCF], dim=-1))
        per_site = torch.cat([hidden_KCH, self.site_logit(sites_KCF), self.match(site_KCD)], dim=-1)
        first_row_B1 = day_index_B[:, None] * num_sites
        state_BD = self.student_state(
            functional.embedding(first_row_B1 + token_sites_BM, site_KCD.flatten(0, 1)),
            token_ages_BM,
            token_mask_BM,
        )
        gathered = functional.embedding(first_row_B1 + candidates_BW, per_site.flatten(0, 1))
        hidden_BWH, logit_BWT, match_BW = gathered.split(
            [hidden_KCH.shape[-1], NUM_LISTS, NUM_LISTS * state_BD.shape[-1]], dim=-1
        )
        student_BH = self.student_hidden(torch.cat([state_BD, student_BF], dim=-1))
        hidden_BWH = hidden_BWH + self.own_hidden(own_BWF) + student_BH[:, None]
        match_BWTD = match_BW.unflatten(-1, (NUM_LISTS, -1))
        match_BWT = (match_BWTD * state_BD[:, None, None]).sum(-1) / state_BD.shape[-1] ** 0.5
        return self.head(hidden_BWH) + logit_BWT + self.own_logit(own_BWF) + match_BWT

    def student_state(self, sites_BMD: Tensor, ages_BM: Tensor, mask_BM: Tensor) -> Tensor:
        """What the last token, the question "what comes next", has read from the earlier (B, D)."""
        described = torch.cat([sites_BMD, token_features(ages_BM, mask_BM)], dim=-1)
        question_B1D = self.question_D.expand(ages_BM.shape[0], 1, -1)
        tokens_BMD = torch.cat([self.token(described), question_B1D], dim=1)
        known_BM = functional.pad(mask_BM.float(), (0, 1), value=1.0)
        length = tokens_BMD.shape[1]
        causal_MM = torch.ones(length, length).tril()
        blocked_BMM = (1.0 - causal_MM * known_BM[:, None]) * BLOCKED
        for block in self.blocks[:-1]:
            tokens_BMD = block(tokens_BMD, blocked_BMM)
        # Only the question is read from the last block, so only it is asked there.
        tokens_BMD = self.blocks[-1](tokens_BMD, blocked_BMM[:, -1:])
        return self.after_blocks(tokens_BMD[:, -1])
