"""Brings a reweighting into training and reports how uneven its weights are."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback
from torch import distributed as dist

from lightning_sep.functional.precision import measured
from lightning_sep.functional.processes import world_size
from lightning_sep.reweighting.base import Reweighting

# Of weight times number of examples, so that 1 means "as in the plain mean".
EDGES: NDArray[np.float64] = np.concatenate([[0.0], np.logspace(-3, 3, 37)])


class Reweight(Callback):
    """Sets ``task.reweighting`` and sums up the weights used over an epoch.

    The task shows the weights of each step in ``task.step_weights``: ``[example]``, its process's
    share of the weights of all processes (which sum to 1), NaN for examples left out. Of each step
    a few sums are kept. At the end of an epoch ``task.epoch_metrics["train/effective_batch"]``
    becomes the mean over steps of ``1 / sum(weight^2)``: the number of examples that an even batch
    of the same spread would have.

    Args:
        rule: what makes weights of losses.
        steps: of the whole run as planned, all attempts together; the trainer's without it.

    Attributes:
        histogram: counts and edges of weight times number of examples, over the last epoch; values
            beyond the last edge are counted in the last bin. ``None`` before the first epoch's end.
    """

    def __init__(self, rule: Reweighting, *, steps: int | None = None) -> None:
        self.rule = rule
        self.steps = steps
        self.histogram: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None
        self._start("cpu")

    def _start(self, device: torch.device | str) -> None:
        self.edges = measured(torch.tensor(EDGES)).to(device)
        # Of the steps so far: the sum of their effective sizes, and their number.
        self.sums = torch.zeros(2, dtype=self.edges.dtype, device=device)
        self.counts = torch.zeros(len(EDGES) - 1, dtype=torch.int64, device=device)

    def state_dict(self) -> dict[str, Any]:
        return {"sums": self.sums.cpu(), "counts": self.counts.cpu()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.sums, self.counts = state_dict["sums"], state_dict["counts"]

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        pl_module.reweighting = self.rule

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        task: Any = pl_module
        steps = self.steps or int(trainer.estimated_stepping_batches)
        self.rule.prepare(steps=steps, classes=task.class_names())

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._start(pl_module.device)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        task: Any = pl_module
        shown = measured(task.step_weights)
        kept = ~shown.isnan()
        weights = torch.where(kept, shown, 0.0)
        step = torch.stack([weights.square().sum(), kept.sum().to(weights.dtype)])
        if world_size() > 1:
            dist.all_reduce(step)
        squares, size = step
        device = weights.device
        filled = squares > 0
        self.sums = self.sums.to(device) + torch.stack(
            [torch.where(filled, 1 / torch.where(filled, squares, 1.0), 0.0), filled.to(step.dtype)]
        )
        relative = (weights * size).clamp(max=float(EDGES[-1]))
        bins = torch.bucketize(relative, self.edges.to(device)[1:-1], right=True)
        places = torch.arange(len(EDGES) - 1, device=device)
        here = (bins.unsqueeze(0) == places.unsqueeze(1)) & kept
        self.counts = self.counts.to(device) + here.sum(1)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        task: Any = pl_module
        sizes, steps = self.sums.tolist()
        if steps:
            task.epoch_metrics["train/effective_batch"] = sizes / steps
        counts = self.counts.clone()
        if world_size() > 1:
            dist.all_reduce(counts)
        self.histogram = (counts.cpu().numpy(), EDGES)
