"""Easy examples first, all alike in the end."""

import torch
from torch import Tensor

from lightning_sep.checks import whole_number
from lightning_sep.functional.numbers import hold
from lightning_sep.reweighting.base import Reweighting


class Curriculum(Reweighting):
    """Softmax of the losses, scaled by a negative number that rises to 0
    (Tzinis, Bralios, Smaragdis, arXiv:2010.13228, eq. 6).

    ``beta(step) = beta_start * max(0, 1 - step / end_step)``.

    Args:
        beta_start: per unit of loss, negative: low losses weigh more at the start.
        end_step: optimizer step from which on every example counts the same.
    """

    beta_start: float | Tensor

    def __init__(self, beta_start: float | Tensor, end_step: int) -> None:
        super().__init__()
        hold(
            self,
            "beta_start",
            beta_start,
            at_most=0.0,
            meaning="a curriculum starts with easy examples; loss_softmax favours hard ones",
        )
        self.end_step = whole_number(
            "end_step", end_step, at_least=1, meaning="step of the last bias"
        )

    def scores(self, losses: Tensor, groups: Tensor, step: int | Tensor) -> Tensor:
        left = torch.as_tensor(1 - step / self.end_step, dtype=losses.dtype, device=losses.device)
        return self.beta_start * left.clamp(min=0.0) * losses
