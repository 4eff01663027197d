"""Clipping, in training and after it."""

from torch import Tensor

from lightning_sep.heads.base import WaveformHead


class HardClip(WaveformHead):
    """``clip(raw)``: reaches full scale exactly, but has no gradient outside, so no way back."""

    def training_view(self, raw: Tensor) -> Tensor:
        return raw.squeeze(-1).clamp(*self.bounds)

    def decoded(self, raw: Tensor) -> Tensor:
        return self.training_view(raw)

    def before_clipping(self, raw: Tensor) -> Tensor:
        return raw.squeeze(-1)
