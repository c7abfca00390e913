"""A deep ensemble of tabular networks in one module: encoders, scalers and members together.

Shape suffixes used below: B = rows, F = numeric features, C = categorical features, I = encoded
inputs, Q = bin edges per feature, H = hidden units, K = members, T = labels.
"""

import math
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn


class NumericEncoder(nn.Module):
    """Raw numbers (NaN = unknown) to network inputs; fitted once, then fixed.

    Each feature becomes its standardised signed logarithm, its place between training quantiles
    (the piecewise linear encoding of Gorishniy et al. 2022, "On Embeddings for Numerical Features
    in Tabular Deep Learning"), and a missing indicator.
    """

    mean_F: Tensor
    scale_F: Tensor
    low_FQ: Tensor
    inverse_width_FQ: Tensor

    def __init__(self, *, num_features: int, num_bins: int) -> None:
        super().__init__()
        if num_bins < 0:
            raise ValueError(f"num_bins must be 0 or more, got {num_bins}")
        self.num_bins = num_bins
        self.num_outputs = num_features * (2 + num_bins)
        self.register_buffer("mean_F", torch.zeros(num_features))
        self.register_buffer("scale_F", torch.ones(num_features))
        self.register_buffer("low_FQ", torch.zeros(num_features, num_bins))
        self.register_buffer("inverse_width_FQ", torch.ones(num_features, num_bins))

    @torch.no_grad()
    def fit(self, numeric_BF: np.ndarray) -> None:
        logs_BF = np.sign(numeric_BF) * np.log1p(np.abs(numeric_BF))
        for feature in range(logs_BF.shape[1]):
            known = logs_BF[:, feature]
            known = known[np.isfinite(known)].astype(np.float64)
            if known.size == 0:
                continue
            self.mean_F[feature] = known.mean()
            self.scale_F[feature] = 1 / max(known.std(), 1e-6)
            if self.num_bins:
                self.fit_bins(feature, known)

    def fit_bins(self, feature: int, known: np.ndarray) -> None:
        """Edges at distinct quantiles; spare bins repeat the last edge and stay at 0 or 1."""
        edges = np.unique(np.quantile(known, np.linspace(0, 1, self.num_bins + 1)))
        for place in range(self.num_bins):
            low = edges[min(place, len(edges) - 1)]
            high = edges[min(place + 1, len(edges) - 1)]
            self.low_FQ[feature, place] = low
            self.inverse_width_FQ[feature, place] = 1 / (high - low) if high > low else 0.0

    def forward(self, numeric_BF: Tensor) -> Tensor:
        unknown_BF = torch.isnan(numeric_BF)
        filled_BF = torch.where(unknown_BF, torch.zeros_like(numeric_BF), numeric_BF)
        logs_BF = torch.sign(filled_BF) * torch.log1p(torch.abs(filled_BF))
        known_BF = (~unknown_BF).to(numeric_BF.dtype)
        scaled_BF = (logs_BF - self.mean_F) * self.scale_F * known_BF
        parts = [torch.clamp(scaled_BF, -6.0, 6.0), 1 - known_BF]
        if self.num_bins:
            place_BFQ = (logs_BF.unsqueeze(-1) - self.low_FQ) * self.inverse_width_FQ
            place_BFQ = torch.clamp(place_BFQ, 0.0, 1.0) * known_BF.unsqueeze(-1)
            parts.append(place_BFQ.flatten(1))
        return torch.cat(parts, dim=1)


class MemberLinear(nn.Module):
    """One linear layer per member, computed together: (K, B, in) to (K, B, out)."""

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(inputs)
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(members, 1, outputs).uniform_(-bound, bound))

    def forward(self, inputs_KBI: Tensor) -> Tensor:
        return torch.baddbmm(self.bias, inputs_KBI, self.weight)


class TabularEnsemble(nn.Module):
    """Members share the fixed encoders and nothing else; their probabilities are averaged."""

    def __init__(
        self,
        *,
        num_numeric: int,
        cardinalities: list[int],
        num_labels: int,
        num_members: int,
        hidden_dim: int,
        depth: int,
        num_bins: int,
        embedding_dim: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.numeric = NumericEncoder(num_features=num_numeric, num_bins=num_bins)
        self.cardinalities = cardinalities
        self.num_members = num_members
        # Code 0 is the unknown string; one table holds every member's vector.
        self.embeddings = nn.ModuleList(
            nn.Embedding(size + 1, num_members * embedding_dim) for size in cardinalities
        )
        width = self.numeric.num_outputs + embedding_dim * len(cardinalities)
        sizes = [width, *[hidden_dim] * depth]
        self.hidden = nn.ModuleList(
            MemberLinear(num_members, before, after) for before, after in pairwise(sizes)
        )
        self.head = MemberLinear(num_members, sizes[-1], num_labels)
        self.dropout = nn.Dropout(dropout)

    @torch.no_grad()
    def start_from(self, base_rates_T: Tensor) -> None:
        """Start every member at the base rates: with rare labels this saves the first epoch."""
        self.head.bias.copy_(torch.logit(base_rates_T, eps=1e-6).expand_as(self.head.bias))

    def forward(self, numeric_BF: Tensor, codes_BC: Tensor) -> Tensor:
        """Logits of every member, shape (K, B, T)."""
        encoded_BI = self.numeric(numeric_BF)
        inputs = [encoded_BI.unsqueeze(0).expand(self.num_members, -1, -1)]
        for column, embedding in enumerate(self.embeddings):
            vectors = embedding(codes_BC[:, column])
            inputs.append(vectors.unflatten(1, (self.num_members, -1)).transpose(0, 1))
        hidden_KBH = torch.cat(inputs, dim=2)
        for layer in self.hidden:
            hidden_KBH = self.dropout(torch.relu(layer(hidden_KBH)))
        logits_KBT: Tensor = self.head(hidden_KBH)
        return logits_KBT

    def probabilities(self, numeric_BF: Tensor, codes_BC: Tensor) -> Tensor:
        """Mean probability over the members, shape (B, T)."""
        return torch.sigmoid(self(numeric_BF, codes_BC)).mean(dim=0)


class Probabilities(nn.Module):
    """What is released: the ensemble with its named inputs."""

    def __init__(self, ensemble: TabularEnsemble) -> None:
        super().__init__()
        self.ensemble = ensemble

    def forward(self, numeric: Tensor, categorical_codes: Tensor) -> Tensor:
        return self.ensemble.probabilities(numeric, categorical_codes)
