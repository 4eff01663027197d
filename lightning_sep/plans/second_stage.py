"""Train until nothing gets better, then go on from the best with small steps and large batches."""

from collections.abc import Sequence
from typing import ClassVar

from lightning_sep.checks import finite_number, whole_number
from lightning_sep.plans.base import Plan, Stage, plateaus


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
    needs_length: ClassVar[bool] = False

    def __init__(self, patience: int = 20, second_rate: float = 1e-5, batch: int = 2) -> None:
        super().__init__()
        self.patience = whole_number("patience", patience, meaning="epochs")
        self.second_rate = finite_number("second_rate", second_rate, above=0)
        self.batch = whole_number("batch", batch)

    def rate(self, base: float, step: int, values: Sequence[float]) -> float:
        return base if self.stage(values).number == 0 else self.second_rate

    def stage(self, values: Sequence[float]) -> Stage:
        ended = plateaus(values, patience=self.patience)
        if ended == 0:
            return Stage()
        return Stage(number=1, batch=self.batch, over=ended > 1)
