"""Draws from rows of probabilities."""

import torch
from torch import Tensor

from lightning_sep.functional.noise import uniform


def draw(shares: Tensor, *, generator: torch.Generator) -> Tensor:
    """One number per row, int64, with the row's probabilities.

    By the inverse of the distribution function: one uniform number a row, and several times faster
    than ``torch.multinomial`` on rows of tens of entries.

    Args:
        shares: ``[..., choice]``, not negative; rows need not sum to 1.
        generator: where the uniform numbers come from.

    Returns:
        ``[...]``.

    Example:
        >>> draw(torch.tensor([[0.0, 1.0], [2.0, 0.0]]), generator=torch.Generator())
        tensor([1, 0])
    """
    below = shares.cumsum(-1)
    drawn = uniform(
        shares.shape[:-1], generator=generator, device=shares.device, dtype=shares.dtype
    )
    # A choice without a share ends where the one before it does, and is never the first above.
    passed = below <= (drawn * below[..., -1]).unsqueeze(-1)
    return passed.sum(-1).clamp(max=shares.shape[-1] - 1)
