"""Checkpoints that survive a kill at any moment, and the way back from them."""

import json
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor

from lightning_sep.callbacks.history import History
from lightning_sep.errors import LightningSepError
from lightning_sep.fsio import (
    sha256_file,
    storage_errors,
    sweep_leftovers,
    write_aside,
    write_json,
)

BEST = "best.ckpt"
KEPT = 2  # the newest ones; the older of them is there while the newer one is written


class SafeCheckpointIO(CheckpointIO):
    """Writes aside in the target's folder, synced, renamed, with size and SHA-256 beside it.

    What goes in is tensors and JSON types, so that it loads with ``weights_only=True`` for good.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write ``checkpoint`` to ``path``.

        Raises:
            StorageError: the disk is full or the folder may not be written.
            TypeError: something in it is neither a tensor nor a JSON type.
        """
        refuse_unloadable(checkpoint)
        buffer = BytesIO()
        torch.save(checkpoint, buffer)
        target = Path(path)
        write_aside(target, buffer.getvalue())
        write_json(
            _sum_path(target), {"sha256": sha256_file(target), "bytes": target.stat().st_size}
        )

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint that verifies.

        Raises:
            LightningSepError: its checksum does not match.
        """
        if not verifies(Path(path)):
            raise LightningSepError(f"checkpoint {path} does not match its checksum")
        loaded: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return loaded

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint and its checksum."""
        Path(path).unlink(missing_ok=True)
        _sum_path(Path(path)).unlink(missing_ok=True)


def refuse_unloadable(value: Any, where: str = "checkpoint") -> None:
    """Refuse what ``torch.load(weights_only=True)`` would not read back, naming its place.

    Raises:
        TypeError: something is neither a tensor nor a JSON type.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise TypeError(f"{where}: a key of type {type(key).__name__} cannot be loaded")
            refuse_unloadable(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            refuse_unloadable(item, f"{where}[{number}]")
    elif not (value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str)):
        raise TypeError(f"{where}: a {type(value).__name__} cannot be loaded safely")


def verifies(path: Path) -> bool:
    """Whether a checkpoint is there and matches the size and SHA-256 beside it."""
    try:
        known = json.loads(_sum_path(path).read_text())
        return bool(path.stat().st_size == known["bytes"] and sha256_file(path) == known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def newest(folder: Path) -> Path | None:
    """The newest checkpoint of a run that verifies; older ones are tried in turn."""
    return next((path for path in _by_age(folder) if verifies(path)), None)


def _by_age(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-*.ckpt"), reverse=True)


def _sum_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


class Checkpoints(pl.callbacks.Checkpoint):
    """Saves at the end of each epoch, every so many steps within it, and on request.

    Args:
        folder: the run's ``checkpoints/``.
        history: knows the best epoch.
        every_steps: also save within an epoch; ``None`` saves at its end only.
        guard: raises when this process no longer owns the run; called before each write.
    """

    def __init__(
        self,
        folder: Path,
        *,
        history: History,
        every_steps: int | None,
        guard: Callable[[], None],
    ) -> None:
        self.folder = folder
        self.history = history
        self.every_steps = every_steps
        self.guard = guard
        with storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
        sweep_leftovers(folder)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        # The last batch of an epoch is followed by validation, and saved after it.
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        if self.every_steps and not last and trainer.global_step % self.every_steps == 0:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.save(trainer, best=self.history.best_epoch == trainer.current_epoch)

    def save(self, trainer: pl.Trainer, best: bool = False) -> None:
        """Write a checkpoint of the present step; the last but one goes when it is safe.

        Raises:
            StorageError: the disk is full or the folder may not be written.
            LeaseLost: another process has taken over the run.
        """
        self.guard()
        path = self.folder / f"step-{trainer.global_step:09d}.ckpt"
        if best:
            # Before the step's own: after a kill in between, the epoch is repeated, bit for bit,
            # and writes the best one again.
            trainer.save_checkpoint(self.folder / BEST)
        trainer.save_checkpoint(path)
        for old in _by_age(self.folder)[KEPT:]:
            trainer.strategy.remove_checkpoint(old)
