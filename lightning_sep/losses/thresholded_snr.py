"""Negative SNR with a soft ceiling, which can score silence."""

from typing import ClassVar

import torch
from torch import Tensor

from lightning_sep.functional.numbers import hold
from lightning_sep.losses.base import WaveformLoss

_SILENT_RMS = 1e-8


class ThresholdedSnr(WaveformLoss):
    """Minus the SNR with a soft ceiling (Wisdom et al., "What's all the FUSS about free universal
    sound separation data?", ICASSP 2021).

    ``10 log10((|s - e|^2 + tau |s|^2) / |s|^2)`` with ``tau = 10^(-max_snr_db / 10)``: beyond the
    ceiling an example gives way to others. For a silent target (RMS up to 1e-8) the mixture's
    energy and the other ceiling take the place of the target's, so that silence is learnt too;
    where there is no mixture, or it is silent itself, full scale does.

    Args:
        max_snr_db: ceiling for active targets; a perfect estimate costs minus this.
        max_snr_silent_db: ceiling for silent targets, relative to the mixture.
    """

    handles_silence: ClassVar[bool] = True
    unit: ClassVar[str] = "dB"
    max_snr_db: float | Tensor
    max_snr_silent_db: float | Tensor

    def __init__(
        self, max_snr_db: float | Tensor = 30.0, max_snr_silent_db: float | Tensor = 20.0
    ) -> None:
        super().__init__()
        hold(self, "max_snr_db", max_snr_db, meaning="ceiling in dB for active targets")
        hold(self, "max_snr_silent_db", max_snr_silent_db, meaning="ceiling in dB for silence")

    def signal_loss(self, estimate: Tensor, target: Tensor, mixture: Tensor | None) -> Tensor:
        time = target.shape[-1]
        silent_energy = _SILENT_RMS**2 * time
        reference = target.square().sum(-1)
        active = reference > silent_energy
        if mixture is None:
            fallback = torch.full_like(reference, float(time))
        else:
            mixed = mixture.square().sum(-1)
            fallback = torch.where(mixed > silent_energy, mixed, float(time))
        reference = torch.where(active, reference, fallback)
        ceiling = torch.where(
            active, _share(self.max_snr_db, reference), _share(self.max_snr_silent_db, reference)
        )
        noise = (target - estimate).square().sum(-1)
        return 10 * (noise / reference + ceiling).log10()


def _share(decibels: float | Tensor, like: Tensor) -> Tensor:
    return 10 ** (-torch.as_tensor(decibels, dtype=like.dtype, device=like.device) / 10)
