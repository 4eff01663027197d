"""Hard examples first, or easy ones."""

from typing import ClassVar

from torch import Tensor

from lightning_sep.functional.numbers import hold
from lightning_sep.reweighting.base import Reweighting


class LossSoftmax(Reweighting):
    """Softmax of the scaled losses (Tzinis, Bralios, Smaragdis, arXiv:2010.13228, eq. 5).

    Its gradient is that of ``log(sum(exp(alpha * loss))) / alpha``.

    Args:
        alpha: per unit of loss (for a loss in dB: per dB). Positive favours hard examples,
            negative easy ones, 0 is the plain mean. Each loss has its own useful range.

    Example:
        >>> import torch
        >>> losses = torch.tensor([-12.0, -2.0])  # minus SI-SDR, in dB
        >>> mask, groups = torch.tensor([True, True]), torch.tensor([[0], [0]])
        >>> LossSoftmax(alpha=0.1).weights(losses, groups, mask, step=0)
        tensor([0.2689, 0.7311])
    """

    needs_length: ClassVar[bool] = False
    alpha: float | Tensor

    def __init__(self, alpha: float | Tensor) -> None:
        super().__init__()
        hold(self, "alpha", alpha, meaning="per unit of loss; 0 is the plain mean")

    def scores(self, losses: Tensor, groups: Tensor, step: int | Tensor) -> Tensor:
        return self.alpha * losses
