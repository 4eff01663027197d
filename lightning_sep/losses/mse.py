"""Mean squared error."""

from typing import ClassVar

from torch import Tensor

from lightning_sep.losses.base import WaveformLoss


class Mse(WaveformLoss):
    """Mean over time of the squared error. Not scale-invariant: loud examples weigh more."""

    handles_silence: ClassVar[bool] = True
    unit: ClassVar[str] = "squared amplitude"

    def signal_loss(self, estimate: Tensor, target: Tensor, mixture: Tensor | None) -> Tensor:
        return (estimate - target).square().mean(-1)
