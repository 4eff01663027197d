"""Clipping whose backward pass is the identity."""

from typing import ClassVar

from torch import Tensor

from lightning_sep.heads.base import WaveformHead


class StraightThroughClip(WaveformHead):
    """``clip(raw)`` forward, slope 1 backward.

    The loss gradient is taken at the clipped value: an overshoot towards a target at full scale
    has error 0 and stays, one away from its target is pulled back.
    """

    exact_gradient: ClassVar[bool] = False

    def training_view(self, raw: Tensor) -> Tensor:
        value = raw.squeeze(-1)
        # Exactly the clipped value plus exactly 0: `raw + (clip(raw) - raw)` would round.
        return self.decoded(raw).detach() + (value - value.detach())

    def decoded(self, raw: Tensor) -> Tensor:
        return raw.squeeze(-1).clamp(*self.bounds)

    def before_clipping(self, raw: Tensor) -> Tensor:
        return raw.squeeze(-1)
