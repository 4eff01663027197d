"""Signal-to-distortion ratios in dB, finite for silence and the same at every level.

The epsilon is relative: the machine epsilon times the energies at hand. An absolute one would
decide by loudness (with 1e-9, an estimate of 20 dB reads 8.5 dB at a norm of 1e-4).
"""

import torch
from torch import Tensor

from lightning_sep.functional.precision import at_least_float32, measured, without_autocast
from lightning_sep.functional.products import inner_products, sums_in_float64


def si_sdr(*, estimate: Tensor, target: Tensor, zero_mean: bool = False) -> Tensor:
    """Scale-invariant signal-to-distortion ratio, in dB; higher is better.

    The target is first scaled to the part of the estimate that points along it, so a change of
    volume or of sign costs nothing; what is left over counts as distortion
    (Le Roux et al., "SDR: half-baked or well done?", ICASSP 2019, arXiv:1811.02508).

    Args:
        estimate: separated signals, ``[..., time]``, any scale.
        target: reference signals, same shape. A silent one has no direction to project on: its
            value stays finite but means nothing, so callers mask it out.
        zero_mean: take the means off first (then it is also called SI-SNR).

    Returns:
        ``[...]``, float32 at least, within +-69 dB (float32) or +-157 dB (float64). Silence on
        either side gives the lowest value.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> target = torch.tensor([1.0, 0.0, -1.0, 0.0])
        >>> noise = torch.tensor([0.0, 0.1, 0.0, -0.1])
        >>> si_sdr(estimate=3 * (target + noise), target=target)
        tensor(20.)
    """
    _check(estimate, target)
    with without_autocast(estimate):
        estimate, target = _pair(estimate, target)
        estimate, target = _levelled(estimate, zero_mean), _levelled(target, zero_mean)
        aligned = (estimate * target).sum(-1, keepdim=True) / _energy(target) * target
        whole = _energy(estimate).squeeze(-1)
        signal = aligned.square().sum(-1) / whole
        distortion = (estimate - aligned).square().sum(-1) / whole
        return _ratio_db(signal, torch.where(_silent(estimate), 1.0, distortion))


def pairwise_si_sdr(*, estimate: Tensor, target: Tensor, zero_mean: bool = False) -> Tensor:
    """SI-SDR of every estimate with every target, in dB, from one matrix product.

    From inner products instead of residuals, several times faster and made for training. The
    products are summed in float64 where the device has it: in float32 they cancel, and 50 dB read
    49.6.

    Args:
        estimate: ``[..., estimate, time]``.
        target: ``[..., target, time]``.
        zero_mean: take the means off first.

    Returns:
        ``[..., estimate, target]``. The entries of a silent target are all alike, so it has no say
        in which permutation is best.
    """
    with without_autocast(estimate):
        estimate, target = _pair(estimate, target)
        dtype = estimate.dtype
        if not zero_mean and sums_in_float64(estimate):
            products, *energies = inner_products(estimate, target)
            whole, of_target = (torch.where(one > 0, one, 1.0) for one in energies)
            signal = products.square() / (whole.unsqueeze(-1) * of_target.unsqueeze(-2))
            return _ratio_db(signal, 1 - signal, eps=torch.finfo(dtype).eps).to(dtype)
        estimate = measured(_levelled(estimate, zero_mean))
        target = measured(_levelled(target, zero_mean))
        signal = (estimate @ target.mT).square() / (_energy(estimate) * _energy(target).mT)
        return _ratio_db(signal, 1 - signal, eps=torch.finfo(dtype).eps).to(dtype)


def snr(*, estimate: Tensor, target: Tensor) -> Tensor:
    """Signal-to-noise ratio, in dB; higher is better.

    Args:
        estimate: ``[..., time]``.
        target: same shape; a silent one gives a finite value that means nothing.

    Returns:
        ``[...]``, float32 at least.

    Raises:
        ValueError: the shapes differ.

    Example:
        >>> snr(estimate=torch.tensor([1.0, -1.0, 1.0, 0.0]), target=torch.tensor([1.0, -1, 1, -1]))
        tensor(6.0206)
    """
    _check(estimate, target)
    with without_autocast(estimate):
        estimate, target = _pair(estimate, target)
        largest = torch.maximum(estimate.detach().abs(), target.detach().abs())
        largest = largest.amax(-1, keepdim=True)
        scale = torch.where(largest > 0, largest, 1.0)
        estimate, target = estimate / scale, target / scale
        both = target.square().sum(-1) + estimate.square().sum(-1)
        both = torch.where(both > 0, both, 1.0)
        return _ratio_db(
            target.square().sum(-1) / both, (target - estimate).square().sum(-1) / both
        )


def _check(estimate: Tensor, target: Tensor) -> None:
    if estimate.shape != target.shape:
        raise ValueError(
            f"estimate and target need the same shape, "
            f"got {list(estimate.shape)} and {list(target.shape)}"
        )


def _pair(estimate: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(at_least_float32(estimate).dtype, at_least_float32(target).dtype)
    return estimate.to(dtype), target.to(dtype)


def _levelled(signal: Tensor, zero_mean: bool) -> Tensor:
    """The signal with its largest value at 1; silence (and, without its mean, a constant) at 0."""
    largest = signal.detach().abs().amax(-1, keepdim=True)
    # A constant factor, which the ratio does not see: squares neither over- nor underflow.
    signal = signal / torch.where(largest > 0, largest, 1.0)
    if not zero_mean:
        return signal
    signal = signal - signal.mean(-1, keepdim=True)
    left = signal.detach().abs().amax(-1, keepdim=True)
    # What rounding leaves of a constant is no signal.
    return torch.where(left > 8 * torch.finfo(signal.dtype).eps, signal, 0.0)


def _energy(signal: Tensor) -> Tensor:
    """``[..., 1]``; 1 for silence, to divide by."""
    energy = signal.square().sum(-1, keepdim=True)
    return torch.where(energy > 0, energy, 1.0)


def _silent(signal: Tensor) -> Tensor:
    return signal.detach().abs().amax(-1) == 0


def _ratio_db(signal: Tensor, distortion: Tensor, eps: float | None = None) -> Tensor:
    # Added to the signal, so that a bad estimate keeps its gradient; a bound for the distortion, so
    # that a good one keeps its value.
    eps = torch.finfo(signal.dtype).eps if eps is None else eps
    return 10 * ((signal + eps).log10() - distortion.clamp(min=eps).log10())
