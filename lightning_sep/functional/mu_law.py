"""Mu-law companding: few levels, fine near silence (ITU-T G.711; WaveNet, arXiv:1609.03499)."""

import math

import torch
from torch import Tensor


def encode(values: Tensor, *, levels: int = 256) -> Tensor:
    """Level of each value, int64 in 0 to ``levels - 1``; values outside of [-1, 1] are clipped.

    Args:
        values: ``[...]``.
        levels: how many; mu is one less.

    Example:
        >>> encode(torch.tensor([-1.0, 0.0, 0.5, 1.0]))
        tensor([  0, 128, 239, 255])
    """
    mu = levels - 1
    values = values.clamp(-1.0, 1.0)
    companded = values.sign() * (mu * values.abs()).log1p() / math.log1p(mu)
    return ((companded + 1) / 2 * mu + 0.5).floor().long()


def decode(level: Tensor, *, levels: int = 256, dtype: torch.dtype = torch.float32) -> Tensor:
    """Value of each level, in [-1, 1]. Silence does not survive: level 128 of 256 is 8.6e-5.

    Example:
        >>> decode(torch.tensor([0, 255]))
        tensor([-1.,  1.])
    """
    mu = levels - 1
    companded = 2 * level.to(dtype) / mu - 1
    return companded.sign() * torch.expm1(companded.abs() * math.log1p(mu)) / mu


def values_of_levels(levels: int, *, like: Tensor) -> Tensor:
    """The value of every level, ``[levels]``, on the device and in the dtype of ``like``."""
    return decode(torch.arange(levels, device=like.device), levels=levels, dtype=like.dtype)
