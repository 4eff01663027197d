"""A softmax over mu-law levels."""

from typing import ClassVar

import torch
from torch import Tensor

from lightning_sep.checks import whole_number
from lightning_sep.functional import categorical, mu_law
from lightning_sep.functional.numbers import hold
from lightning_sep.heads.base import WaveformHead


class MuLawSoftmax(WaveformHead):
    """A categorical distribution over mu-law levels (WaveNet, arXiv:1609.03499).

    ``forward`` gives log-probabilities ``[..., levels]``, ``decode`` their expectation (which is
    what scores best in squared error), ``sample`` draws a level.

    Args:
        levels: of amplitude; the net gives as many raw values per sample.
        temperature: divides the raw values everywhere, so that the loss, the expectation and the
            draws see one distribution; below 1 sharper, above 1 flatter.
    """

    brings_loss: ClassVar[bool] = True
    temperature: float | Tensor

    def __init__(self, levels: int = 256, temperature: float | Tensor = 1.0) -> None:
        super().__init__()
        self.levels = whole_number("levels", levels, at_least=2, meaning="levels of amplitude")
        self.raw_per_sample = self.levels
        hold(self, "temperature", temperature, positive=True, meaning="it divides the raw values")

    def training_view(self, raw: Tensor) -> Tensor:
        return (raw / self.temperature).log_softmax(-1)

    def decoded(self, raw: Tensor) -> Tensor:
        values = mu_law.values_of_levels(self.levels, like=raw)
        return (self._probabilities(raw) * values).sum(-1)

    def drawn(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        level = categorical.draw(self._probabilities(raw), generator=generator)
        return mu_law.decode(level, levels=self.levels, dtype=raw.dtype)

    def cross_entropy(self, raw: Tensor, target: Tensor) -> Tensor:
        level = mu_law.encode(target, levels=self.levels)
        return -self.training_view(raw).gather(-1, level.unsqueeze(-1)).squeeze(-1)

    def pairwise_cross_entropy(self, raw: Tensor, target: Tensor) -> Tensor:
        # In the layout of a convolution's output, parameters before time: without a copy.
        log_shares = (raw.movedim(-1, 2) / self.temperature).log_softmax(2)
        level = mu_law.encode(target, levels=self.levels)
        level = level.unsqueeze(1).expand(-1, raw.shape[1], -1, -1)
        return -log_shares.gather(2, level).mean(-1)

    def _probabilities(self, raw: Tensor) -> Tensor:
        # Shifted first: a division by a small temperature must not overflow to infinity.
        return ((raw - raw.amax(-1, keepdim=True)) / self.temperature).softmax(-1)
