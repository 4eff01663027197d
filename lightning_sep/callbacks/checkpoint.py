"""Checkpoints that survive a kill at any moment, and the way back from them."""

import json
import time
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import CheckpointIO
from torch import Tensor

from lightning_sep.callbacks.history import History
from lightning_sep.errors import LightningSepError
from lightning_sep.fsio import (
    PATIENCE,
    link_over,
    make_folder,
    sha256_file,
    storage_errors,
    sweep_leftovers,
    write_aside,
    write_json,
)
from lightning_sep.run_folder import RunFolder, StepFile

KEPT = 2  # the newest ones; the older of them is there while the newer one is written


class BestLost(Exception):
    """The best epoch's weights are damaged or gone: it takes training to get them back."""


class SafeCheckpointIO(CheckpointIO):
    """Writes aside in the target's folder, synced, renamed, with size and SHA-256 beside it.

    What goes in is tensors and JSON types, so that it loads with ``weights_only=True`` for good.

    Args:
        run_id: of the run, written into each checkpoint: one of another run is never loaded.
    """

    def __init__(self, run_id: str | None = None) -> None:
        self.run_id = run_id

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """Write ``checkpoint`` to ``path``.

        Raises:
            StorageError: the disk is full or the folder may not be written.
            TypeError: something in it is neither a tensor nor a JSON type.
        """
        checkpoint["run_id"] = self.run_id
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
            LightningSepError: its checksum does not match, or it is another run's.
        """
        if not verifies(Path(path)):
            raise LightningSepError(f"checkpoint {path} does not match its checksum")
        try:
            loaded: dict[str, Any] = PATIENCE.until_back(
                lambda: torch.load(path, map_location="cpu", weights_only=True)
            )
        except (RuntimeError, EOFError, UnpicklingError) as error:
            raise LightningSepError(f"checkpoint {path} cannot be read") from error
        if not isinstance(loaded, dict) or "state_dict" not in loaded:
            raise LightningSepError(f"checkpoint {path} holds no weights")
        if self.run_id is not None and loaded.get("run_id", self.run_id) != self.run_id:
            raise LightningSepError(f"checkpoint {path} is of run {loaded['run_id']}")
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

    def look() -> bool:
        known = json.loads(_sum_path(path).read_text())
        return bool(path.stat().st_size == known["bytes"] and sha256_file(path) == known["sha256"])

    try:
        return PATIENCE.until_back(look)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def newest(folder: RunFolder, run_id: str) -> StepFile | None:
    """The newest checkpoint of a run that is whole and its own; older ones are tried in turn."""
    for found in folder.steps():
        content = _content(found.path, run_id)
        if content is not None and "callbacks" in content and "loops" in content:
            return found
    return None


def best_weights(
    folder: RunFolder, run_id: str | None, step: int | None = None
) -> tuple[Path, dict[str, Any]] | None:
    """The best epoch's checkpoint that is whole, the newest generation's first.

    Args:
        folder: the run's folder.
        run_id: the run; ``None`` takes any.
        step: the global step that it must be of: that of the best epoch's line in the history.

    Returns:
        Its file and its content; ``None`` when no file is the right one.
    """
    for path in folder.bests():
        content = _content(path, run_id)
        if content is not None and (step is None or content["global_step"] == step):
            return path, content
    return None


def _content(path: Path, run_id: str | None) -> dict[str, Any] | None:
    try:
        return SafeCheckpointIO(run_id).load_checkpoint(path)
    except LightningSepError:
        return None


def _sum_path(path: Path) -> Path:
    return path.with_suffix(".sha256")


class Checkpoints(pl.callbacks.Checkpoint):
    """Saves at the end of epochs, every so many steps or minutes within them, and on request.

    Args:
        folder: the run's folder.
        history: knows the best epoch.
        generation: of this attempt; its files carry it.
        every_epochs: epochs between two checkpoints; the last epoch always has one.
        every_steps: also save within an epoch; ``None`` does not.
        every_min: minutes after which one is due, in training and validation; ``None``: never.
        guard: raises when this process no longer owns the run; called before each write.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        folder: RunFolder,
        *,
        history: History,
        generation: int,
        every_epochs: int = 1,
        every_steps: int | None = None,
        every_min: float | None = None,
        guard: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.history = history
        self.generation = generation
        self.every_epochs = every_epochs
        self.every_steps = every_steps
        self.every_min = every_min
        self.guard = guard
        self.clock = clock
        self._saved_s = clock()
        self._validation_pending = False
        with storage_errors(folder.checkpoints):
            PATIENCE.until_back(lambda: make_folder(folder.checkpoints))
            PATIENCE.until_back(lambda: sweep_leftovers(folder.checkpoints))
            PATIENCE.until_back(lambda: sweep_leftovers(folder.path))

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is too old."""
        return self.every_min is not None and self.clock() - self._saved_s > 60 * self.every_min

    def adopt_best(self, source: Path) -> None:
        """Make an earlier attempt's best epoch this attempt's own.

        Its file may still be replaced by the copy that wrote it; this one may not.
        """
        self.guard()
        target = self.folder.best(self.generation)
        link_over(source, target)
        link_over(_sum_path(source), _sum_path(target))

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any
    ) -> None:
        # The last batch of an epoch is followed by validation, and saved with it or after it.
        last = trainer.fit_loop.epoch_loop.batch_progress.is_last_batch
        turn = self.every_steps is not None and trainer.global_step % self.every_steps == 0
        if not last and (turn or self.due):
            self.save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epoch = trainer.current_epoch
        if self.history.best_epoch == epoch:
            # Before the step's own: after a kill in between, the epoch is repeated, bit for bit,
            # and writes the best one again. The optimizer's state is of no use here.
            self.guard()
            trainer.save_checkpoint(self.folder.best(self.generation), weights_only=True)
        last = trainer.should_stop or epoch + 1 == trainer.max_epochs
        if last or self.due or (epoch + 1) % self.every_epochs == 0:
            self.save(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._validation_pending and "loops" in checkpoint:
            # As Lightning has it in the first batch of validation: it begins anew when resumed.
            progress = checkpoint["loops"]["fit_loop"]["epoch_loop.val_loop.batch_progress"]
            begun = {"ready": 1, "started": 1, "processed": 0, "completed": 0}
            progress |= {"total": dict(begun), "current": dict(begun), "is_last_batch": False}

    def save_before_validation(self, trainer: pl.Trainer) -> None:
        """Write a checkpoint from within validation: the epoch is trained, validation is to come.

        Raises:
            StorageError: the disk is full or the folder may not be written.
            LeaseLost: another process has taken over the run.
        """
        self._validation_pending = True
        try:
            self.save(trainer)
        finally:
            self._validation_pending = False

    def save(self, trainer: pl.Trainer) -> None:
        """Write a checkpoint of the present step; the last but one goes when it is safe.

        Raises:
            StorageError: the disk is full or the folder may not be written.
            LeaseLost: another process has taken over the run.
        """
        self.guard()
        trainer.save_checkpoint(self.folder.step(trainer.global_step, self.generation))
        self._saved_s = self.clock()
        for old in self.folder.steps()[KEPT:]:
            trainer.strategy.remove_checkpoint(old.path)

    def remove_steps(self) -> None:
        """A finished run goes on from nowhere: what it needed for that is removed."""
        for old in self.folder.steps():
            SafeCheckpointIO().remove_checkpoint(old.path)
