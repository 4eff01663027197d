"""A discretised mixture of logistics."""

from typing import ClassVar

import torch
from torch import Tensor

from lightning_sep.checks import whole_number
from lightning_sep.functional import logistic_mixture
from lightning_sep.functional.numbers import filled, hold
from lightning_sep.heads.base import WaveformHead


class LogisticMixture(WaveformHead):
    """A mixture of logistics over equally spaced levels (PixelCNN++, arXiv:1701.05517).

    Raw values are the components' mixture logits, then their means, then the logarithms of their
    scales. ``forward`` gives log shares, means and bounded log scales in the same order, ``decode``
    the expectation of the clipped draws, ``sample`` a clipped draw.

    Args:
        components: of the mixture; the net gives three raw values per sample for each.
        levels: of amplitude, 256 for 8 bits, 65536 for 16.
        log_scale_floor: least logarithm of a scale; -7 suits 256 levels, -16 suits 65536.
        start_log_scale: logarithm of the scale that a raw value of 0 means, near which a net
            starts: at 0 its distribution is as wide as full scale.
    """

    brings_loss: ClassVar[bool] = True
    log_scale_floor: float | Tensor
    start_log_scale: float | Tensor

    def __init__(
        self,
        components: int = 4,
        levels: int = 256,
        log_scale_floor: float | Tensor = -7.0,
        start_log_scale: float | Tensor = -2.0,
    ) -> None:
        super().__init__()
        self.components = whole_number(
            "components", components, at_least=1, meaning="of the mixture"
        )
        self.levels = whole_number("levels", levels, at_least=2, meaning="levels of amplitude")
        self.raw_per_sample = 3 * self.components
        hold(
            self,
            "log_scale_floor",
            log_scale_floor,
            at_most=0.0,
            meaning="least logarithm of a scale, where full scale is 1",
        )
        hold(
            self,
            "start_log_scale",
            start_log_scale,
            meaning="logarithm of the scale that a raw value of 0 means",
        )

    def training_view(self, raw: Tensor) -> Tensor:
        return torch.cat(self._mixture(raw), dim=-1)

    def decoded(self, raw: Tensor) -> Tensor:
        log_shares, means, log_scales = self._mixture(raw)
        return logistic_mixture.expectation(
            log_shares=log_shares, means=means, log_scales=log_scales
        )

    def before_clipping(self, raw: Tensor) -> Tensor:
        log_shares, means, _ = self._mixture(raw)
        return (log_shares.exp() * means).sum(-1)

    def drawn(self, raw: Tensor, generator: torch.Generator) -> Tensor:
        log_shares, means, log_scales = self._mixture(raw)
        return logistic_mixture.draw(
            log_shares=log_shares, means=means, log_scales=log_scales, generator=generator
        )

    def cross_entropy(self, raw: Tensor, target: Tensor) -> Tensor:
        return self._cross_entropy(self._mixture(raw), target)

    def pairwise_cross_entropy(self, raw: Tensor, target: Tensor) -> Tensor:
        log_shares, means, log_scales = (one.unsqueeze(2) for one in self._mixture(raw))
        return self._cross_entropy((log_shares, means, log_scales), target.unsqueeze(1)).mean(-1)

    def _cross_entropy(self, mixture: tuple[Tensor, Tensor, Tensor], target: Tensor) -> Tensor:
        log_shares, means, log_scales = mixture
        return -logistic_mixture.log_probability(
            log_shares=log_shares,
            means=means,
            log_scales=log_scales,
            level=logistic_mixture.level_of(target, levels=self.levels),
            levels=self.levels,
        )

    def _mixture(self, raw: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        logits, means, log_scales = raw.chunk(3, dim=-1)
        log_scales = log_scales + self.start_log_scale
        floor = filled(self.log_scale_floor, raw)
        # As log_softmax, which takes several times as long over so few at the end of a tensor.
        log_shares = logits - logits.logsumexp(-1, keepdim=True)
        return log_shares, means, torch.maximum(log_scales, floor)
