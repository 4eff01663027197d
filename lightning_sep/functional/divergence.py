"""How far rows are from each other: Kullback-Leibler divergences, distances, the pair hinge."""

from collections.abc import Callable

import torch
from torch import Tensor


def kl(*, log_p: Tensor, log_q: Tensor) -> Tensor:
    """Kullback-Leibler divergence KL(P||Q) of rows given by their logarithms, ``[...]`` in nats.

    From logarithms, since adding an epsilon to probabilities or clipping them bends the value and
    kills gradients. Rows that do not sum to 1 are taken as they are, and may give less than 0.

    Args:
        log_p: ``[..., embed]``, finite.
        log_q: same shape.

    Example:
        >>> p = torch.tensor([0.7, 0.2, 0.1])
        >>> kl(log_p=p.log(), log_q=p.flip(0).log())
        tensor(1.1675)
    """
    return (log_p.exp() * (log_p - log_q)).sum(-1)


ALL = slice(None)

# Divergences of the rows of one slice from those of another, [row, column].
Parts = Callable[[slice, slice], Tensor]


def pairwise_kl(log_p: Tensor) -> Tensor:
    """KL of every ordered pair of rows: entry (i, j) is KL(row i || row j), ``[batch, batch]``.

    Args:
        log_p: ``[batch, embed]``, finite logarithms.
    """
    return kl_parts(log_p)(ALL, ALL)


def kl_parts(log_p: Tensor) -> Parts:
    """:func:`pairwise_kl` a part at a time, for more rows than have room for all pairs."""
    # One matrix product; a common shift of a column changes nothing but the rounding.
    shifted = log_p - log_p.detach().mean(-2, keepdim=True)
    p = log_p.exp()
    own = (p * shifted).sum(-1, keepdim=True)
    return lambda rows, columns: _cut(own, rows) - _cut(p, rows) @ _cut(shifted, columns).mT


def pairwise_squared_distance(rows: Tensor) -> Tensor:
    """Squared Euclidean distance of every pair of rows, ``[batch, batch]``."""
    return squared_distance_parts(rows)(ALL, ALL)


def squared_distance_parts(rows: Tensor) -> Parts:
    """:func:`pairwise_squared_distance` a part at a time."""
    shifted = rows - rows.detach().mean(-2, keepdim=True)
    energy = shifted.square().sum(-1, keepdim=True)

    def part(some: slice, others: slice) -> Tensor:
        ends = _cut(energy, some) + _cut(energy, others).mT
        return (ends - 2 * _cut(shifted, some) @ _cut(shifted, others).mT).clamp(min=0.0)

    return part


def _cut(rows: Tensor, part: slice) -> Tensor:
    return rows if part is ALL else rows[..., part, :]


def hinge_cost(*, divergence: Tensor, same: Tensor, margin: float | Tensor) -> Tensor:
    """What a divergence costs, in its own unit: itself for the same class, else what is missing to
    the margin (Hsu and Kira, arXiv:1511.06321).

    Args:
        divergence: ``[...]``.
        same: ``[...]`` bool, whether the pair is of one class.
        margin: beyond it, different classes are far enough apart.
    """
    return torch.where(same, divergence, (margin - divergence).clamp(min=0.0))
