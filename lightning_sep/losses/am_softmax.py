"""Additive margin softmax over the training speakers, for embeddings."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lightning_sep.functional.numbers import hold
from lightning_sep.losses.base import ClassLoss


class AmSoftmax(ClassLoss):
    """Cross-entropy of ``scale * (cosine - margin)`` for a row's own class and ``scale * cosine``
    for the others (Wang, Cheng, Liu and Liu, "Additive margin softmax for face verification",
    IEEE SPL 2018, arXiv:1801.05599).

    Cosines are those of the angles between the embedding and one direction per class, so their
    lengths cost nothing. Without a margin this is the softmax of normalised vectors.

    Args:
        embed: numbers in an embedding; filled in by the task.
        classes: speakers of the training part; filled in by the task.
        margin: by how much the cosine of the own class has to be ahead, at least.
        scale: of cosines; the larger, the less a row costs whose own class is ahead.

    Raises:
        ConfigError: a setting is out of its range, or fewer than two classes.

    Example:
        >>> loss = AmSoftmax(embed=2, classes=3)
        >>> loss(embedding=torch.ones(4, 2), classes=torch.tensor([0, 1, 2, 2])).shape
        torch.Size([4])
    """

    margin: float | Tensor
    scale: float | Tensor

    def __init__(
        self,
        *,
        embed: int,
        classes: int,
        margin: float | Tensor = 0.35,
        scale: float | Tensor = 30.0,
    ) -> None:
        super().__init__(embed=embed, classes=classes)
        hold(self, "margin", margin, at_most=2.0, meaning="of cosines, which differ by 2 at most")
        hold(self, "scale", scale, positive=True, meaning="of cosines")
        self.directions = nn.Parameter(torch.empty(classes, embed))
        nn.init.xavier_normal_(self.directions)

    def logits(self, rows: Tensor, own: Tensor) -> Tensor:
        directions = F.normalize(self.directions, dim=-1)
        cosines = F.linear(F.normalize(rows.to(directions.dtype), dim=-1), directions)
        return self.scale * torch.where(own, cosines - self.margin, cosines)
