"""Scores of examples that arrive in any order, from any number of processes."""

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_sep.metrics.synchronised import all_processes


class ExampleMetric(Metric):
    """A metric that keeps a row of numbers per example.

    Rows are put in the order of the examples' numbers, and a number that comes twice (samplers
    repeat examples to fill the last batch of a process) counts once. Rows without a number stay in
    the order of arrival.
    """

    full_state_update = False
    rows: list[Tensor]
    numbers: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.add_state("rows", default=[], dist_reduce_fx="cat")
        self.add_state("numbers", default=[], dist_reduce_fx="cat")

    def keep(self, rows: Tensor, index: Tensor | None) -> None:
        """Add ``rows [example, ...]``; ``index [example]`` are the examples' numbers."""
        if index is None:
            index = torch.full((len(rows),), -1, dtype=torch.int64, device=rows.device)
        self.rows.append(rows.detach())
        self.numbers.append(index)

    def table(self) -> Tensor | None:
        """All rows of all processes in order, ``[example, ...]``; ``None`` before the first."""
        ordered = self.ordered()
        return None if ordered is None else ordered[0]

    def ordered(self) -> tuple[Tensor, Tensor] | None:
        """All rows in order and the examples' numbers, ``[example]``; -1 where there is none."""
        with all_processes(self):
            rows, numbers = _joined(self.rows), _joined(self.numbers)
        if rows is None or numbers is None:
            return None
        order = numbers.argsort(stable=True)
        rows, numbers = rows[order], numbers[order]
        first = torch.ones_like(numbers, dtype=torch.bool)
        first[1:] = (numbers[1:] != numbers[:-1]) | (numbers[1:] < 0)
        return rows[first], numbers[first]


def _joined(state: list[Tensor] | Tensor) -> Tensor | None:
    if isinstance(state, Tensor):  # torchmetrics joins lists when it has synchronised processes
        return state
    return torch.cat(state) if state else None
