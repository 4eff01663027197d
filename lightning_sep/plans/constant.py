"""One learning rate from the first step to the last."""

from collections.abc import Sequence
from typing import ClassVar

from lightning_sep.plans.base import Plan


class Constant(Plan):
    """The optimizer's rate, always."""

    needs_length: ClassVar[bool] = False

    def rate(self, base: float, step: int, values: Sequence[float]) -> float:
        return base
