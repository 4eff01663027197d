"""A short rise, then a long fall."""

import math
from collections.abc import Sequence

from lightning_sep.checks import finite_number
from lightning_sep.plans.base import Plan


class WarmupCosine(Plan):
    """Linear up to the optimizer's rate, then half a cosine down (Loshchilov and Hutter, "SGDR",
    ICLR 2017, without restarts; the rise as in Goyal et al., arXiv:1706.02677).

    Args:
        warmup: share of the run's steps in which the rate rises.
        floor: share of the rate that is left in the end.

    Raises:
        ConfigError: a share is out of its range.
    """

    def __init__(self, warmup: float = 0.05, floor: float = 0.0) -> None:
        super().__init__()
        self.warmup = finite_number("warmup", warmup, at_least=0, below=1)
        self.floor = finite_number("floor", floor, at_least=0, below=1)

    def rate(self, base: float, step: int, values: Sequence[float]) -> float:
        rise = math.ceil(self.warmup * self.steps)
        if step < rise:
            return base * (step + 1) / rise
        done = min((step - rise) / max(self.steps - rise, 1), 1.0)
        return base * (self.floor + (1 - self.floor) * (1 + math.cos(math.pi * done)) / 2)
