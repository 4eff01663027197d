"""W&B as a mirror of a run: online, offline or off. The only module that imports wandb."""

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np

from lightning_sep.errors import ConfigError, LightningSepWarning
from lightning_sep.fsio import write_json

_MODES = ("offline", "online", "disabled")


class Tracking:
    """How runs are mirrored to W&B.

    Args:
        mode: ``"offline"``, ``"online"`` or ``"disabled"``; ``None`` takes ``WANDB_MODE`` or
            ``"offline"``.
        project: W&B project.
        entity: W&B user or team; ``None`` is the default of the account.
        audio_examples: test examples whose audio is written and logged, per run.

    Raises:
        ConfigError: an unknown mode in ``WANDB_MODE``.
    """

    def __init__(
        self,
        *,
        mode: Literal["offline", "online", "disabled"] | None = None,
        project: str = "lightning_sep",
        entity: str | None = None,
        audio_examples: int = 2,
    ) -> None:
        if audio_examples < 0:
            raise ConfigError(f"audio_examples must not be negative, got {audio_examples}")
        chosen = mode or os.environ.get("WANDB_MODE") or "offline"
        if chosen not in _MODES:
            raise ConfigError(f"WANDB_MODE={chosen!r} is not a mode. Known: {', '.join(_MODES)}")
        self.mode = chosen
        self.project = project
        self.entity = entity
        self.audio_examples = audio_examples

    def open(self, **run: Any) -> "Tracker":
        """A tracker of one run; see :class:`Tracker` for the arguments."""
        return Tracker(self, **run)


class Tracker:
    """Mirrors one run. Whatever goes wrong with W&B, training neither waits nor fails.

    Args:
        tracking: where to.
        folder: the run's folder; W&B files go to ``wandb/`` in it.
        run_id: W&B's id too, so that a resumed run goes on as the same one.
        group: the sweep, by which the dashboard groups.
        job_type: the task.
        tags: words to filter by.
        config: flat settings; every axis of a sweep is in it.
        monitor: name and direction of the board's metric.
    """

    def __init__(
        self,
        tracking: Tracking,
        *,
        folder: Path,
        run_id: str,
        group: str | None,
        job_type: str,
        tags: list[str],
        config: dict[str, Any],
        monitor: tuple[str, str],
    ) -> None:
        self._folder = folder
        self._cursor = folder / "wandb" / "mirrored.json"
        self._mirrored = -1  # last step that W&B has: a step logged twice is uploaded twice
        self._logger: Any = None
        if tracking.mode == "disabled":
            return
        if self._cursor.exists():
            self._mirrored = json.loads(self._cursor.read_text())["step"]
        self._try(lambda: self._open(tracking, run_id, group, job_type, tags, config, monitor))

    def _open(
        self,
        tracking: Tracking,
        run_id: str,
        group: str | None,
        job_type: str,
        tags: list[str],
        config: dict[str, Any],
        monitor: tuple[str, str],
    ) -> None:
        import wandb
        from pytorch_lightning.loggers import WandbLogger

        # The run is opened here and handed over: opened by Lightning, it would leave
        # WANDB_MODE=dryrun in the environment for every later run of the process.
        run = wandb.init(
            dir=self._folder,
            mode=tracking.mode,
            project=tracking.project,
            entity=tracking.entity,
            id=run_id,
            name=run_id,
            group=group,
            job_type=job_type,
            tags=tags,
            config=config,
            resume="allow",
            reinit="create_new",
            settings=wandb.Settings(
                silent=True,
                console="off",
                x_disable_stats=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
                disable_git=True,
                disable_code=True,
                x_transaction_log_flush_interval=2,
            ),
        )
        logger = WandbLogger(experiment=run)
        name, mode = monitor
        logger.experiment.define_metric(name, summary=mode)
        self._logger = logger

    def log(self, row: dict[str, Any]) -> None:
        """Mirror one line of the history."""
        step = row["step"]
        if self._logger is None or step <= self._mirrored:
            return
        self._try(
            lambda: self._logger.experiment.log(
                {name: value for name, value in row.items() if name != "step"}, step=step
            )
        )
        self._mirrored = step
        write_json(self._cursor, {"step": step})

    def histogram(self, name: str, counts: np.ndarray, edges: np.ndarray, step: int) -> None:
        """Mirror a histogram, with the row of the same step."""
        if self._logger is None or step <= self._mirrored:
            return

        def send() -> None:
            import wandb

            value = wandb.Histogram(np_histogram=(counts, edges))
            self._logger.experiment.log({name: value}, step=step)

        self._try(send)

    def finish(
        self,
        summary: dict[str, float],
        audio: dict[str, np.ndarray],
        sample_rate: int,
        exit_code: int = 0,
    ) -> None:
        """Mirror test metrics and audio examples, then close the run."""
        if self._logger is None:
            return

        def send() -> None:
            import wandb

            run = self._logger.experiment
            run.summary.update(summary)
            if audio:
                run.log(
                    {
                        f"audio/{name}": wandb.Audio(samples, sample_rate=sample_rate)
                        for name, samples in audio.items()
                    }
                )
            run.finish(exit_code=exit_code)

        self._try(send)
        self._logger = None

    def _try(self, action: Callable[[], object]) -> None:
        try:
            action()
        except Exception as error:  # a mirror must never break what it mirrors
            self._logger = None
            warnings.warn(
                f"W&B is off for the rest of this run: {error}", LightningSepWarning, stacklevel=3
            )
