"""Batches cut from tensors already in memory, each rank taking its own share of the rows."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler


class Rows(Dataset[dict[str, Tensor]]):
    """Named tensors of equal length; indexing by a list of rows gives a whole batch."""

    def __init__(self, **tensors: Tensor) -> None:
        lengths = {name: len(tensor) for name, tensor in tensors.items()}
        assert len(set(lengths.values())) == 1, lengths
        self.tensors = tensors

    def __len__(self) -> int:
        return len(next(iter(self.tensors.values())))

    def __getitem__(self, rows: Any) -> dict[str, Tensor]:
        return {name: tensor[rows] for name, tensor in self.tensors.items()}


class RankBatches(Sampler[list[int]]):
    """Row numbers of each batch of one rank; all ranks get equally many batches.

    The last rows of an epoch that would leave a rank with fewer batches are dropped when shuffling
    (another epoch draws others) and are given to the first ranks otherwise.
    """

    def __init__(
        self,
        num_rows: int,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
        rank: int,
        world_size: int,
    ) -> None:
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch, so that each epoch has its own order."""
        self.epoch = epoch

    def __len__(self) -> int:
        return math.ceil(self.rows_per_rank() / self.batch_size)

    def rows_per_rank(self) -> int:
        if self.shuffle:
            return self.num_rows // self.world_size
        return len(range(self.rank, self.num_rows, self.world_size))

    def __iter__(self) -> Iterator[Any]:
        if self.shuffle:
            generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
            order = torch.randperm(self.num_rows, generator=generator)
        else:
            order = torch.arange(self.num_rows)
        mine = order[self.rank :: self.world_size][: self.rows_per_rank()]
        yield from torch.split(mine, self.batch_size)


def loader(rows: Rows, sampler: RankBatches) -> "DataLoader[dict[str, Tensor]]":
    return DataLoader(rows, sampler=sampler, batch_size=None)
