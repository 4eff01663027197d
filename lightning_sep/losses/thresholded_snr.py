"""Negative SNR with a soft ceiling, which can score silence."""

from typing import ClassVar

import torch
from torch import Tensor

from lightning_sep.functional.numbers import hold
from lightning_sep.functional.products import inner_products, sums_in_float64
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
        noise = (target - estimate).square().sum(-1)
        return self._decibels(noise, target.square().sum(-1), target.shape[-1], mixture)

    def pairwise_loss(self, estimate: Tensor, target: Tensor, mixture: Tensor | None) -> Tensor:
        if not sums_in_float64(estimate):
            return super().pairwise_loss(estimate, target, mixture)
        products, whole, reference = inner_products(estimate, target)
        reference = reference.unsqueeze(-2)
        noise = (whole.unsqueeze(-1) + reference - 2 * products).clamp(min=0.0)
        mixed = None if mixture is None else mixture[..., None, None, :]
        decibels = self._decibels(noise, reference, target.shape[-1], mixed)
        return decibels.to(estimate.dtype)

    def _decibels(
        self, noise: Tensor, reference: Tensor, time: int, mixture: Tensor | None
    ) -> Tensor:
        """The loss, from the energies of error and target."""
        silent_energy = _SILENT_RMS**2 * time
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
        return 10 * (noise / reference + ceiling).log10()


def _share(decibels: float | Tensor, like: Tensor) -> Tensor:
    if isinstance(decibels, Tensor):
        return torch.pow(10.0, -decibels.to(like.dtype) / 10)
    # Filled in where it is needed: a tensor made here would have to be sent there in every step.
    return torch.full_like(like, 10 ** (-decibels / 10))
