"""Brings a reweighting into training and reports how uneven its weights are."""

from itertools import groupby
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback
from torch import Tensor
from torch import distributed as dist

from lightning_sep.functional.precision import measured
from lightning_sep.functional.processes import own_rank, world_size
from lightning_sep.functional.step_sums import AT_ONCE, add_in_order
from lightning_sep.reweighting.base import Reweighting

# Of weight times number of examples, so that 1 means "as in the plain mean".
EDGES: NDArray[np.float64] = np.concatenate([[0.0], np.logspace(-3, 3, 37)])


class Reweight(Callback):
    """Sets ``task.reweighting`` and sums up the weights used over an epoch.

    The task shows the weights of each step in ``task.step_weights``: ``[example]``, its process's
    share of the weights of all processes (which sum to 1), NaN for examples left out. Of each step
    a few sums are kept, which are made for some steps at a time. At the end of an epoch
    ``task.epoch_metrics["train/effective_batch"]`` becomes the mean over steps of
    ``1 / sum(weight^2)``: the number of examples that an even batch of the same spread would have.

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
        self._waiting: list[Tensor] = []  # weights of the steps that are not counted yet

    def state_dict(self) -> dict[str, Any]:
        self._count()
        return {"sums": self.sums.cpu(), "counts": self._all_counts().cpu()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.sums, self.counts = state_dict["sums"], state_dict["counts"]
        if own_rank() > 0:  # the first process goes on with what all have counted
            self.counts = torch.zeros_like(self.counts)

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
        self._waiting.append(task.step_weights)
        if len(self._waiting) == AT_ONCE:
            self._count()

    def _count(self) -> None:
        """Add the steps that wait to the sums; in all processes after the same steps."""
        if not self._waiting:
            return
        device = self._waiting[0].device
        # Steps of one size together; sizes change at the end of an epoch at most.
        shown = [
            measured(torch.stack(list(alike)))
            for _, alike in groupby(self._waiting, key=lambda one: one.shape)
        ]
        self._waiting.clear()
        kept = [~one.isnan() for one in shown]
        weights = [torch.where(k, one, 0.0) for k, one in zip(kept, shown, strict=True)]
        squares = torch.cat([one.square().sum(1) for one in weights])
        steps = torch.stack([squares, torch.cat([k.sum(1) for k in kept]).to(squares.dtype)])
        if world_size() > 1:
            dist.all_reduce(steps)
        squares, sizes = steps
        filled = squares > 0
        effective = torch.where(filled, 1 / torch.where(filled, squares, 1.0), 0.0)
        each = torch.stack([effective, filled.to(effective.dtype)], dim=1)
        self.sums = add_in_order(self.sums.to(device), each.unbind())
        self.counts = self.counts.to(device)
        inner = self.edges.to(device)[1:-1]
        for k, one, size in zip(kept, weights, sizes.split([len(k) for k in kept]), strict=True):
            relative = (one * size.unsqueeze(1)).clamp(max=float(EDGES[-1]))
            # Those left out are counted beyond the last bin.
            bins = torch.where(k, torch.bucketize(relative, inner, right=True), len(EDGES) - 1)
            here = torch.zeros(len(EDGES), dtype=torch.int64, device=device)
            here.index_add_(0, bins.flatten(), torch.ones_like(bins).flatten())
            self.counts = self.counts + here[:-1]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        task: Any = pl_module
        self._count()
        sizes, steps = self.sums.tolist()
        if steps:
            task.epoch_metrics["train/effective_batch"] = sizes / steps
        self.histogram = (self._all_counts().cpu().numpy(), EDGES)

    def _all_counts(self) -> Tensor:
        counts = self.counts.clone()
        if world_size() > 1:
            dist.all_reduce(counts)
        return counts
