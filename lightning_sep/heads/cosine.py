"""Cosine, in training and after it."""

from torch import Tensor

from lightning_sep.heads.base import WaveformHead


class Cosine(WaveformHead):
    """``cos(raw)``: bounded like the sine, but with a dead start.

    At raw value 0, where a fresh net begins, the output is 1 and the slope 0: an output layer that
    starts at exactly 0 never moves, whatever the target, and small weights start slowly.
    """

    def training_view(self, raw: Tensor) -> Tensor:
        return raw.squeeze(-1).cos()

    def decoded(self, raw: Tensor) -> Tensor:
        return self.training_view(raw)
