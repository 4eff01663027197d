"""Negative SI-SNR."""

from typing import ClassVar

from torch import Tensor

from lightning_sep.functional.si_sdr import pairwise_si_sdr, si_sdr
from lightning_sep.losses.base import WaveformLoss


class SiSnr(WaveformLoss):
    """Minus the scale-invariant signal-to-noise ratio: SI-SDR of the signals without their means.

    A constant offset of the estimate costs nothing. All pairs come from inner products in one go.
    """

    handles_silence: ClassVar[bool] = False
    fixes_scale: ClassVar[bool] = False
    unit: ClassVar[str] = "dB"

    def signal_loss(self, estimate: Tensor, target: Tensor, mixture: Tensor | None) -> Tensor:
        return -si_sdr(estimate=estimate, target=target, zero_mean=True)

    def pairwise_loss(self, estimate: Tensor, target: Tensor, mixture: Tensor | None) -> Tensor:
        return -pairwise_si_sdr(estimate=estimate, target=target, zero_mean=True)
