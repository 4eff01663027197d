"""``metrics.jsonl``: the truth of a run's history, one flushed line per epoch."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from lightning_sep.errors import NonFiniteLoss
from lightning_sep.fsio import append_line, finite, read_lines, write_aside


class History(pl.callbacks.Checkpoint):
    """Writes an epoch's metrics before its checkpoint, so that no epoch is missing after a kill.

    Lines beyond the checkpoint that a run goes on from are dropped: that epoch is repeated and
    written again, so there are neither gaps nor doubles.

    Args:
        path: the run's ``metrics.jsonl``.
        monitor: metric of an epoch that chooses the best one.
        mode: ``"max"`` or ``"min"``.
        told: called with each new line, for the tracker and the progress line.
        guard: raises when this process no longer owns the run; called before each write.

    Raises:
        NonFiniteLoss: the parameters or all losses of an epoch left the finite numbers.
    """

    def __init__(
        self,
        path: Path,
        *,
        monitor: str,
        mode: str,
        told: Callable[[dict[str, Any]], None],
        guard: Callable[[], None],
    ) -> None:
        self.path = path
        self.monitor = monitor
        self.sign = 1.0 if mode == "max" else -1.0
        self.told = told
        self.guard = guard
        self.before_s = 0.0  # what earlier attempts have spent
        self.started = time.monotonic()
        self.best_value: float | None = None
        self.best_epoch: int | None = None
        self.epochs_without_improvement = 0

    @property
    def elapsed_s(self) -> float:
        """Seconds of training and validation, over all attempts that are part of the result."""
        return self.before_s + time.monotonic() - self.started

    def state_dict(self) -> dict[str, Any]:
        return {
            "before_s": self.elapsed_s,
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
            "epochs_without_improvement": self.epochs_without_improvement,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for name, value in state_dict.items():
            setattr(self, name, value)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.started = time.monotonic()
        rows = read_lines(self.path)
        kept = [row for row in rows if row["step"] <= trainer.global_step]
        if self.path.exists():
            self.guard()
            write_aside(self.path, "".join(json.dumps(row) + "\n" for row in kept))

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        task: Any = pl_module
        metrics: dict[str, float] = task.epoch_metrics
        row = {
            "epoch": trainer.current_epoch,
            "step": trainer.global_step,
            "time_s": round(self.elapsed_s, 3),
            **{name: metrics[name] for name in sorted(metrics)},
        }
        self.guard()
        append_line(self.path, json.dumps(finite(row)))
        if not all(bool(value.isfinite().all()) for value in pl_module.parameters()):
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
        if value == value and (
            self.best_value is None or self.sign * value > self.sign * self.best_value
        ):
            self.best_value, self.best_epoch = value, trainer.current_epoch
            self.epochs_without_improvement = 0
        else:
            self.epochs_without_improvement += 1
        self.told(row)
