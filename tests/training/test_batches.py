"""Every row is seen once per epoch, by exactly one rank."""

import pytest
import torch

from training.batches import RankBatches, Rows, loader


def sampler(rank: int, *, world_size: int, shuffle: bool, num_rows: int = 103) -> RankBatches:
    return RankBatches(
        num_rows, batch_size=10, shuffle=shuffle, seed=4, rank=rank, world_size=world_size
    )


def drawn(batches: RankBatches) -> list[int]:
    return torch.cat(list(batches)).tolist()


def test_two_ranks_share_the_rows_in_equally_many_batches() -> None:
    ranks = [sampler(rank, world_size=2, shuffle=True) for rank in (0, 1)]

    rows = [drawn(each) for each in ranks]

    assert len(list(ranks[0])) == len(list(ranks[1])) == len(ranks[0])
    assert len(set(rows[0]) | set(rows[1])) == 102  # one row waits for another epoch
    assert not set(rows[0]) & set(rows[1])


def test_without_shuffling_every_row_is_scored_in_order() -> None:
    rows = [drawn(sampler(rank, world_size=2, shuffle=False)) for rank in (0, 1)]

    assert rows == [list(range(0, 103, 2)), list(range(1, 103, 2))]


def test_each_epoch_has_its_own_order_and_the_seed_repeats_it() -> None:
    batches = sampler(0, world_size=1, shuffle=True)
    first = drawn(batches)
    batches.set_epoch(1)

    assert drawn(batches) != first
    batches.set_epoch(0)
    assert drawn(batches) == first


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_batch_holds_the_same_rows_of_every_tensor() -> None:
    rows = Rows(left=torch.arange(103), right=torch.arange(103) * 2)

    for batch in loader(rows, sampler(0, world_size=1, shuffle=True)):
        assert torch.equal(batch["left"] * 2, batch["right"])
