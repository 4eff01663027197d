"""Checkpoints that survive a kill at any moment."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.plugins.io import CheckpointIO

from lightning_sep import checkpoint_files
from lightning_sep.callbacks.history import History
from lightning_sep.fsio import PATIENCE, make_folder, storage_errors, sweep_leftovers
from lightning_sep.functional.processes import of_first
from lightning_sep.run_folder import RunFolder

KEPT = 2  # the newest ones; the older of them is there while the newer one is written


class BestLost(Exception):
    """The best epoch's weights are damaged or gone: it takes training to get them back."""


class SafeCheckpointIO(CheckpointIO):
    """Lets Lightning write and read checkpoints as `checkpoint_files` does.

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
        checkpoint_files.save(checkpoint, Path(path))

    def load_checkpoint(
        self, path: Any, map_location: Any | None = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint that verifies.

        Raises:
            LightningSepError: its checksum does not match, or it is another run's.
        """
        return checkpoint_files.load(Path(path), self.run_id)

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint and its checksum."""
        checkpoint_files.remove(Path(path))


class Checkpoints(pl.callbacks.Checkpoint):
    """Saves at the end of epochs, every so many steps or minutes within them, and on request.

    Of processes that train together the first one writes; all of them have to come along.

    Args:
        folder: the run's folder.
        history: knows the best epoch.
        generation: of this attempt; its files carry it.
        every_epochs: epochs between two checkpoints; the last epoch always has one.
        every_steps: also save within an epoch; ``None`` does not.
        every_min: minutes after which one is due, in training and validation; ``None``: never.
        guard: raises when this process no longer owns the run; called before each write.
        clock: a monotonic clock, in seconds.

    Attributes:
        shows_best: within it the task has the weights that were validated.
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
        self.shows_best: Callable[[], AbstractContextManager[None]] = nullcontext
        self._saved_s = clock()
        self._validation_pending = False
        of_first(self._begin)

    def _begin(self) -> None:
        folder = self.folder
        with storage_errors(folder.checkpoints):
            PATIENCE.until_back(lambda: make_folder(folder.checkpoints))
            PATIENCE.until_back(lambda: sweep_leftovers(folder.checkpoints))
            PATIENCE.until_back(lambda: sweep_leftovers(folder.path))

    @property
    def due(self) -> bool:
        """Whether the last checkpoint is too old, by the clock of the first process."""
        if self.every_min is None:
            return False
        longest_s = 60 * self.every_min
        return of_first(lambda: self.clock() - self._saved_s > longest_s)

    def adopt_best(self, source: Path) -> None:
        """Make an earlier attempt's best epoch this attempt's own.

        Its file may still be replaced by the copy that wrote it; this one may not.
        """

        def adopt() -> None:
            self.guard()
            checkpoint_files.adopt(source, self.folder.best(self.generation))

        of_first(adopt)

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
            of_first(self.guard)
            with self.shows_best():
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
            checkpoint["validation_pending"] = True  # for whoever reads it

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
        of_first(self.guard)
        trainer.save_checkpoint(self.folder.step(trainer.global_step, self.generation))
        self._saved_s = self.clock()
        of_first(partial(self.remove_steps, kept=KEPT))

    def remove_steps(self, *, kept: int = 0) -> None:
        """A finished run goes on from nowhere: what it needed for that is removed.

        Args:
            kept: how many of the newest stay.
        """
        for old in self.folder.steps()[kept:]:
            checkpoint_files.remove(old.path)
