"""Brings a reweighting into training and reports how uneven its weights are."""

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pytorch_lightning import Callback
from torch import Tensor
from torch import distributed as dist

from lightning_sep.functional.precision import measured
from lightning_sep.reweighting.base import Reweighting
from lightning_sep.reweighting.gather import world_size

# Of weight times number of examples, so that 1 means "as in the plain mean".
EDGES: NDArray[np.float64] = np.concatenate([[0.0], np.logspace(-3, 3, 37)])


class Reweight(Callback):
    """Sets ``task.reweighting`` and, at the end of each epoch, sums up the weights used.

    The task keeps the weights of each step in ``task.weights_log``: ``[example]``, its process's
    share of the weights of all processes (which sum to 1), NaN for examples left out. At the end
    of an epoch ``task.epoch_metrics["train/effective_batch"]`` becomes the mean over steps of
    ``1 / sum(weight^2)``: the number of examples that an even batch of the same spread would have.

    Args:
        rule: what makes weights of losses.

    Attributes:
        histogram: counts and edges of weight times number of examples, over the last epoch; values
            beyond the last edge are counted in the last bin. ``None`` before the first epoch's end.
    """

    def __init__(self, rule: Reweighting) -> None:
        self.rule = rule
        self.histogram: tuple[NDArray[np.int64], NDArray[np.float64]] | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        pl_module.reweighting = self.rule

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        task: Any = pl_module
        log: list[Tensor] = task.weights_log
        if not log:
            return
        kept = [~weights.isnan() for weights in log]
        used = [measured(torch.where(keep, one, 0.0)) for keep, one in zip(kept, log, strict=True)]
        # [step, 2]: sum of squares and number of examples, over all processes.
        sums = torch.stack(
            [
                torch.stack([one.square().sum(), keep.sum().to(one.dtype)])
                for keep, one in zip(kept, used, strict=True)
            ]
        )
        if world_size() > 1:
            dist.all_reduce(sums)
        squares, sizes = sums.unbind(1)
        filled = squares > 0
        if bool(filled.any()):
            task.epoch_metrics["train/effective_batch"] = float((1 / squares[filled]).mean())
        relative = torch.cat(
            [(one * size)[keep] for keep, one, size in zip(kept, used, sizes, strict=True)]
        )
        values = relative.clamp(max=float(EDGES[-1])).cpu().numpy()
        counts = torch.from_numpy(np.histogram(values, bins=EDGES)[0]).to(sums.device)
        if world_size() > 1:
            dist.all_reduce(counts)
        self.histogram = (counts.cpu().numpy(), EDGES)
        log.clear()
