"""One learning rate from the first step to the last."""

from collections.abc import Sequence

from lightning_sep.plans.base import Plan


class Constant(Plan):
    """The optimizer's rate, always."""

    def rate(self, base: float, step: int, values: Sequence[float]) -> float:
        return base
