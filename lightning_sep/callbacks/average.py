"""Evaluates and keeps a running mean of the weights, while training goes on with the weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor


class Average(pl.Callback):
    """An exponential moving mean of all parameters, and of what the net measures by itself (Polyak
    and Juditsky, SIAM J. Control Optim. 30(4), 1992; with a memory as in Tarvainen and Valpola,
    arXiv:1703.01780).

    After each optimizer step the mean moves a share of ``1 - decay`` towards the weights; it begins
    as they begin. Validation sees the mean, so the best epoch is the mean's best, and its weights
    are what is kept, tested and used. Checkpoints hold both. (Lightning's ``WeightAveraging`` keeps
    the mean out of checkpoints of weights alone, and mixes the two up in one that is written during
    validation.)

    Args:
        decay: how much of the mean stays at each step.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self._module: Any = None
        self._kept: dict[str, Tensor] = {}  # the mean; while the module shows it, the weights
        self._shows_mean = False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._module = pl_module

    def state_dict(self) -> dict[str, Any]:
        return {"mean": self._weights() if self._shows_mean else self._kept}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._kept = state_dict["mean"]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._kept:
            self._kept = {name: one.to(pl_module.device) for name, one in self._kept.items()}
        else:
            self.begin()

    def begin(self) -> None:
        """Let the mean be the present weights."""
        self._kept = {name: one.clone() for name, one in self._weights().items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        now = self._weights()
        mean = [self._kept[name] for name in now]
        torch._foreach_lerp_(mean, list(now.values()), 1 - self.decay)

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._exchange()

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._exchange()

    @contextmanager
    def shown(self) -> Iterator[None]:
        """While this lasts, the module has the mean for its weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._shows_mean:  # from within validation
            checkpoint["state_dict"] = {**checkpoint["state_dict"], **self._kept}

    @torch.no_grad()
    def _exchange(self) -> None:
        self._shows_mean = not self._shows_mean
        for name, value in self._weights().items():
            held = value.clone()
            value.copy_(self._kept[name])
            self._kept[name] = held

    def _weights(self) -> dict[str, Tensor]:
        """What is averaged, by name: as the module has it now."""
        measured = self._module.net.named_buffers(prefix="net")
        found = [*self._module.named_parameters(), *measured]
        return {name: one.detach() for name, one in found if one.is_floating_point()}
