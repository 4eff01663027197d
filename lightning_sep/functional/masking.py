"""Leaving examples out, without their NaN reaching anybody else."""

from collections.abc import Callable

import torch
from torch import Tensor


def finite(values: Tensor) -> Tensor:
    """Which values are neither NaN nor infinite: what ``values.isfinite()`` says, in half of its
    time."""
    return values.abs() < torch.inf


def weighted_sum(losses: Tensor, weights: Tensor, mask: Tensor) -> Tensor:
    """Sum of the weighted losses of the examples in ``mask``.

    A loss left out may be NaN or infinite: it is replaced, not multiplied by 0 (which is NaN). The
    zero gradient that it then receives can still turn into NaN inside the loss (0 times an infinite
    slope), so callers also zero the gradients of such examples at the raw outputs: see
    :func:`shield`.

    Args:
        losses: ``[example]``.
        weights: ``[example]``, constants.
        mask: ``[example]`` bool; ``False`` leaves an example out.

    Returns:
        A scalar; 0 when nothing is left.

    Example:
        >>> losses = torch.tensor([1.0, torch.nan, 3.0])
        >>> weights = torch.tensor([0.25, 0.0, 0.75])
        >>> weighted_sum(losses, weights, torch.tensor([True, False, True]))
        tensor(2.5000)
    """
    return (torch.where(mask, losses, 0.0) * torch.where(mask, weights, 0.0)).sum()


def shield(raw: Tensor, keep: Tensor | Callable[[], Tensor | None]) -> Tensor:
    """Zero the gradient of dropped examples at ``raw``, whatever NaN comes back to it.

    Args:
        raw: ``[batch, ...]``, the raw values of a net.
        keep: ``[batch]`` bool, or a function that returns it in the backward pass: which examples
            are dropped is known only once their losses are. ``None`` is all of them.

    Returns:
        ``raw`` itself.

    A net whose *activations* hold NaN for an example is beyond help here (0 times NaN inside a
    layer's weight gradient): inputs are checked where they are read.
    """

    def zero_dropped(gradient: Tensor) -> Tensor:
        kept = keep() if callable(keep) else keep
        if kept is None:
            return gradient
        return torch.where(kept.reshape(-1, *[1] * (gradient.ndim - 1)), gradient, 0.0)

    if raw.requires_grad:
        raw.register_hook(zero_dropped)  # type: ignore[no-untyped-call]
    return raw
