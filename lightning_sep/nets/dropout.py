"""Dropout whose noise comes from a generator that the caller owns."""

import torch
from torch import Tensor

from lightning_sep.functional.noise import uniform


def dropout(x: Tensor, *, share: float, generator: torch.Generator | None) -> Tensor:
    """Zeroes a random ``share`` of ``x`` and scales the rest up so that the mean stays.

    ``nn.Dropout`` draws from the global generator, so that a resumed run, or several runs trained
    in one pass, would see other noise. Here the same generator state gives the same mask
    (Srivastava et al., "Dropout: a simple way to prevent neural networks from overfitting", 2014).

    Args:
        x: any shape.
        share: part of the values that is zeroed, in ``[0, 1)``.
        generator: lives on the device of ``x``; ``None`` switches dropout off.

    Returns:
        Same shape and dtype as ``x``.

    Example:
        >>> dropout(torch.ones(4), share=0.5, generator=None)
        tensor([1., 1., 1., 1.])
    """
    if generator is None or share == 0:
        return x
    # drawn in float32 whatever the dtype of x, so that the mask does not depend on the precision
    noise = uniform(x.shape, generator=generator, device=x.device, dtype=torch.float32)
    return x * (noise >= share).to(x.dtype) / (1.0 - share)
