"""Train until nothing gets better, then go on from the best with small steps and large batches."""

from collections.abc import Sequence
from typing import ClassVar

from lightning_sep.errors import ConfigError
from lightning_sep.plans.base import Plan, Stage, check_patience, plateaus


class SecondStage(Plan):
    """The two stages of Wave-U-Net (Stoller, Ewert, Dixon, ISMIR 2018, arXiv:1806.03185, sec. 4.2).

    After ``patience`` epochs without a better validation value the run goes back to the best
    weights and on with ``second_rate`` and batches of ``batch`` times as many examples, until there
    are as many epochs again without a better one. ``trainer.epochs`` bounds both together.

    Args:
        patience: epochs without a better value that end a stage.
        second_rate: learning rate of the second stage.
        batch: factor on the examples' batch in the second stage.

    Raises:
        ConfigError: a number is out of its range.
    """

    ends_itself: ClassVar[bool] = True
    changes_batch: ClassVar[bool] = True

    def __init__(self, patience: int = 20, second_rate: float = 1e-5, batch: int = 2) -> None:
        super().__init__()
        self.patience = check_patience(patience)
        if not second_rate > 0:
            raise ConfigError(f"plan.second_rate must be positive, got {second_rate}")
        if batch < 1:
            raise ConfigError(f"plan.batch must be 1 or more, got {batch}")
        self.second_rate = second_rate
        self.batch = batch

    def rate(self, base: float, step: int, values: Sequence[float]) -> float:
        return base if self.stage(values).number == 0 else self.second_rate

    def stage(self, values: Sequence[float]) -> Stage:
        ended = plateaus(values, patience=self.patience)
        if ended == 0:
            return Stage()
        return Stage(number=1, batch=self.batch, over=ended > 1)
