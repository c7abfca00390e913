"""Training the network end to end on a made-up course."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from tests.training.next_site_worlds import made_up_visits, write_dataset
from training import next_site, next_site_baselines
from training.errors import TrainingError
from training.evaluate import evaluate
from training.next_site import (
    listwise_loss,
    prepare_all,
    training_cuts,
)
from training.next_site_batches import PresentationSampler, split_loaders
from training.next_site_data import load_presentations
from training.next_site_examples import Preparation, choose_candidates

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*treespec, LeafSpec:FutureWarning",  # torch's own, while exporting
    "ignore:# The axis name:UserWarning",
    "ignore:The '.*_dataloader' does not have many workers",  # the data is in memory already
    "ignore:The number of training batches",
)
SMALL: dict[str, Any] = {
    "token_dim": 8,
    "hidden_dim": 16,
    "num_tokens": 8,
    "first_cut_day": 10,
    "cut_every_days": 3,
    "num_likely": 12,
    "num_random": 6,
    "batch_size": 32,
    "max_epochs": 6,
    "learning_rate": 1e-2,
    "validation_share": 0.1,
}
PREPARATION = Preparation(
    cut_days=[20, 27, 34],
    target_before=40,
    num_activity_types=5,
    num_likely=12,
    num_random=6,
    num_tokens=8,
)
TYPES = ["forumng", "homepage", "oucontent", "quiz"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"), made_up_visits(num_students=60))


def test_the_network_learns_to_beat_popularity(dataset: Path, tmp_path: Path) -> None:
    """Students move on site by site, which popularity in the last week lags behind."""
    predictions = {}
    reports: list[dict[str, float]] = []
    for name, train, options in (
        ("network", next_site.train, SMALL),
        ("popular_7d", next_site_baselines.popular_7d, {}),
    ):
        output = tmp_path / name
        output.mkdir()
        train(dataset=dataset, output=output, report=reports.append, **options)
        predictions[name] = output / "predictions.parquet"
        assert {"model.onnx", "signature.json"} <= {path.name for path in output.iterdir()}
    evaluation = evaluate("sequence", predictions, num_resamples=10)
    for metric in ("all/ndcg_at_5", "discovery/ndcg_at_5"):
        assert evaluation.value("network", metric) > evaluation.value("popular_7d", metric)
    epochs = [report for report in reports if "epoch" in report]
    assert [report["epoch"] for report in epochs] == list(range(SMALL["max_epochs"]))
    assert epochs[-1]["train_loss_all"] < epochs[0]["train_loss_all"]
    curves = pq.read_table(tmp_path / "network" / "curves.parquet")
    assert {"train_loss_all", "valid_loss_all"} <= set(curves["metric"].to_pylist())


def test_predictions_are_complete_lists(dataset: Path, tmp_path: Path) -> None:
    next_site_baselines.popular_7d(dataset=dataset, output=tmp_path, report=print)
    rows = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    opened: dict[str, set[int]] = {}
    for visit in made_up_visits(num_students=60):
        if visit.day < 50:
            opened.setdefault(visit.registration_id, set()).add(visit.site_id)
    lists: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        lists.setdefault((row["registration_id"], row["list"]), []).append(row)
    for (registration, name), ranked in lists.items():
        assert [row["rank"] for row in ranked] == list(range(1, len(ranked) + 1))
        sites = {row["site_id"] for row in ranked}
        assert len(sites) == len(ranked)
        # 30 sites, fewer than the 50 that are kept: all are listed, and so is all that is relevant.
        assert sum(row["relevant"] for row in ranked) == ranked[0]["num_relevant"] > 0
        unopened = 30 - len(opened[registration])
        assert len(ranked) == (30 if name == "all" else unopened)
        assert name == "all" or not sites & opened[registration]
    assert {name for _, name in lists} == {"all", "discovery"}


def test_no_training_example_looks_past_the_cut(dataset: Path, tmp_path: Path) -> None:
    """Another history from day 40 on, and not one training tensor changes."""
    changed = [visit for visit in made_up_visits(num_students=60) if visit.day < 40]
    other = write_dataset(tmp_path / "other", changed)
    told, unaware = (
        prepare_all(load_presentations(folder), TYPES, PREPARATION, seed=0)
        for folder in (dataset, other)
    )
    for one, another in zip(told, unaware, strict=True):
        torch.testing.assert_close(one.sites_KCF, another.sites_KCF, rtol=0, atol=0)
        assert len(one.rows["own"]) > 50
        for name, values in one.rows.items():
            torch.testing.assert_close(values, another.rows[name], rtol=0, atol=0)


@pytest.mark.parametrize("begun_until", [1, 45])
def test_a_presentation_that_has_just_begun_is_left_out(tmp_path: Path, begun_until: int) -> None:
    """A stopped clock: one course has run to its end, the other for days only."""
    visits = [
        visit
        for visit in made_up_visits(num_students=60)
        if visit.presentation_id == "AAA-2013J" or visit.day < begun_until
    ]
    dataset = write_dataset(tmp_path / "dataset", visits)
    output = tmp_path / "network"
    output.mkdir()

    next_site.train(
        dataset=dataset, output=output, report=lambda _: None, first_cut_day=10, max_epochs=1
    )

    ranked = pq.read_table(output / "predictions.parquet")["registration_id"].to_pylist()
    assert {name.rsplit("-", 1)[0] for name in ranked} == {"AAA-2013J"}


def test_nothing_to_learn_from_is_named(tmp_path: Path) -> None:
    visits = [visit for visit in made_up_visits() if visit.day in {0, 55}]
    dataset = write_dataset(tmp_path / "dataset", visits)

    with pytest.raises(TrainingError, match="choose an earlier first_cut_day"):
        prepare_all(load_presentations(dataset), TYPES, PREPARATION, seed=0)


def test_every_relevant_site_is_kept(dataset: Path) -> None:
    presentations = load_presentations(dataset)
    prepared = prepare_all(presentations, TYPES, PREPARATION, seed=0)
    for presentation, examples in zip(presentations, prepared, strict=True):
        expected = sum(
            int((found.target_end_N - found.history_end_N).sum())
            for found in (
                presentation.examples(day=day, target_before=40) for day in PREPARATION.cut_days
            )
        )
        assert int(examples.rows["relevant"].sum()) == expected


def test_random_candidates_stand_for_all_the_others() -> None:
    likelihood_NC = torch.arange(40.0).expand(2, -1)
    kept_NW, log_weight_NW = choose_candidates(
        likelihood_NC, PREPARATION, torch.Generator().manual_seed(0)
    )
    assert kept_NW[0, :12].tolist() == list(range(39, 27, -1))
    assert all(len(set(row.tolist())) == 18 for row in kept_NW)
    assert log_weight_NW.exp().sum(dim=1).tolist() == pytest.approx([40.0, 40.0])


def test_listwise_loss_equals_its_definition() -> None:
    logits = torch.tensor([[2.0, 0.0, -1.0]])
    relevant = torch.tensor([[True, False, True]])
    share = np.exp([2.0, 0.0, -1.0]) / np.exp([2.0, 0.0, -1.0]).sum()
    expected = -(np.log(share[0]) + np.log(share[2])) / 2
    assert float(listwise_loss(logits, relevant)[0]) == pytest.approx(expected)


def test_cuts_leave_a_week_for_their_targets() -> None:
    assert training_cuts(80, before=106, every=7) == [85, 92, 99]
    with pytest.raises(TrainingError, match="first_cut_day is 100, but the last cut is day 99"):
        training_cuts(100, before=106, every=7)


def test_a_registration_is_either_trained_on_or_held_out(dataset: Path) -> None:
    prepared = prepare_all(load_presentations(dataset), TYPES, PREPARATION, seed=0)
    loaders = split_loaders(prepared, share=0.2, batch_size=16, seed=3)
    train, valid = ([(index, rows) for index, rows in loader.sampler] for loader in loaders)
    for index, examples in enumerate(prepared):
        seen = [
            {int(row) for place, rows in part if place == index for row in rows}
            for part in (train, valid)
        ]
        assert seen[0] | seen[1] == set(range(len(examples.registration_N)))
        owners = [{examples.registration_N[row] for row in rows} for rows in seen]
        assert owners[0]
        assert owners[1]
        assert not owners[0] & owners[1]


def test_each_epoch_has_its_own_order() -> None:
    sampler = PresentationSampler(
        [torch.arange(50), torch.arange(30)], batch_size=8, shuffle=True, seed=0
    )
    epochs = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        epochs.append([(index, tuple(rows.tolist())) for index, rows in sampler])
    assert epochs[0] == epochs[2] != epochs[1]
    assert len(epochs[0]) == len(sampler)
    assert sorted(row for index, rows in epochs[1] if index == 1 for row in rows) == list(range(30))


def test_heads_must_divide_the_width(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"token_dim \(9\) must be divisible by num_heads \(2\)"
    ):
        next_site.train(
            dataset=dataset,
            output=tmp_path,
            report=print,
            **(SMALL | {"token_dim": 9}),
        )
