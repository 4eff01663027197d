"""Runs for TensorBoard: event files in the run's folder, ``tensorboard --logdir runs``."""

from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

from lightning_sep.checks import whole_number
from lightning_sep.errors import ConfigError

FOLDER = "tensorboard"  # in the run's
# What writes the files, and the package that has to be there for it.
_WRITERS = {"tensorboardX": "tensorboardX", "tensorboard": "torch.utils.tensorboard"}


def writer_module(who: str) -> str:
    """The module whose ``SummaryWriter`` writes the files.

    Args:
        who: asks for it, for the message.

    Raises:
        ConfigError: none is installed.
    """
    found = next((module for name, module in _WRITERS.items() if find_spec(name)), None)
    if found is None:
        raise ConfigError(
            f"{who} needs tensorboardX: pip install 'lightning_sep[tensorboard]'; "
            "metrics.jsonl of each run holds the same curves"
        )
    return found


class TensorBoardTracking:
    """Mirrors runs as TensorBoard's event files.

    Args:
        audio_examples: test examples whose audio is written, per run.
    """

    def __init__(self, audio_examples: int = 3) -> None:
        self.audio_examples = whole_number("audio_examples", audio_examples, at_least=0)

    def check(self) -> str:
        """The module that writes the files.

        Raises:
            ConfigError: none is installed.
        """
        return writer_module("tracking=tensorboard")

    def open(self, folder: Path, about: Mapping[str, Any]) -> "TensorBoardTracker":
        """The tracker of one run."""
        return TensorBoardTracker(folder / FOLDER, import_module(self.check()).SummaryWriter)


class TensorBoardTracker:
    """Mirrors one run: a curve per metric, by step.

    Whoever goes on with a run tells all lines so far, so the files are written anew.

    Args:
        folder: of the files.
        writer: makes what writes into a folder.
    """

    def __init__(self, folder: Path, writer: Any) -> None:
        for old in folder.glob("events.out.tfevents.*"):
            old.unlink()
        self.writer = writer(str(folder))
        self.step = 0

    def log(self, row: Mapping[str, Any]) -> None:
        """Mirror one line of the history."""
        self.step = row["step"]
        self._add({name: value for name, value in row.items() if name != "step"})

    def histogram(self, name: str, counts: Any, edges: Any, step: int) -> None:
        """Only W&B gets histograms: TensorBoard's need the values themselves."""

    def finish(self, outcome: Mapping[str, Any]) -> None:
        """Mirror the metrics of the test, and close the files."""
        metrics = outcome["metrics"]
        self._add({name: value for name, value in metrics.items() if name.startswith("test/")})
        self.writer.close()

    def left(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the files."""
        self.writer.close()

    def _add(self, values: Mapping[str, float | None]) -> None:
        for name, value in values.items():
            if value is not None:
                self.writer.add_scalar(name, value, self.step)
        self.writer.flush()
