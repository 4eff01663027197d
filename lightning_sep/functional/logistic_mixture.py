"""Discretised mixtures of logistics (PixelCNN++, arXiv:1701.05517) on equally spaced levels.

Level k of K is the value ``-1 + 2 k / (K - 1)``. A level's probability is the mass between the
middles to its neighbours; the lowest level also gets all mass below, the highest all above. Which
level is an edge is decided by its number, never by comparing values, so that the probabilities sum
to 1 for any K.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from lightning_sep.functional import categorical
from lightning_sep.functional.noise import uniform


def level_of(values: Tensor, *, levels: int) -> Tensor:
    """Nearest level of each value, int64 in 0 to ``levels - 1``; values outside are clipped.

    Example:
        >>> level_of(torch.tensor([-1.0, 0.0, 0.99, 3.0]), levels=256)
        tensor([  0, 128, 254, 255])
    """
    return ((values.clamp(-1.0, 1.0) + 1) / 2 * (levels - 1)).round().long()


def value_of(level: Tensor, *, levels: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Value of each level, in [-1, 1]."""
    return 2 * level.to(dtype) / (levels - 1) - 1


def log_probability(
    *, log_shares: Tensor, means: Tensor, log_scales: Tensor, level: Tensor, levels: int
) -> Tensor:
    """Log-probability of a level under a mixture, ``[...]`` in nats.

    Args:
        log_shares: ``[..., component]``, logarithms of shares that sum to 1.
        means: ``[..., component]``.
        log_scales: ``[..., component]``.
        level: ``[...]`` int64.
        levels: how many.
    """
    half = 1 / (levels - 1)
    value = value_of(level, levels=levels, dtype=means.dtype).unsqueeze(-1)
    below = (value - means - half) * (-log_scales).exp()  # standardised lower edge of the level
    above = (value - means + half) * (-log_scales).exp()
    # S(above) - S(below) = S(above) S(-below) (1 - exp(below - above)): nothing cancels.
    log_width = math.log(2 * half) - log_scales  # log(above - below)
    narrow = log_width.clamp(min=-15.0).exp()
    log_gap = torch.where(log_width < -15.0, log_width, (-torch.expm1(-narrow)).log())
    lowest, highest = level.unsqueeze(-1) == 0, level.unsqueeze(-1) == levels - 1
    one = (
        torch.where(highest, 0.0, F.logsigmoid(above))
        + torch.where(lowest, 0.0, F.logsigmoid(-below))
        + torch.where(lowest | highest, 0.0, log_gap)
    )
    return (log_shares + one).logsumexp(-1)


def expectation(*, log_shares: Tensor, means: Tensor, log_scales: Tensor) -> Tensor:
    """Mean of draws clipped to [-1, 1], ``[...]``, in closed form.

    For one logistic with mean m and scale s it is ``1 - s (softplus(b) - softplus(a))`` with
    ``a = (-1 - m) / s`` and ``b = (1 - m) / s``, the integral of its distribution function.
    """
    scale = log_scales.clamp(max=30.0).exp()  # flat for every purpose; its square stays finite
    wide = scale > 0.1
    # Two forms, each where it neither cancels nor overflows; arguments are made safe for both.
    wide_scale = torch.where(wide, scale, 1.0)
    wide_area = wide_scale * torch.log1p(
        torch.sigmoid((-1 - means) / wide_scale) * torch.expm1(2 / wide_scale)
    )
    narrow_scale = torch.where(wide, 1.0, scale)
    near = means.clamp(-3.0, 3.0)  # 20 scales outside, the value is at its bound anyway
    narrow_area = narrow_scale * (
        F.softplus((1 - near) / narrow_scale) - F.softplus((-1 - near) / narrow_scale)
    )
    return (log_shares.exp() * (1 - torch.where(wide, wide_area, narrow_area))).sum(-1)


def draw(
    *, log_shares: Tensor, means: Tensor, log_scales: Tensor, generator: torch.Generator
) -> Tensor:
    """A draw from the continuous mixture, clipped to [-1, 1]: ``[...]``."""
    component = categorical.draw(log_shares.exp(), generator=generator).unsqueeze(-1)
    mean = means.gather(-1, component).squeeze(-1)
    scale = log_scales.gather(-1, component).squeeze(-1).clamp(max=30.0).exp()
    drawn = uniform(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    drawn = drawn.clamp(torch.finfo(mean.dtype).eps, 1 - torch.finfo(mean.dtype).eps)
    return (mean + scale * drawn.logit()).clamp(-1.0, 1.0)
