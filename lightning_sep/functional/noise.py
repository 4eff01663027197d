"""Draws for the rows of a batch, the same whether one process has them or several share them."""

import torch
from torch import Tensor
from torch import distributed as dist

from lightning_sep.functional.processes import own_rank, world_size


class SharedGenerator(torch.Generator):
    """A generator of a batch that is dealt out to several processes, seeded alike in all of them.

    :func:`uniform` and :func:`normal` draw for all rows and keep those of this process.

    Args:
        device: where the numbers are drawn.

    Attributes:
        index: numbers of this process's rows, -1 for those that count nowhere. Every process has
            to draw as often as the others.
    """

    index: Tensor
    _all: int | None = None

    def all_rows(self) -> int:
        """The rows of all processes; counted when first asked for."""
        if self._all is None:
            count = (self.index >= 0).sum()
            dist.all_reduce(count)
            self._all = int(count)
        return self._all


def uniform(
    shape: torch.Size,
    *,
    generator: torch.Generator,
    device: torch.device,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Numbers in [0, 1), ``[row, ...]``."""
    full = torch.rand(_drawn(shape, generator), generator=generator, device=device, dtype=dtype)
    return _own(full, shape, generator)


def normal(shape: torch.Size, *, generator: torch.Generator, device: torch.device) -> Tensor:
    """Numbers of mean 0 and variance 1, ``[row, ...]``."""
    full = torch.randn(_drawn(shape, generator), generator=generator, device=device)
    return _own(full, shape, generator)


def _drawn(shape: torch.Size, generator: torch.Generator) -> tuple[int, ...]:
    if not isinstance(generator, SharedGenerator):
        return tuple(shape)
    return (generator.all_rows(), *shape[1:])


def _own(full: Tensor, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if not isinstance(generator, SharedGenerator):
        return full
    own = full[own_rank() :: world_size()]
    # A process without a row of its own computes with one that counts nowhere.
    return own if len(own) == shape[0] else full[: shape[0]]
