"""Asks, while a run trains, whether it should stop; knows neither Optuna nor signals."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from lightning_sep.callbacks.checkpoint import Checkpoints
from lightning_sep.callbacks.history import History
from lightning_sep.errors import Interrupted


class Watch(pl.callbacks.Checkpoint):
    """Reports each validation, stops a run that is asked to stop.

    Its decision is part of the epoch's checkpoint, so a run that has ended stays ended.

    Args:
        history: knows the monitored value.
        checkpoints: saves when the run is interrupted within an epoch.
        report: gets the epoch and the monitored value; ``True`` prunes the run.
        should_stop: asked after each batch; ``True`` saves and interrupts.
        patience: epochs without improvement after which training ends; ``None`` is never.

    Raises:
        Interrupted: after a checkpoint was saved.
    """

    def __init__(
        self,
        history: History,
        checkpoints: Checkpoints,
        *,
        report: Callable[[int, float], bool] | None,
        should_stop: Callable[[], bool],
        patience: int | None,
    ) -> None:
        self.history = history
        self.checkpoints = checkpoints
        self.report = report
        self.should_stop = should_stop
        self.patience = patience
        self.ended = False
        self.pruned = False

    def state_dict(self) -> dict[str, Any]:
        return {"ended": self.ended, "pruned": self.pruned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # A run that only a sweep's search gave up goes on where nobody prunes it.
        given_up = state_dict["pruned"] and self.report is None
        self.ended = state_dict["ended"] and not given_up
        self.pruned = state_dict["pruned"] and not given_up

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self.should_stop():  # the epoch before is saved
            raise Interrupted(f"stopped on request after step {trainer.global_step}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if not last and self.should_stop():
            self.checkpoints.save(trainer)
            raise Interrupted(f"stopped on request at step {trainer.global_step}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        task: Any = pl_module
        value: float = task.epoch_metrics[self.history.monitor]
        if self.report is not None and self.report(trainer.current_epoch, value):
            self.pruned = True
        out_of_patience = (
            self.patience is not None and self.history.epochs_without_improvement >= self.patience
        )
        last = trainer.current_epoch + 1 == trainer.max_epochs
        self.ended = self.pruned or out_of_patience or last
        trainer.should_stop = self.pruned or out_of_patience
