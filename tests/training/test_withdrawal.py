"""The network learns, repeats itself by its seed, and trains on several ranks."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import roc_auc_score

from tests.training.tabular_worlds import write_dataset

SMALL = {"num_members": 2, "hidden_dim": 16, "num_bins": 4, "batch_size": 64, "max_epochs": 3}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("world") / "dataset", num_students=400)


def train(
    dataset: Path, output: Path, *, launcher: tuple[str, ...] = (), **hyperparameters: object
) -> subprocess.CompletedProcess[str]:
    """In a process of its own: Lightning warns about things that are not ours."""
    command = [sys.executable, "-m", *launcher, "training.run", "training.withdrawal"]
    command += ["--dataset", str(dataset), "--output", str(output)]
    command += ["--hyperparameters", json.dumps(SMALL | hyperparameters)]
    environment = {
        name: value for name, value in os.environ.items() if name not in {"RANK", "WORLD_SIZE"}
    } | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def auc(output: Path) -> float:
    rows = pq.read_table(output / "predictions.parquet").drop_null()
    return float(roc_auc_score(rows["cancelled_within_28d"], rows["score_28d"]))


def test_the_network_learns_and_leaves_everything_a_release_needs(
    dataset: Path, tmp_path: Path
) -> None:
    done = train(dataset, tmp_path / "network")

    assert done.returncode == 0, done.stderr
    assert auc(tmp_path / "network") > 0.75
    curves = pq.read_table(tmp_path / "network" / "curves.parquet").to_pylist()
    losses = [row["value"] for row in curves if row["metric"] == "valid_loss"]
    assert len(losses) == 3
    assert losses[-1] < losses[0]
    reported = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["event"] for each in reported].count("metrics") == 3
    signature = json.loads((tmp_path / "network" / "signature.json").read_text())
    assert [each["name"] for each in signature["inputs"]] == ["numeric", "categorical"]
    assert not [*tmp_path.rglob("*.pt"), *tmp_path.rglob("*.ckpt"), *tmp_path.rglob("*.pkl")]


def test_more_devices_than_processes_is_refused_with_the_command(
    dataset: Path, tmp_path: Path
) -> None:
    done = train(dataset, tmp_path / "network", devices=2, strategy="ddp")

    assert done.returncode == 1
    assert "devices is 2, but 1 process(es) were started" in done.stderr
    assert "torchrun --nproc-per-node 2" in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_seed_repeats_its_scores_exactly(dataset: Path, tmp_path: Path) -> None:
    scores = []
    for run in ("first", "second"):
        assert train(dataset, tmp_path / run, seed=7, max_epochs=1).returncode == 0
        scores.append(pq.read_table(tmp_path / run / "predictions.parquet")["score_7d"].to_numpy())

    np.testing.assert_array_equal(*scores)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_ranks_train_one_network(dataset: Path, tmp_path: Path) -> None:
    """Two gloo ranks see half a batch each; gradients agree, so the result is as good."""
    launcher = ("torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m")

    done = train(
        dataset,
        tmp_path / "network",
        launcher=launcher,
        devices=2,
        strategy="ddp",
        accelerator="cpu",
        batch_size=32,
    )

    assert done.returncode == 0, done.stderr[-3000:]
    reported = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    # rank 0 alone reports, and its 3 epochs of 1,360 rows are shared by two ranks
    assert [each["event"] for each in reported].count("finished") == 1
    steps = [each["metrics"]["step"] for each in reported if each["event"] == "metrics"]
    alone = train(dataset, tmp_path / "alone", batch_size=64)
    alone_steps = [
        each["metrics"]["step"]
        for each in map(json.loads, alone.stdout.splitlines())
        if each["event"] == "metrics"
    ]
    assert steps == alone_steps
    assert auc(tmp_path / "network") == pytest.approx(auc(tmp_path / "alone"), abs=0.05)
