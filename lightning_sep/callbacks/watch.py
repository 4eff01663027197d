"""Asks, while a run trains, whether it should stop; knows neither Optuna nor signals."""

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from lightning_sep.callbacks.checkpoint import Checkpoints
from lightning_sep.callbacks.history import History
from lightning_sep.errors import Interrupted
from lightning_sep.functional.processes import of_first


class Watch(pl.callbacks.Checkpoint):
    """Reports each validation, stops a run that is asked to stop.

    Its decision is part of the epoch's checkpoint, so a run that has ended stays ended; but for one
    that another sweep has pruned, or one of the same name before this: that one's judgement is not
    this one's. Of processes that train
    together the first one asks, and all of them do what it is told.

    Args:
        history: knows the monitored value.
        checkpoints: saves when the run is interrupted within an epoch.
        report: gets the epoch and the monitored value; ``True`` prunes the run.
        should_stop: asked after each batch, of validation and test too; ``True`` saves and
            interrupts.
        alive: called after each batch: the run makes progress.
        sweep: the sweep on whose behalf runs are pruned.
        judged: whether it may have pruned this one before.
        patience: epochs without improvement after which training ends; ``None`` is never.
        over: whether the run has come to an end that others know of.

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
        alive: Callable[[], None],
        sweep: str | None,
        judged: bool,
        patience: int | None,
        over: Callable[[], bool] = lambda: False,
    ) -> None:
        self.history = history
        self.checkpoints = checkpoints
        self.report = report
        self.should_stop = should_stop
        self.alive = alive
        self.sweep = sweep
        self.judged = judged
        self.patience = patience
        self.over = over
        self.ended = False
        self.stopped = False  # ended with epochs left, or as it would have with some left
        self.pruned = False

    def state_dict(self) -> dict[str, Any]:
        by = self.sweep if self.pruned else None
        ended = {"ended": self.ended, "stopped": self.stopped}
        return {**ended, "pruned": self.pruned, "pruned_by": by}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        given_up = state_dict["pruned"] and (
            self.report is None or not self.judged or state_dict.get("pruned_by") != self.sweep
        )
        self.ended = state_dict["ended"] and not given_up
        self.pruned = state_dict["pruned"] and not given_up

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if of_first(self.should_stop):  # the epoch before is saved
            raise Interrupted(f"stopped on request after step {trainer.global_step}")

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        self.alive()
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if not last and of_first(self.should_stop):
            self.checkpoints.save(trainer)
            raise Interrupted(f"stopped on request at step {trainer.global_step}")

    def on_validation_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        self.alive()
        stop = of_first(self.should_stop)
        if stop or self.checkpoints.due:
            self.checkpoints.save_before_validation(trainer)
        if stop:
            raise Interrupted(f"stopped on request in validation at step {trainer.global_step}")

    def on_test_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        self.alive()
        if of_first(self.should_stop):  # training is saved
            raise Interrupted(f"stopped on request in the test at step {trainer.global_step}")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        task: Any = pl_module
        value: float = task.epoch_metrics[self.history.monitor]
        report = self.report
        if report is not None and of_first(lambda: report(trainer.current_epoch, value)):
            self.pruned = True
        out_of_patience = (
            self.patience is not None and self.history.epochs_without_improvement >= self.patience
        )
        last = trainer.current_epoch + 1 == trainer.max_epochs
        asked: bool = trainer.should_stop  # by a callback of the user's own
        self.stopped = asked or self.pruned or out_of_patience or self.over()
        trainer.should_stop = self.stopped
        self.ended = self.stopped or last
