"""What a plan of the learning rate says, and what it may know.

A plan keeps nothing: all that it says follows from the step and from the validation values of the
epochs so far, which every checkpoint holds. So a resumed run goes on as if it had not stopped.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from lightning_sep.errors import ConfigError


@dataclass(frozen=True)
class Stage:
    """Where in its plan a run is.

    Args:
        number: of the stage, from 0. Each but the first begins with the best weights so far and
            an optimizer that remembers nothing.
        batch: how many times the examples' batch a batch is.
        over: the run has come to its end.
    """

    number: int = 0
    batch: int = 1
    over: bool = False


class Plan(ABC):
    """How the learning rate goes over a run.

    Subclasses write the hook ``rate``; those with several stages, or an end of their own, also
    ``stage``.

    The argument ``values`` is everywhere the monitored validation value of each finished epoch,
    lower is better, infinite where it was no number.
    """

    ends_itself: ClassVar[bool] = False  # by a patience of its own
    changes_batch: ClassVar[bool] = False
    needs_length: ClassVar[bool] = True  # whether a rate depends on `steps`, the whole run's

    def __init__(self) -> None:
        self.steps = 0

    def check(self, *, patience: int | None) -> None:
        """Refuse what does not go with the plan.

        Args:
            patience: the trainer's.

        Raises:
            ConfigError: plan and trainer both want to end the run.
        """
        if self.ends_itself and patience is not None:
            raise ConfigError(
                f"trainer.patience={patience} would end the run before plan.patience does: leave "
                "trainer.patience at null with this plan"
            )

    def prepare(self, *, steps: int) -> None:
        """Told before training: the steps of the whole run as planned, all in batches as usual."""
        self.steps = steps

    @abstractmethod
    def rate(self, base: float, step: int, values: Sequence[float]) -> float:
        """The learning rate of a step.

        Args:
            base: the optimizer's own.
            step: optimizer steps taken so far.
            values: see above.
        """

    def stage(self, values: Sequence[float]) -> Stage:
        """Where the run is after these epochs."""
        return Stage()


def plateaus(values: Sequence[float], *, patience: int) -> int:
    """How often there were ``patience`` epochs in a row without a better value than any before.

    Args:
        values: of each epoch, lower is better.
        patience: counted anew after each time.

    Example:
        >>> plateaus([3.0, 2.0, 2.0, 4.0, 1.0, 1.0], patience=2)
        1
    """
    best, since, found = math.inf, 0, 0
    for value in values:
        since = 0 if value < best else since + 1
        best = min(best, value)
        if since == patience:
            since, found = 0, found + 1
    return found
