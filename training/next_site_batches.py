"""Batches of next_site examples, each of one presentation, so that no catalogue is padded.

Shape suffixes: N = examples of a presentation, R = its registrations.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from training.next_site_examples import PresentationExamples

Batch = dict[str, Tensor]


class ExampleBatches(Dataset[Batch]):
    """Indexed by (presentation, rows): a batch shares one catalogue, so nothing is padded."""

    def __init__(self, presentations: Sequence[PresentationExamples]) -> None:
        self.presentations = presentations

    def __getitem__(self, place: tuple[int, Tensor]) -> Batch:
        index, rows = place
        examples = self.presentations[index]
        return {
            "sites": examples.sites_KCF,
            **{name: tensor[rows] for name, tensor in examples.rows.items()},
        }


class PresentationSampler(Sampler[tuple[int, Tensor]]):
    """Batches of one presentation each, all presentations mixed, in a new order every epoch."""

    def __init__(
        self, rows_by_presentation: Sequence[Tensor], *, batch_size: int, shuffle: bool, seed: int
    ) -> None:
        self.rows_by_presentation = rows_by_presentation
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(-(-len(rows) // self.batch_size) for rows in self.rows_by_presentation)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        places = []
        for index, rows in enumerate(self.rows_by_presentation):
            mixed = rows[torch.randperm(len(rows), generator=generator)] if self.shuffle else rows
            places += [(index, part) for part in mixed.split(self.batch_size) if len(part)]
        order = (
            torch.randperm(len(places), generator=generator) if self.shuffle else range(len(places))
        )
        return iter([places[int(place)] for place in order])


def split_loaders(
    examples: Sequence[PresentationExamples], *, share: float, batch_size: int, seed: int
) -> tuple[DataLoader[Batch], DataLoader[Batch]]:
    """Training and validation batches; all examples of a registration are in one of the two."""
    random = np.random.default_rng(seed)
    train_rows, valid_rows = [], []
    for item in examples:
        held_out_R = random.random(int(item.registration_N.max()) + 1) < share
        held_out_N = held_out_R[item.registration_N]
        train_rows.append(torch.from_numpy(np.flatnonzero(~held_out_N)))
        valid_rows.append(torch.from_numpy(np.flatnonzero(held_out_N)))
    batches = ExampleBatches(examples)
    samplers = (
        PresentationSampler(train_rows, batch_size=batch_size, shuffle=True, seed=seed),
        PresentationSampler(valid_rows, batch_size=8 * batch_size, shuffle=False, seed=seed),
    )
    train_loader, valid_loader = (
        DataLoader(batches, sampler=sampler, batch_size=None) for sampler in samplers
    )
    return train_loader, valid_loader
