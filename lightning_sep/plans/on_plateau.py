"""Smaller steps whenever validation stands still."""

from collections.abc import Sequence

from lightning_sep.errors import ConfigError
from lightning_sep.plans.base import Plan, check_patience, plateaus


class OnPlateau(Plan):
    """Times ``factor`` after every ``patience`` epochs in a row without a better validation value.

    Args:
        factor: on the rate, between 0 and 1.
        patience: epochs without a better value; counted anew after each change.
        floor: the rate falls no lower.

    Raises:
        ConfigError: a number is out of its range.
    """

    def __init__(self, factor: float = 0.5, patience: int = 5, floor: float = 1e-6) -> None:
        super().__init__()
        if not 0 < factor < 1:
            raise ConfigError(f"plan.factor must lie between 0 and 1, got {factor}")
        if not floor >= 0:
            raise ConfigError(f"plan.floor must be 0 or more, got {floor}")
        self.factor = factor
        self.patience = check_patience(patience)
        self.floor = floor

    def rate(self, base: float, step: int, values: Sequence[float]) -> float:
        changes = plateaus(values, patience=self.patience)
        return max(base * self.factor**changes, min(self.floor, base))
