"""Some classes count more than others."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lightning_sep.functional.numbers import row
from lightning_sep.reweighting.base import Reweighting


class ClassBias(Reweighting):
    """Softmax of a constant per class (Tzinis, Bralios, Smaragdis, arXiv:2010.13228).

    An example of several members (the sources of a mixture) gets the mean of their constants.

    Args:
        gamma: one number per class, by class number; a difference of 1 is a factor of e in
            weight. Classes beyond the list, and negative class numbers, get 0.
    """

    gamma: Tensor

    def __init__(self, gamma: Sequence[float] | Tensor) -> None:
        super().__init__()
        values = row("gamma", gamma, meaning="one number per class; larger weighs more")
        self.register_buffer("gamma", values, persistent=False)

    def scores(self, losses: Tensor, groups: Tensor, step: int | Tensor) -> Tensor:
        known = self.gamma.shape[-1]
        values = torch.cat([self.gamma, self.gamma.new_zeros(1)], dim=-1).to(losses)
        listed = (groups >= 0) & (groups < known)
        return values[torch.where(listed, groups, known)].mean(-1)
