"""Hyperbolic tangent, in training and after it."""

from torch import Tensor

from lightning_sep.heads.base import WaveformHead


class Tanh(WaveformHead):
    """``tanh(raw)``: smooth and never quite 1, with a gradient that vanishes near full scale.

    The gradient of a squared error is ``2 (y - t) (1 - y^2)``; in float32 it is exactly 0 from
    raw values of 9 on.
    """

    def training_view(self, raw: Tensor) -> Tensor:
        return raw.squeeze(-1).tanh()

    def decoded(self, raw: Tensor) -> Tensor:
        return self.training_view(raw)
