"""Contrastive loss, for pairs of embeddings."""

import torch
from torch import Tensor

from lightning_sep.functional.numbers import hold
from lightning_sep.losses.base import PairLoss


class Contrastive(PairLoss):
    """``d^2`` for the same class, ``max(0, margin - d)^2`` for different ones
    (Hadsell, Chopra, LeCun, CVPR 2006).

    ``d^2`` is the mean of the two divergences of a pair: the squared Euclidean distance for
    ``unit_sphere``, half the Jeffreys divergence for distributions.

    Args:
        margin: a distance, so in the square root of the divergence's unit; on the unit sphere
            distances lie between 0 and 2.
    """

    margin: float | Tensor

    def __init__(self, margin: float | Tensor = 1.0) -> None:
        super().__init__()
        hold(
            self,
            "margin",
            margin,
            positive=True,
            meaning="at 0 and below, different speakers cost nothing at any distance",
        )

    def pair_loss(self, forth: Tensor, back: Tensor, same: Tensor) -> Tensor:
        squared = (forth + back) / 2
        # The slope of the root is infinite at 0, where two embeddings coincide.
        apart = squared > torch.finfo(squared.dtype).eps
        distance = torch.where(
            apart, torch.where(apart, squared, 1.0).sqrt(), squared.clamp(min=0.0)
        )
        return torch.where(same, squared, (self.margin - distance).clamp(min=0.0).square())
