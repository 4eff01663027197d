"""Rows of a batch from all processes that train together."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def world_size() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def own_rank() -> int:
    """The number of this process among them."""
    return dist.get_rank() if world_size() > 1 else 0


def gathered(rows: Tensor) -> tuple[Tensor, int]:
    """The rows of all processes, one process after the other, and the place of the own ones.

    Every process gets the same rows, whose numbers may differ from process to process. Gradients
    find their way back: a process's rows receive the sum over the processes of the gradients that
    each has for them. Where all compute one and the same loss from the rows, the mean over
    processes that follows (DDP) so gives that loss's gradient.

    Args:
        rows: ``[row, ...]``; all but the first dimension are the same everywhere.
    """
    if world_size() == 1:
        return rows, 0
    counts = [torch.zeros(1, dtype=torch.int64, device=rows.device) for _ in range(world_size())]
    dist.all_gather(counts, torch.tensor([len(rows)], device=rows.device))
    sizes = [int(count) for count in counts]
    made: Tensor = _Gathered.apply(rows, sizes)  # type: ignore[no-untyped-call]
    return made, sum(sizes[: dist.get_rank()])


class _Gathered(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        # Padded to the longest, since all have to send as much.
        padded = rows.new_zeros(max(sizes), *rows.shape[1:])
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in sizes]
        dist.all_gather(parts, padded)
        return torch.cat([one[:size] for one, size in zip(parts, sizes, strict=True)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        start = sum(ctx.sizes[: dist.get_rank()])
        return gradient[start : start + ctx.sizes[dist.get_rank()]], None
