"""Hinge on the divergence, for pairs of embeddings."""

from torch import Tensor

from lightning_sep.functional.divergence import hinge_cost
from lightning_sep.functional.numbers import hold
from lightning_sep.losses.base import PairLoss


class KlHinge(PairLoss):
    """Divergence of the same class, hinge on different ones, both directions summed
    (Hsu and Kira, arXiv:1511.06321; Lukic et al., MLSP 2017).

    ``cost(P||Q) = KL(P||Q)`` for the same class, ``max(0, margin - KL(P||Q))`` for different ones,
    and the loss is ``cost(P||Q) + cost(Q||P)``: the hinge acts on each direction by itself.

    Args:
        margin: in the unit of the divergence (nats for softmax and softplus): 2 in the papers
            above, 3 for recurrent nets (Stadelmann et al., ANNPR 2018).
    """

    margin: float | Tensor

    def __init__(self, margin: float | Tensor = 2.0) -> None:
        super().__init__()
        hold(
            self,
            "margin",
            margin,
            positive=True,
            meaning="at 0 and below, the hinge on different speakers is always zero",
        )

    def pair_loss(self, forth: Tensor, back: Tensor, same: Tensor) -> Tensor:
        return hinge_cost(divergence=forth, same=same, margin=self.margin) + hinge_cost(
            divergence=back, same=same, margin=self.margin
        )
