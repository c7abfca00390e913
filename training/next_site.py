"""Which sites will this student open next? The network, trained by Lightning on earlier cut days.

Shape suffixes: B = batch, W = kept candidates, T = the two lists.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from pydantic import Field
from torch import Tensor
from torch.utils.data import DataLoader

from training.curves import Curves
from training.dataset import open_dataset
from training.errors import TrainingError
from training.next_site_batches import Batch, split_loaders
from training.next_site_data import Presentation, cut_day, load_presentations
from training.next_site_examples import Preparation, PresentationExamples, prepare
from training.next_site_graph import NetworkGraph, export_graph
from training.next_site_network import NextSiteNetwork
from training.next_site_predictions import write_rankings

OPENED_BEFORE = 0  # its place among the own features
EXCLUDED = -1e4  # logit of what cannot be discovered any more


class NextSiteModule(LightningModule):
    """Minimises the listwise cross-entropy of both lists."""

    def __init__(
        self,
        network: NextSiteNetwork,
        *,
        learning_rate: float,
        weight_decay: float,
        discovery_weight: float,
        num_steps: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.discovery_weight = discovery_weight
        self.num_steps = num_steps

    def training_step(self, batch: Batch) -> Tensor:
        return self.log_losses("train", batch)

    def validation_step(self, batch: Batch) -> None:
        self.log_losses("valid", batch)

    def log_losses(self, stage: str, batch: Batch) -> Tensor:
        all_B, discovery_B = list_losses(self.network, batch)
        losses = {"all": all_B.mean(), "discovery": mean_or_zero(discovery_B)}
        for name, loss in losses.items():
            self.log(
                f"{stage}_loss_{name}",
                loss,
                on_epoch=True,
                on_step=False,
                batch_size=max(len(all_B if name == "all" else discovery_B), 1),
            )
        return losses["all"] + self.discovery_weight * losses["discovery"]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=self.learning_rate, total_steps=self.num_steps, pct_start=0.1
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


def list_losses(network: NextSiteNetwork, batch: Batch) -> tuple[Tensor, Tensor]:
    """Loss per example of all sites, and of discovery where there is something to discover."""
    own_BWF = batch["own"].float()
    logits_BWT = network(
        sites_KCF=batch["sites"],
        day_index_B=batch["day_index"],
        candidates_BW=batch["candidates"].long(),
        own_BWF=own_BWF,
        student_BF=batch["student"],
        token_sites_BM=batch["token_sites"].long(),
        token_ages_BM=batch["token_ages"].float(),
        token_mask_BM=batch["token_mask"],
    )
    all_BW, discovery_BW = (logits_BWT + batch["log_weight"].float()[..., None]).unbind(dim=-1)
    opened_BW = own_BWF[..., OPENED_BEFORE] > 0
    new_BW = batch["relevant"] & ~opened_BW
    discovers_B = new_BW.any(dim=1)
    discovery_BW = discovery_BW.masked_fill(opened_BW, EXCLUDED)
    return (
        listwise_loss(all_BW, batch["relevant"]),
        listwise_loss(discovery_BW[discovers_B], new_BW[discovers_B]),
    )


def listwise_loss(logits_BW: Tensor, relevant_BW: Tensor) -> Tensor:
    """Cross-entropy between the softmax of the logits and equal shares of the relevant (B,).

    ListNet's top-one loss (Cao et al. 2007, "Learning to Rank: From Pairwise Approach to Listwise
    Approach").
    """
    log_share_BW = torch.log_softmax(logits_BW, dim=1).masked_fill(~relevant_BW, 0.0)
    return -log_share_BW.sum(dim=1) / relevant_BW.sum(dim=1)


def mean_or_zero(losses_B: Tensor) -> Tensor:
    return losses_B.sum() / max(len(losses_B), 1)


class EpochReport(Callback):
    """Reports each epoch's metrics while training runs, and keeps them for curves.parquet."""

    def __init__(self, report: Callable[[dict[str, float]], None], curves: Curves) -> None:
        self.report = report
        self.curves = curves

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.curves.add(trainer.current_epoch, trainer.global_step, metrics)
        self.report({"epoch": trainer.current_epoch, "step": trainer.global_step, **metrics})


def train(
    *,
    dataset: Path,
    output: Path,
    report: Callable[[dict[str, float]], None],
    phase: Literal["tune", "test"] = "test",
    token_dim: Annotated[int, Field(gt=0)] = 32,
    hidden_dim: Annotated[int, Field(gt=0)] = 48,
    num_layers: Annotated[int, Field(gt=0)] = 1,
    num_heads: Annotated[int, Field(gt=0)] = 2,
    num_tokens: Annotated[int, Field(gt=0)] = 32,
    first_cut_day: int = 36,
    cut_every_days: Annotated[int, Field(gt=0)] = 7,
    num_likely: Annotated[int, Field(gt=0)] = 48,
    num_random: Annotated[int, Field(ge=0)] = 24,
    discovery_weight: Annotated[float, Field(ge=0)] = 0.5,
    learning_rate: Annotated[float, Field(gt=0)] = 3e-3,
    weight_decay: Annotated[float, Field(ge=0)] = 0.01,
    batch_size: Annotated[int, Field(gt=0)] = 128,
    max_epochs: Annotated[int, Field(gt=0)] = 2,
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.03,
    seed: int = 0,
) -> None:
    """Train on cuts whose targets lie before the phase's cut day, then rank at that day.

    phase "tune" ranks at the tuning cut, "test" once at the test cut. Students of the validation
    share are held out from training and only watched.
    """
    if token_dim % num_heads:
        raise TrainingError(f"token_dim ({token_dim}) must be divisible by num_heads ({num_heads})")
    seed_everything(seed, verbose=False)
    presentations = load_presentations(dataset)
    activity_types = sorted({kind for item in presentations for kind in item.activity_types_C})
    day = cut_day(open_dataset(dataset), phase)
    preparation = Preparation(
        cut_days=training_cuts(first_cut_day, before=day, every=cut_every_days),
        target_before=day,
        num_activity_types=len(activity_types) + 1,  # code 0 is an unknown type
        num_likely=num_likely,
        num_random=num_random,
        num_tokens=num_tokens,
    )
    examples = prepare_all(presentations, activity_types, preparation, seed=seed)
    network = NextSiteNetwork(
        num_activity_types=preparation.num_activity_types,
        token_dim=token_dim,
        hidden_dim=hidden_dim,
        num_layers=num_layers,
        num_heads=num_heads,
        num_tokens=num_tokens,
    )
    loaders = split_loaders(examples, share=validation_share, batch_size=batch_size, seed=seed)
    module = NextSiteModule(
        network,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        discovery_weight=discovery_weight,
        num_steps=max_epochs * len(loaders[0]),
    )
    curves = Curves()
    fit(module, loaders, max_epochs=max_epochs, watch=EpochReport(report, curves))
    curves.write(output / "curves.parquet")
    graph = export_graph(NetworkGraph(network), activity_types, output)
    write_rankings(graph, presentations, day=day, path=output / "predictions.parquet")


def training_cuts(first: int, *, before: int, every: int) -> list[int]:
    """Days to cut at, counted back from a week before `before`."""
    cuts = list(range(before - 7, first - 1, -every))[::-1]
    if not cuts:
        raise TrainingError(f"first_cut_day is {first}, but the last cut is day {before - 7}")
    return cuts


def prepare_all(
    presentations: Sequence[Presentation],
    activity_types: Sequence[str],
    preparation: Preparation,
    *,
    seed: int,
) -> list[PresentationExamples]:
    """Examples of every presentation that has any.

    Raises:
        TrainingError: None has.
    """
    generator = torch.Generator().manual_seed(seed)
    code = {kind: index for index, kind in enumerate(activity_types, start=1)}
    prepared = [
        prepare(
            presentation,
            torch.tensor([code[kind] for kind in presentation.activity_types_C]),
            preparation,
            generator,
        )
        for presentation in presentations
    ]
    examples = [each for each in prepared if each is not None]
    if not examples:
        raise TrainingError(
            f"nobody is active again between day {preparation.cut_days[0]} and day "
            f"{preparation.target_before}: choose an earlier first_cut_day"
        )
    return examples


def fit(
    module: NextSiteModule,
    loaders: tuple[DataLoader[Batch], DataLoader[Batch]],
    *,
    max_epochs: int,
    watch: Callback,
) -> None:
    trainer = Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        devices=1,
        callbacks=[watch],
        gradient_clip_val=1.0,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, *loaders)
