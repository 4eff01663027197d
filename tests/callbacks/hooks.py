"""Hooks that a user may have."""

from typing import Any, ClassVar

import pytorch_lightning as pl
import torch


class Seen(pl.Callback):
    """Keeps all weights that training and validation show, and tells a number."""

    after_steps: ClassVar[list[dict[str, torch.Tensor]]] = []
    in_validation: ClassVar[list[dict[str, torch.Tensor]]] = []

    def __init__(self, factor: float = 1.0, stop_after: int | None = None) -> None:
        self.factor, self.stop_after = factor, stop_after
        self.told = 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"told": self.told}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.told = state_dict["told"]

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.told += self.factor
        self.after_steps.append(_copy(pl_module))

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:
        self.in_validation.append(_copy(pl_module))

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        pl_module.epoch_metrics["train/told"] = self.told
        if self.stop_after is not None and trainer.current_epoch + 1 >= self.stop_after:
            trainer.should_stop = True


class NoHook:
    """Something else."""


def _copy(module: Any) -> dict[str, torch.Tensor]:
    return {name: one.detach().clone() for name, one in module.named_parameters()}
