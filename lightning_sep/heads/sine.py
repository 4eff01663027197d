"""Sine, in training and after it."""

from torch import Tensor

from lightning_sep.heads.base import WaveformHead


class Sine(WaveformHead):
    """``sin(raw)``: bounded without saturating; an overshoot folds back instead of sticking.

    Full scale is reached at odd multiples of pi/2, where the slope is 0.
    """

    def training_view(self, raw: Tensor) -> Tensor:
        return raw.squeeze(-1).sin()

    def decoded(self, raw: Tensor) -> Tensor:
        return self.training_view(raw)
