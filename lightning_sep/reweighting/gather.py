"""One softmax over the batches of all processes."""

import torch
from torch import Tensor
from torch import distributed as dist

from lightning_sep.functional.processes import world_size
from lightning_sep.reweighting.base import Reweighting


def global_weights(
    rule: Reweighting, losses: Tensor, groups: Tensor, mask: Tensor, step: int | Tensor
) -> Tensor:
    """Weights of this process's examples in the batch of all processes, times their number.

    The softmax runs over the examples of all processes together (each may hold another number of
    them). Gradients are averaged over processes afterwards, which divides by their number: hence
    the factor.

    Args:
        rule: what makes weights of losses.
        losses: this process's, ``[example]``.
        groups: ``[example, member]`` int64.
        mask: ``[example]`` bool.
        step: optimizer steps taken so far.

    Returns:
        ``[example]``; divided by their number, they sum to 1 over all processes.
    """
    processes = world_size()
    if processes == 1:
        return rule.weights(losses, groups, mask, step)
    losses, own = losses.detach(), len(losses)
    counts = [torch.zeros(1, dtype=torch.int64, device=losses.device) for _ in range(processes)]
    dist.all_gather(counts, torch.tensor([own], device=losses.device))
    sizes = [int(count) for count in counts]
    # One float64 table per process, padded to the longest: float32 losses, class numbers and the
    # mask all survive in it exactly.
    table = torch.cat([losses.unsqueeze(1).double(), mask.unsqueeze(1), groups], dim=1)
    padded = table.new_zeros(max(sizes), table.shape[1])
    padded[:own] = table
    tables = [torch.empty_like(padded) for _ in range(processes)]
    dist.all_gather(tables, padded)
    everyone = torch.cat([one[:size] for one, size in zip(tables, sizes, strict=True)])
    weights = rule.weights(
        everyone[:, 0].to(losses.dtype), everyone[:, 2:].long(), everyone[:, 1] > 0, step
    )
    start = sum(sizes[: dist.get_rank()])
    return weights[start : start + own] * processes
