"""Processes that train together: who they are, what the first one says, the rows of all."""

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")

_PLAIN: tuple[Any, ...] = (None, False, True)  # what needs no more than a number to be told


def world_size() -> int:
    """Number of processes that train together; 1 without a process group."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def own_rank() -> int:
    """The number of this process among them."""
    return dist.get_rank() if world_size() > 1 else 0


def of_first(call: Callable[[], T]) -> T:
    """What ``call`` returns or raises in the first process, in all of them.

    Only the first one calls it: it alone writes files, holds leases and asks others, and what it
    decides all do at the same step. Alone, this is ``call()``.

    Raises:
        Exception: what ``call`` raised in the first process; in the others it is marked, see
            :func:`is_of_first`.
    """
    if world_size() == 1:
        return call()
    if dist.get_rank() == 0:
        try:
            value = call()
        except Exception as error:
            _tell((None, error))
            raise
        _tell(value if any(value is one for one in _PLAIN) else (value, None))
        return value
    number = torch.zeros(1, dtype=torch.int64)
    dist.broadcast(number, 0)
    size = int(number)
    if size < 0:
        plain: T = _PLAIN[-size - 1]
        return plain
    content = torch.zeros(size, dtype=torch.uint8)
    dist.broadcast(content, 0)
    told, raised = pickle.loads(content.numpy().tobytes())
    if raised is not None:
        raised.of_first = True
        raise raised
    found: T = told
    return found


def is_of_first(error: BaseException) -> bool:
    """Whether an error was raised by the first process and told to this one."""
    return getattr(error, "of_first", False)


def _tell(value: Any) -> None:
    """Send one of the plain values, or a pair of value and error, to all others."""
    if not isinstance(value, tuple):
        dist.broadcast(torch.tensor([-1 - _PLAIN.index(value)]), 0)
        return
    try:
        content = pickle.dumps(value)
        pickle.loads(content)  # some errors are written and cannot be read
    except Exception:
        told, error = value
        if error is None:
            raise
        content = pickle.dumps((told, RuntimeError(f"{type(error).__name__}: {error}")))
    dist.broadcast(torch.tensor([len(content)]), 0)
    dist.broadcast(torch.frombuffer(bytearray(content), dtype=torch.uint8), 0)


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
