"""Normalised softplus embeddings."""

from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_sep.functional.divergence import Parts, kl_parts, pairwise_kl
from lightning_sep.functional.numbers import hold
from lightning_sep.heads.base import EmbeddingHead


class Softplus(EmbeddingHead):
    """Rows as probabilities in proportion to ``softplus(raw)``: linear, not exponential, at large
    values, so single entries dominate less than in a softmax.

    Args:
        temperature: divides the raw values; below 1 sharper, above 1 flatter.
    """

    is_distribution: ClassVar[bool] = True
    temperature: float | Tensor

    def __init__(self, temperature: float | Tensor = 1.0) -> None:
        super().__init__()
        hold(self, "temperature", temperature, positive=True, meaning="it divides the raw values")

    def training_view(self, raw: Tensor) -> Tensor:
        value = raw / self.temperature
        # softplus underflows far below 0, where its logarithm is the value itself.
        middle = F.softplus(value.clamp(min=-15.0)).log()
        logarithm = torch.where(value < -15.0, value, middle)
        return logarithm.log_softmax(-1)

    def decoded(self, raw: Tensor) -> Tensor:
        # Far inside of the largest number, so that neither the division nor the sum overflows.
        limit = torch.finfo(raw.dtype).max ** 0.5
        return self.training_view(raw.clamp(-limit, limit)).exp()

    def pairwise(self, raw: Tensor) -> Tensor:
        return pairwise_kl(self.training_view(raw))

    def pairwise_parts(self, raw: Tensor) -> Parts:
        return kl_parts(self.training_view(raw))
