"""``metrics.jsonl``: the truth of a run's history, one flushed line per epoch."""

import json
import math
import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch

from lightning_sep.errors import NonFiniteLoss
from lightning_sep.fsio import PATIENCE, append_line, finite, write_aside
from lightning_sep.functional.processes import of_first
from lightning_sep.run_folder import RunFolder


class History(pl.callbacks.Checkpoint):
    """Writes an epoch's metrics before its checkpoint, so that no epoch is missing after a kill.

    A checkpoint holds the lines up to it. Those are what an attempt begins with: an epoch beyond it
    is repeated and written again, so there are neither gaps nor doubles, whatever has become of the
    file in the meantime.

    Of processes that train together the first one writes, and all of them have its lines.

    Args:
        folder: the run's folder.
        generation: of this attempt, whose file of the history is its own.
        monitor: metric of an epoch that chooses the best one.
        mode: ``"max"`` or ``"min"``.
        told: called with each new line, for the tracker and the progress line.
        guard: raises when this process no longer owns the run; called before each write.

    Raises:
        NonFiniteLoss: the parameters or all losses of an epoch left the finite numbers.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        generation: int,
        monitor: str,
        mode: str,
        told: Callable[[dict[str, Any]], None],
        guard: Callable[[], None],
    ) -> None:
        self.folder = folder
        self.generation = generation
        self.path = folder.history(generation)
        self.monitor = monitor
        self.sign = 1.0 if mode == "max" else -1.0
        self.told = told
        self.guard = guard
        self.before_s = 0.0  # what earlier attempts have spent
        self.started = time.monotonic()
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self.epochs_without_improvement = 0
        self.rows: list[dict[str, Any]] = []
        self._ended_s: float | None = None
        self._size = 0  # of the file, as this attempt wrote it

    @property
    def elapsed_s(self) -> float:
        """Seconds of training and validation, over all attempts that are part of the result."""
        return self.before_s + time.monotonic() - self.started

    @property
    def device_s(self) -> float:
        """Seconds until training ended, or until now."""
        return self.elapsed_s if self._ended_s is None else self._ended_s

    def state_dict(self) -> dict[str, Any]:
        return {
            "before_s": self.elapsed_s,
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "epochs_without_improvement": self.epochs_without_improvement,
            "rows": list(self.rows),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)

    def best_row(self) -> dict[str, Any]:
        """The line of the best epoch.

        Raises:
            NonFiniteLoss: no epoch had a finite value.
        """
        for row in self.rows:
            if row["epoch"] == self.best_epoch:
                return row
        raise NonFiniteLoss(f"{self.monitor} was never finite: there is no best epoch to test")

    def begin(self) -> None:
        """Begin this attempt's file with the lines of the checkpoint that it goes on from."""

        def begin() -> None:
            self.guard()
            self._write()
            self.folder.publish()
            self.folder.forget(below=self.generation)

        of_first(begin)

    def _write(self) -> None:
        text = "".join(_line(row) + "\n" for row in self.rows)
        write_aside(self.path, text)
        self._size = len(text.encode())

    def _append(self) -> None:
        """Write the last line."""
        row = self.rows[-1]
        line = _line(row)
        try:
            whole = PATIENCE.until_back(lambda: self.path.stat().st_size) == self._size
        except FileNotFoundError:
            whole = False
        if whole:
            append_line(self.path, line, self.guard)
            self._size += len(line.encode()) + 1
        else:  # somebody has damaged it
            self.guard()
            self._write()
        self.folder.publish()

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.monotonic()

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ended_s = self.elapsed_s

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        task: Any = pl_module
        metrics: dict[str, float] = of_first(lambda: task.epoch_metrics)
        task.epoch_metrics = metrics
        elapsed_s = of_first(lambda: self.elapsed_s)
        row = finite(
            {
                "epoch": trainer.current_epoch,
                "step": trainer.global_step,
                "time_s": round(elapsed_s, 3),
                **{name: metrics[name] for name in sorted(metrics)},
            }
        )
        self.rows.append(row)
        of_first(self._append)
        finite_ones = [value.isfinite().all() for value in pl_module.parameters()]
        if finite_ones and not bool(torch.stack(finite_ones).all()):
            raise NonFiniteLoss(
                f"the parameters are no longer finite after epoch {trainer.current_epoch} (step "
                f"{trainer.global_step}): lower optimizer.learning_rate or set "
                "trainer.gradient_clip; the last good checkpoint is kept"
            )
        if metrics["train/non_finite"] and metrics["train/loss"] == 0:
            raise NonFiniteLoss(
                f"no loss of epoch {trainer.current_epoch} was finite "
                f"({metrics['train/non_finite']:.0f} examples): look at head and loss"
            )
        value = metrics[self.monitor]
        if math.isfinite(value) and (
            self.best_value is None or self.sign * value > self.sign * self.best_value
        ):
            self.best_value, self.best_epoch = value, trainer.current_epoch
            self.epochs_without_improvement = 0
        else:
            self.epochs_without_improvement += 1
        of_first(lambda: self.told(row))


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row)
