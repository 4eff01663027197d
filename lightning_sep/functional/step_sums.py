"""Sums over steps that no step waits for."""

from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor

from lightning_sep.functional.precision import measured

AT_ONCE = 32  # steps: adding a few numbers of one takes as long as adding those of many


def add_in_order(total: Tensor, steps: Iterable[Tensor]) -> Tensor:
    """``total`` and the values of the steps, one after the other: the same to the last bit however
    the steps are dealt out over calls.

    Args:
        total: ``[value]``.
        steps: ``[value]`` each.
    """
    return reduce(torch.add, steps, total)


class StepSums:
    """Sums of a few numbers over the steps of an epoch, in float64, on the device of the numbers.

    The numbers wait until there are enough of them, or somebody asks.

    Args:
        start: ``[value]``, the sums to go on from.
    """

    def __init__(self, start: Tensor) -> None:
        self._total = measured(start)
        self._waiting: list[tuple[Tensor, ...]] = []

    def add(self, *values: Tensor) -> None:
        """Add a step: a number each, without gradient, of any dtype."""
        self._waiting.append(values)
        if len(self._waiting) == AT_ONCE:
            self.total()

    def total(self) -> Tensor:
        """The sums so far, ``[value]``."""
        if self._waiting:
            each = [measured(torch.stack(one)) for one in zip(*self._waiting, strict=True)]
            self._waiting.clear()
            steps = torch.stack(each, dim=1)
            self._total = add_in_order(self._total.to(steps.device), steps)
        return self._total
