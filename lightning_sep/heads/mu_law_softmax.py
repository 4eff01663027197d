"""A softmax over mu-law levels."""

from typing import ClassVar

import torch
from torch import Tensor

from lightning_sep.checks import finite_number, whole_number
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
        start_scale: raw values of 0, near which a net starts, mean a logistic distribution of this
            scale around 0 (full scale is 1), at any temperature; ``None``: all levels alike, which
            is a loud noise that first has to be unlearnt.
    """

    brings_loss: ClassVar[bool] = True
    temperature: float | Tensor
    start: Tensor

    def __init__(
        self,
        levels: int = 256,
        temperature: float | Tensor = 1.0,
        start_scale: float | None = 0.1,
    ) -> None:
        super().__init__()
        self.levels = whole_number("levels", levels, at_least=2, meaning="levels of amplitude")
        self.raw_per_sample = self.levels
        hold(self, "temperature", temperature, positive=True, meaning="it divides the raw values")
        start = torch.zeros(levels)
        if start_scale is not None:
            start = _logistic(
                self.levels, finite_number("start_scale", start_scale, above=0, meaning="amplitude")
            )
        self.register_buffer("start", start, persistent=False)

    def training_view(self, raw: Tensor) -> Tensor:
        return (raw / self.temperature + self.start.to(raw.dtype)).log_softmax(-1)

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
        start = self.start.to(raw.dtype).unsqueeze(-1)
        log_shares = (raw.movedim(-1, 2) / self.temperature + start).log_softmax(2)
        level = mu_law.encode(target, levels=self.levels)
        level = level.unsqueeze(1).expand(-1, raw.shape[1], -1, -1)
        return -log_shares.gather(2, level).mean(-1)

    def _probabilities(self, raw: Tensor) -> Tensor:
        # Shifted first: a division by a small temperature must not overflow to infinity.
        shifted = (raw - raw.amax(-1, keepdim=True)) / self.temperature
        return (shifted + self.start.to(raw.dtype)).softmax(-1)


def _logistic(levels: int, scale: float) -> Tensor:
    """Log-shares of the levels under a logistic distribution around 0, ``[levels]``."""
    values = mu_law.values_of_levels(levels, like=torch.zeros((), dtype=torch.float64))
    edges = (values[1:] + values[:-1]) / 2 / scale
    below = torch.cat([torch.zeros(1), edges.sigmoid(), torch.ones(1)]).double()
    return below.diff().clamp(min=1e-30).log().float()
