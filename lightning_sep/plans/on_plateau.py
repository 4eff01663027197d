"""Smaller steps whenever validation stands still."""

from collections.abc import Sequence
from typing import ClassVar

from lightning_sep.checks import finite_number, whole_number
from lightning_sep.plans.base import Plan, plateaus


class OnPlateau(Plan):
    """Times ``factor`` after every ``patience`` epochs in a row without a better validation value.

    Args:
        factor: on the rate, between 0 and 1.
        patience: epochs without a better value; counted anew after each change.
        floor: the rate falls no lower.

    Raises:
        ConfigError: a number is out of its range.
    """

    needs_length: ClassVar[bool] = False

    def __init__(self, factor: float = 0.5, patience: int = 5, floor: float = 1e-6) -> None:
        super().__init__()
        self.factor = finite_number("factor", factor, above=0, below=1)
        self.patience = whole_number("patience", patience, meaning="epochs")
        self.floor = finite_number("floor", floor, at_least=0)

    def rate(self, base: float, step: int, values: Sequence[float]) -> float:
        changes = plateaus(values, patience=self.patience)
        return max(base * self.factor**changes, min(self.floor, base))
