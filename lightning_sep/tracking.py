"""W&B as a mirror of a run: online, offline or off. The only module that imports wandb."""

import json
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from lightning_sep.checks import refusal, whole_number
from lightning_sep.errors import ConfigError, LightningSepWarning
from lightning_sep.fsio import PATIENCE, read_lines

Mode = Literal["offline", "online", "disabled"]
_MODES: tuple[Mode, ...] = get_args(Mode)
_INIT_S = 30.0  # longest wait for a server when a run is opened
_FINISH_S = 120.0  # and when it is closed; what is not sent by then stays on disk
_BEAT_S = 0.5
_LONGEST_S = 240.0  # both, and a look at what earlier attempts have left: past that it hangs


class Tracking:
    """How runs are mirrored to W&B.

    Args:
        mode: ``"offline"``, ``"online"`` or ``"disabled"``; ``None`` takes ``WANDB_MODE`` or
            ``"offline"``.
        project: W&B project.
        entity: W&B user or team; ``None`` is the default of the account.
        audio_examples: test examples whose audio is written and logged, per run.

    Raises:
        ConfigError: an unknown mode in ``WANDB_MODE``, or a project that W&B cannot have.
    """

    def __init__(
        self,
        *,
        mode: Mode | None = None,
        project: str = "lightning_sep",
        entity: str | None = None,
        audio_examples: int = 2,
    ) -> None:
        whole_number("audio_examples", audio_examples, at_least=0)
        if not project or set(project) & set("/\\#?%:"):
            raise refusal("project", project, "W&B needs a name without any of / \\ # ? % :")
        chosen = mode or os.environ.get("WANDB_MODE") or "offline"
        known = next((one for one in _MODES if one == chosen), None)
        if known is None:
            raise ConfigError(f"WANDB_MODE={chosen!r} is not a mode. Known: {', '.join(_MODES)}")
        self.mode: Mode = known
        self.project = project
        self.entity = entity
        self.audio_examples = audio_examples

    def open(self, **run: Any) -> "Tracker":
        """A tracker of one run; see :class:`Tracker` for the arguments."""
        return Tracker(self, **run)


@contextmanager
def _no_hang() -> Iterator[None]:
    """Whoever waits for W&B, which ends its own waiting, makes no step and does not hang."""

    def beat() -> None:
        for _ in range(int(_LONGEST_S / _BEAT_S)):
            PATIENCE.pulse()
            if over.wait(_BEAT_S):
                return

    over = threading.Event()
    thread = threading.Thread(target=beat, name="tracking", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@contextmanager
def _same_environment() -> Iterator[None]:
    """Keep W&B's helper from reporting home, and take back what W&B leaves in the environment.

    The helper of an offline run would look up and call its makers' server too. With
    ``WANDB_SERVICE``, child processes would share this one's helper: the end of this one would be
    the end of their mirrors.
    """
    before = dict(os.environ)
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


class Tracker:
    """Mirrors one run. Whatever goes wrong with W&B, training neither waits nor fails.

    W&B's own files lag behind by seconds and lose their end in a kill. A resumed run looks up
    what they hold and first sends the lines of ``metrics.jsonl`` that are missing, so that W&B has
    each step once: a step logged twice would be uploaded twice.

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
        self._mirrored = -1  # last step that W&B has
        self._has_audio = False
        self._logger: Any = None
        if tracking.mode == "disabled":
            return
        with _same_environment():
            self._try(lambda: self._open(tracking, run_id, group, job_type, tags, config, monitor))
        for row in read_lines(folder / "metrics.jsonl"):
            self.log(row)

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

        # W&B falls back to a temporary folder where it cannot write, and nobody would find it.
        own = self._folder / "wandb"
        own.mkdir(parents=True, exist_ok=True)
        if not os.access(own, os.W_OK):
            raise OSError(f"{own} cannot be written")
        for part in sorted(own.glob("offline-run-*")):
            self._look_up(part)
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
                init_timeout=_INIT_S,
                finish_timeout=_FINISH_S,
            ),
        )
        logger = WandbLogger(experiment=run)
        name, mode = monitor
        logger.experiment.define_metric(name, summary=mode)
        if tracking.mode == "online":
            self._mirrored = max(self._mirrored, run.starting_step - 1)
        self._logger = logger

    def _look_up(self, part: Path) -> None:
        """Note what an offline part of the run holds, as W&B itself reads it."""
        read = subprocess.run(
            [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(part)],
            capture_output=True,
            text=True,
            timeout=60,
        )
        for line in read.stdout.splitlines():
            try:
                item = json.loads(line).get("history", {}).get("item", {})
            except ValueError:  # the end, torn by a kill
                continue
            self._mirrored = max(self._mirrored, item.get("_step", -1))
            self._has_audio |= any(name.startswith("audio/") for name in item)

    def log(self, row: dict[str, Any]) -> None:
        """Mirror one line of the history."""
        step = row["step"]
        if self._logger is None or step <= self._mirrored:
            return
        values = {name: value for name, value in row.items() if name != "step"}
        # Committed at once: W&B holds the last row back until it gets the next one.
        self._try(lambda: self._logger.experiment.log(values, step=step, commit=True))
        self._mirrored = step

    def histogram(self, name: str, counts: np.ndarray, edges: np.ndarray, step: int) -> None:
        """Mirror a histogram, with the row of the same step, which must come after it."""
        if self._logger is None or step <= self._mirrored:
            return

        def send() -> None:
            import wandb

            value = wandb.Histogram(np_histogram=(counts, edges))
            self._logger.experiment.log({name: value}, step=step, commit=False)

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
            if audio and not self._has_audio:
                clips = {
                    f"audio/{name}": wandb.Audio(samples, sample_rate=sample_rate)
                    for name, samples in audio.items()
                }
                run.log(clips, step=self._mirrored + 1, commit=True)
            run.finish(exit_code=exit_code)

        self._try(send)
        self._logger = None

    def close(self) -> None:
        """Close the run without results: it was interrupted or failed. Safe to call twice."""
        self.finish({}, {}, 0, exit_code=1)

    def _try(self, action: Callable[[], object]) -> None:
        try:
            with _no_hang():
                action()
        except Exception as error:  # a mirror must never break what it mirrors
            self._logger = None
            text = " ".join(str(error).split()) or type(error).__name__
            warnings.warn(
                f"W&B is off for the rest of this run: {text}", LightningSepWarning, stacklevel=3
            )
