"""Which estimate belongs to which target, exactly."""

import math
from functools import cache
from itertools import permutations

import numpy as np
import torch
from torch import Tensor

from lightning_sep.functional.precision import measured

_TRIED_ALL = 5  # sources up to which all permutations are tried on the device: 120 of them


def best_permutation(pairwise: Tensor) -> tuple[Tensor, Tensor]:
    """The permutation with the least sum of losses, for each example of a batch.

    Up to five sources all permutations are tried, beyond that the Hungarian algorithm is used, on
    the host, for which a step then waits; both are exact, as the losses add over pairs (Yu et al.,
    arXiv:1607.00325).

    Args:
        pairwise: loss of each estimate for each target, ``[batch, estimate, target]``. Values that
            are not finite count as very bad in the choice and are handed on as they are. A target
            whose entries are all alike (masked out) has no say.

    Returns:
        The losses of the chosen pairs, ``[batch, target]`` with gradient, and the number of the
        estimate for each target, ``[batch, target]`` int64.

    Raises:
        ValueError: not as many estimates as targets.

    Example:
        >>> losses, order = best_permutation(torch.tensor([[[5.0, 1.0], [2.0, 9.0]]]))
        >>> losses, order
        (tensor([[2., 1.]]), tensor([[1, 0]]))
    """
    if pairwise.ndim != 3 or pairwise.shape[1] != pairwise.shape[2]:
        raise ValueError(
            f"pairwise losses need the shape [batch, source, source], got {list(pairwise.shape)}"
        )
    sources = pairwise.shape[-1]
    cost = pairwise.detach().nan_to_num(nan=1e30, posinf=1e30, neginf=-1e30)
    if sources <= _TRIED_ALL:
        orders, targets = _all_orders(sources, pairwise.device)
        summed = cost if sources <= 3 else measured(cost)
        order = orders[summed[:, orders, targets].sum(-1).argmin(-1)]
    else:
        from scipy.optimize import linear_sum_assignment  # slow to load, and few need it

        rows = [linear_sum_assignment(one.T)[1] for one in cost.double().cpu().numpy()]
        order = torch.tensor(np.array(rows), device=pairwise.device, dtype=torch.int64)
        order = order.reshape(len(pairwise), sources)
    return pairwise.gather(1, order.unsqueeze(1)).squeeze(1), order


@cache
def _all_orders(sources: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """All permutations, and the targets beside them: brought to the device once."""
    with torch.inference_mode(False):  # or training could not use what validation made
        orders = torch.tensor(list(permutations(range(sources))), device=device)
        return orders, torch.arange(sources, device=device).expand_as(orders)


def reorder(signals: Tensor, permutation: Tensor) -> Tensor:
    """Estimates in the order of their targets.

    Args:
        signals: ``[batch, source, ...]``.
        permutation: ``[batch, source]``, from :func:`best_permutation`.

    Returns:
        Same shape as ``signals``.
    """
    extra = math.prod(signals.shape[2:])
    flat = signals.reshape(*signals.shape[:2], extra)
    return flat.gather(1, permutation.unsqueeze(-1).expand_as(flat)).reshape(signals.shape)
