"""Will this registration be cancelled? A deep ensemble of tabular networks, trained by Lightning.

Shape suffixes used below: B = rows, F = numeric features, C = categorical features, K = members,
T = labels.
"""

import copy
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, EarlyStopping
from lightning.pytorch.strategies import DDPStrategy
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from training.batches import RankBatches, Rows, loader
from training.curves import Curves
from training.dataset import Dataset, TabularSplit, open_dataset, read_tabular, write_predictions
from training.errors import TrainingError
from training.export import (
    StringInput,
    encode,
    export_torch,
    prepend_string_encoders,
    run_in_batches,
    vocabulary_of,
    write_signature,
)
from training.tabular_network import Probabilities, TabularEnsemble

PREDICTION_BATCH = 8192


class WithdrawalModule(pl.LightningModule):
    """Trains every member on the masked cross-entropy of all labels at once."""

    def __init__(
        self,
        ensemble: TabularEnsemble,
        *,
        learning_rate: float,
        weight_decay: float,
        num_steps: int,
    ) -> None:
        super().__init__()
        self.ensemble = ensemble
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.num_steps = num_steps

    def training_step(self, batch: dict[str, Tensor], _batch_idx: int) -> Tensor:
        logits_KBT = self.ensemble(batch["numeric"], batch["codes"])
        loss = masked_cross_entropy(logits_KBT, batch["labels"])
        self.log(
            "train_loss",
            loss,
            on_epoch=True,
            on_step=False,
            sync_dist=True,
            batch_size=len(batch["labels"]),
        )
        return loss

    def validation_step(self, batch: dict[str, Tensor], _batch_idx: int) -> None:
        """The released quantity: members averaged as probabilities, then scored."""
        mean_BT = self.ensemble.probabilities(batch["numeric"], batch["codes"])
        loss = masked_cross_entropy(torch.logit(mean_BT, eps=1e-7).unsqueeze(0), batch["labels"])
        self.log("valid_loss", loss, sync_dist=True, batch_size=len(batch["labels"]))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.learning_rate, total_steps=self.num_steps
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def masked_cross_entropy(logits_KBT: Tensor, labels_BT: Tensor) -> Tensor:
    """Mean cross-entropy over members and known labels; NaN labels (horizon open) count nothing."""
    known_BT = ~torch.isnan(labels_BT)
    targets_KBT = torch.where(known_BT, labels_BT, 0.0).expand_as(logits_KBT)
    losses_KBT = functional.binary_cross_entropy_with_logits(
        logits_KBT, targets_KBT, reduction="none"
    )
    per_label_T = (losses_KBT.mean(0) * known_BT).sum(0) / known_BT.sum(0).clamp(min=1)
    return per_label_T.mean()


class EpochReport(Callback):
    """Rank 0 reports each epoch's metrics while training runs, and keeps the best weights."""

    def __init__(self, report: Callable[[dict[str, float]], None], curves: Curves) -> None:
        self.report = report
        self.curves = curves
        self.best_loss = float("inf")
        self.best_weights: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if metrics["valid_loss"] < self.best_loss:
            self.best_loss = metrics["valid_loss"]
            self.best_weights = copy.deepcopy(pl_module.state_dict())
        if trainer.is_global_zero:
            self.curves.add(trainer.current_epoch, trainer.global_step, metrics)
            self.report({"epoch": trainer.current_epoch, "step": trainer.global_step, **metrics})


def train(
    *,
    dataset: Path,
    output: Path,
    report: Callable[[dict[str, float]], None],
    num_members: Annotated[int, Field(gt=0)] = 4,
    hidden_dim: Annotated[int, Field(gt=0)] = 64,
    depth: Annotated[int, Field(gt=0)] = 2,
    num_bins: Annotated[int, Field(ge=0)] = 8,
    embedding_dim: Annotated[int, Field(gt=0)] = 4,
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.4,
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3,
    weight_decay: Annotated[float, Field(ge=0)] = 0.02,
    batch_size: Annotated[int, Field(gt=0)] = 2048,
    max_epochs: Annotated[int, Field(gt=0)] = 3,
    patience_epochs: Annotated[int, Field(gt=0)] = 2,
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.15,
    seed: int = 0,
    devices: Annotated[int, Field(gt=0)] = 1,
    strategy: Literal["auto", "ddp"] = "auto",
    accelerator: Literal["auto", "cpu", "gpu"] = "auto",
) -> None:
    """Train on the train split, score the test split with the exported graph.

    batch_size is per rank and step; devices is the number of ranks, which torchrun must start.
    """
    pl.seed_everything(seed, verbose=False)
    expect_world_size(devices)
    source = open_dataset(dataset)
    split = read_tabular(source, "train")
    vocabularies = [vocabulary_of(column_B) for column_B in split.categorical_BC.T]
    ensemble = TabularEnsemble(
        num_numeric=len(source.numeric),
        cardinalities=[len(vocabulary) for vocabulary in vocabularies],
        num_labels=len(source.labels),
        num_members=num_members,
        hidden_dim=hidden_dim,
        depth=depth,
        num_bins=num_bins,
        embedding_dim=embedding_dim,
        dropout=dropout,
    )
    held_out_B = held_out(split.table[source.entity].to_pylist(), share=validation_share)
    ensemble.numeric.fit(split.numeric_BF[~held_out_B])
    ensemble.start_from(torch.from_numpy(np.nanmean(split.labels_BT[~held_out_B], axis=0)))
    rank = int(os.environ.get("RANK", "0"))
    samplers = {
        "seed": seed,
        "batch_size": batch_size,
        "rank": rank,
        "world_size": devices,
    }
    rows = {
        name: as_rows(split, vocabularies, kept)
        for name, kept in (("train", ~held_out_B), ("valid", held_out_B))
    }
    train_batches = RankBatches(len(rows["train"]), shuffle=True, **samplers)
    valid_batches = RankBatches(len(rows["valid"]), shuffle=False, **samplers)
    module = WithdrawalModule(
        ensemble,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        num_steps=max_epochs * len(train_batches),
    )
    curves = Curves()
    watch = EpochReport(report, curves)
    trainer = pl.Trainer(
        max_epochs=max_epochs,
        accelerator=accelerator,
        devices=devices,
        strategy=strategy_of(strategy, accelerator, devices=devices),
        callbacks=[EarlyStopping("valid_loss", patience=patience_epochs), watch],
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, loader(rows["train"], train_batches), loader(rows["valid"], valid_batches))
    module.load_state_dict(watch.best_weights)
    if trainer.is_global_zero:
        curves.write(output / "curves.parquet")
        release(ensemble.cpu(), source, vocabularies, output)


def expect_world_size(devices: int) -> None:
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if devices != world_size:
        raise TrainingError(
            f"devices is {devices}, but {world_size} process(es) were started: "
            f"use torchrun --nproc-per-node {devices} -m training.run ..."
        )


def strategy_of(strategy: str, accelerator: str, *, devices: int) -> Any:
    if strategy == "ddp":
        use_gpu = accelerator == "gpu" or (accelerator == "auto" and torch.cuda.is_available())
        return DDPStrategy(process_group_backend="nccl" if use_gpu else "gloo")
    if devices > 1:
        raise TrainingError(f"devices is {devices}, which needs strategy 'ddp', got {strategy!r}")
    return "auto"


def held_out(registration_ids: list[str], *, share: float) -> np.ndarray:
    """Rows of the students held out for early stopping; a student's courses stay together."""
    students = [text.rsplit("-", 1)[-1] for text in registration_ids]
    distinct, inverse = np.unique(students, return_inverse=True)
    chosen = np.random.default_rng(0).random(len(distinct)) < share
    return np.asarray(chosen[inverse])


def as_rows(split: TabularSplit, vocabularies: list[list[str]], kept_B: np.ndarray) -> Rows:
    return Rows(
        numeric=torch.from_numpy(split.numeric_BF[kept_B]),
        codes=torch.from_numpy(encode(split.categorical_BC[kept_B], vocabularies)),
        labels=torch.from_numpy(split.labels_BT[kept_B]),
    )


def release(
    ensemble: TabularEnsemble, source: Dataset, vocabularies: list[list[str]], output: Path
) -> None:
    """Export the graph, then let that very graph score the test split."""
    path = output / "model.onnx"
    export_ensemble(ensemble, vocabularies, path)
    write_signature(path)
    test = read_tabular(source, "test")
    scores_BT = run_in_batches(
        path,
        len(test.numeric_BF),
        lambda part: {
            "numeric": test.numeric_BF[part],
            "categorical": test.categorical_BC[part],
        },
        size=PREDICTION_BATCH,
    )
    write_predictions(output / "predictions.parquet", test, scores_BT, source)


def export_ensemble(ensemble: TabularEnsemble, vocabularies: list[list[str]], path: Path) -> None:
    """`numeric` float32 (B, F) and `categorical` string (B, C) to `probabilities` (B, T)."""
    num_features = ensemble.numeric.mean_F.shape[0]
    example = {
        "numeric": torch.zeros(3, num_features),
        "categorical_codes": torch.zeros(3, len(vocabularies), dtype=torch.int64),
    }
    export_torch(
        Probabilities(ensemble),
        example,
        ["probabilities"],
        path,
        dynamic={name: {0: "batch"} for name in example},
    )
    codes = StringInput(name="categorical", codes="categorical_codes", vocabularies=vocabularies)
    prepend_string_encoders(path, [codes])
