"""Embeddings of length 1."""

import torch
from torch import Tensor

from lightning_sep.functional.divergence import (
    Parts,
    pairwise_squared_distance,
    squared_distance_parts,
)
from lightning_sep.heads.base import EmbeddingHead


class UnitSphere(EmbeddingHead):
    """Rows divided by their length, compared by squared distance ``2 - 2 cos``.

    A row of zeros has no direction and stays zero.
    """

    def training_view(self, raw: Tensor) -> Tensor:
        # The largest entry goes first (a constant that cancels), so that no square over- or
        # underflows.
        largest = raw.detach().abs().amax(-1, keepdim=True)
        scaled = raw / torch.where(largest > 0, largest, 1.0)
        energy = scaled.square().sum(-1, keepdim=True)
        return scaled * torch.where(energy > 0, energy, 1.0).rsqrt()

    def decoded(self, raw: Tensor) -> Tensor:
        return self.training_view(raw)

    def pairwise(self, raw: Tensor) -> Tensor:
        return pairwise_squared_distance(self.training_view(raw))

    def pairwise_parts(self, raw: Tensor) -> Parts:
        return squared_distance_parts(self.training_view(raw))
