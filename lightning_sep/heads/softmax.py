"""Softmax embeddings."""

from typing import ClassVar

from torch import Tensor

from lightning_sep.functional.divergence import Parts, kl_parts, pairwise_kl
from lightning_sep.functional.numbers import hold
from lightning_sep.heads.base import EmbeddingHead


class Softmax(EmbeddingHead):
    """Rows as probabilities, compared by Kullback-Leibler divergence (Lukic et al., MLSP 2017).

    Args:
        temperature: divides the raw values; below 1 sharper, above 1 flatter.
    """

    is_distribution: ClassVar[bool] = True
    temperature: float | Tensor

    def __init__(self, temperature: float | Tensor = 1.0) -> None:
        super().__init__()
        hold(self, "temperature", temperature, positive=True, meaning="it divides the raw values")

    def training_view(self, raw: Tensor) -> Tensor:
        return (raw / self.temperature).log_softmax(-1)

    def decoded(self, raw: Tensor) -> Tensor:
        # Shifted first: a division by a small temperature must not overflow to infinity.
        return ((raw - raw.amax(-1, keepdim=True)) / self.temperature).softmax(-1)

    def pairwise(self, raw: Tensor) -> Tensor:
        return pairwise_kl(self.training_view(raw))

    def pairwise_parts(self, raw: Tensor) -> Parts:
        return kl_parts(self.training_view(raw))
