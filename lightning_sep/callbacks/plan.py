"""Brings a plan of the learning rate into training."""

import math
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl

from lightning_sep.callbacks.checkpoint import BestLost
from lightning_sep.callbacks.history import History
from lightning_sep.checkpoint_files import best_weights
from lightning_sep.functional.processes import of_first
from lightning_sep.plans.base import Plan, Stage
from lightning_sep.run_folder import RunFolder


class Rate(pl.Callback):
    """Sets the learning rate of each step; the epoch's last one is ``train/learning_rate``.

    Args:
        plan: says the rates.
        history: knows the validation values so far.
        steps: of the whole run as planned.
    """

    def __init__(self, plan: Plan, history: History, *, steps: int) -> None:
        self.plan = plan
        self.history = history
        self._values: list[float] = []
        plan.prepare(steps=steps)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        if len(self._values) != len(self.history.rows):
            self._values = losses(self.history)
        for optimizer in trainer.optimizers:
            rate = self.plan.rate(optimizer.defaults["lr"], trainer.global_step, self._values)
            for group in optimizer.param_groups:
                group["lr"] = rate

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        task: Any = pl_module
        task.epoch_metrics["train/learning_rate"] = trainer.optimizers[0].param_groups[0]["lr"]


class Stages(pl.callbacks.Checkpoint):
    """Begins a plan's next stage: best weights, an optimizer that remembers nothing, other batches.

    At the end of the epoch that ends a stage, after its line in the history and before its
    checkpoint, which so holds the new stage's beginning.

    Args:
        plan: says the stages.
        history: knows the validation values so far.
        folder: the run's folder, with the best weights.
        run_id: of the run.

    Attributes:
        begun: called once a stage has its weights.
    """

    def __init__(self, plan: Plan, history: History, folder: RunFolder, run_id: str) -> None:
        self.begun: Callable[[], None] = lambda: None
        self.plan = plan
        self.history = history
        self.folder = folder
        self.run_id = run_id

    @property
    def now(self) -> Stage:
        """Where in its plan the run is."""
        return self.plan.stage(losses(self.history))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        stage = self.now
        before = self.plan.stage(losses(self.history)[:-1])
        if stage.number == before.number:
            return
        step = self.history.best_row()["step"]
        found = of_first(lambda: best_weights(self.folder, self.run_id, step))
        if found is None:
            raise BestLost
        pl_module.load_state_dict(found[1]["state_dict"])
        for optimizer in trainer.optimizers:
            optimizer.state = defaultdict(dict)
        self.begun()
        loader: Any = trainer.train_dataloader
        loader.sampler.factor = stage.batch  # Lightning asks for the length anew in each epoch


def losses(history: History) -> list[float]:
    """The monitored value of each epoch, lower is better, infinite where it was no number."""
    found = [row[history.monitor] for row in history.rows]
    return [math.inf if value is None else -history.sign * value for value in found]
