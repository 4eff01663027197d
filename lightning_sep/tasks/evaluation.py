"""One pass over validation or test: what is kept of its batches, and what comes of them."""

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from lightning_sep.data.batch import Batch
from lightning_sep.functional.processes import world_size

_ROUNDING = 1e-6  # of float32 arithmetic on samples around full scale


class Means:
    """Means by name, over all batches and processes."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}  # total and number

    def add(self, name: str, values: Tensor, kept: Tensor) -> None:
        """Add the ``values`` that are ``kept``, a mask of the same shape."""
        total = torch.where(kept, values, 0.0).double().sum()
        self._add(name, total, kept.sum().double())

    def add_beyond(self, name: str, values: Tensor, bounds: tuple[float, float]) -> None:
        """Add to the share of values that lie beyond ``bounds``, by more than rounding."""
        low, high = bounds
        beyond = ((values < low - _ROUNDING) | (values > high + _ROUNDING)).sum().double()
        self._add(name, beyond, torch.full_like(beyond, values.numel()))

    def _add(self, name: str, total: Tensor, count: Tensor) -> None:
        self._sums[name] = self._sums.get(name, 0.0) + torch.stack([total, count])

    def values(self) -> dict[str, float]:
        """The means; NaN of nothing. All processes must ask for them."""
        found = {}
        for name, sums in self._sums.items():
            joined = sums.clone()
            if world_size() > 1:
                dist.all_reduce(joined)
            total, count = joined.tolist()
            found[name] = total / count if count else math.nan
        return found


class Evaluation(ABC):
    """The scores of one pass over a part: made at its start, asked once at its end."""

    def __init__(self) -> None:
        self.means = Means()

    @abstractmethod
    def add(self, batch: Batch, raw: Tensor) -> None:
        """Add a batch and the net's raw values for it."""

    @abstractmethod
    def finish(self) -> tuple[dict[str, float], dict[str, list[Any]]]:
        """Metrics by name (those of ``means`` come on top), and lists with an entry per example
        (mixture, sequence, pair of speakers). A list called as a metric holds what it is the mean
        of, where it is one; the others say which examples these are."""
