"""How far a run is, on a terminal: one bar that moves, whatever the length of a step."""

import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from lightning_sep.terminal import duration

LOOK_S = 0.5  # between two looks at the loss, each of which waits for the device


class Bar(pl.Callback):
    """Steps, loss, steps a second, time left and time gone of a run.

    The bar is drawn twice a second by a thread of rich's, so that the time goes on in a long step
    too. The loop itself is held up by a look at the clock in each step, and by one at the loss
    twice a second.
    """

    def __init__(self) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),  # far from the time that is left
            BarColumn(bar_width=None),
            TextColumn("{task.fields[said]}", markup=False),
        )
        console = Console(file=sys.stderr)
        self._bars = Progress(*columns, console=console, refresh_per_second=2, transient=True)
        self._row = self._bars.add_task("getting ready", total=None, said="")
        self._next_s = 0.0
        self._began: tuple[int, float] | None = None  # step and time of this attempt's first step
        self._epoch: tuple[int, float] = 0, 0.0

    def open(self, cleanup: ExitStack) -> None:
        """Show the bar until ``cleanup`` ends."""
        cleanup.enter_context(self._bars)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._began = trainer.global_step, time.monotonic()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._epoch = trainer.global_step, time.monotonic()
        self._told(f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}", *_steps(trainer))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *_: Any
    ) -> None:
        now_s = time.monotonic()
        if now_s < self._next_s or self._began is None:
            return
        self._next_s = now_s + LOOK_S
        done, total = _steps(trainer)
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        said = [f"loss {loss.item():.4g}"] if isinstance(loss, torch.Tensor) else []
        first, began_s = self._epoch
        said.append(f"{(done - first) / max(now_s - began_s, 1e-9):.3g}/s")
        first, began_s = self._began
        left_s = (now_s - began_s) / max(done - first, 1) * (total - done)
        said.append(f"{duration(left_s)} left")
        epoch = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self._told(epoch, done, total, *said)

    def on_validation_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        *_: Any,
    ) -> None:
        self._told("validation", batch_idx, _whole(trainer.num_val_batches))

    def on_test_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,
        batch_idx: int,
        *_: Any,
    ) -> None:
        self._told("test", batch_idx, _whole(trainer.num_test_batches))

    def _told(self, what: str, done: int, total: float, *said: str) -> None:
        text = " · ".join((f"{done}/{total:.0f}", *said))
        self._bars.update(self._row, description=what, completed=done, total=total, said=text)


def _steps(trainer: pl.Trainer) -> tuple[int, float]:
    """Steps done, and steps in all."""
    total = float(trainer.num_training_batches) * (trainer.max_epochs or 0)
    return trainer.global_step, max(total, trainer.global_step)


def _whole(batches: Any) -> float:
    return float(sum(batches)) if isinstance(batches, list) else float(batches)
