"""Draws for the rows of a batch, the same whether one process has them all at once, or piece by
piece, or several share them."""

import torch
from torch import Tensor
from torch import distributed as dist

from lightning_sep.functional.processes import own_rank, world_size


class SharedGenerator(torch.Generator):
    """A generator of a batch that is dealt out to several processes, or goes through the net in
    pieces, seeded alike for all of them.

    :func:`uniform` and :func:`normal` draw for all rows and keep those of this process.

    Args:
        device: where the numbers are drawn.

    Attributes:
        index: numbers of this process's rows, -1 for those that count nowhere. Every process has
            to draw as often as the others.
        piece: those of this process's rows that numbers are drawn for.
    """

    index: Tensor
    piece: slice = slice(None)
    _all: int | None = None

    def all_rows(self) -> int:
        """The rows of all processes; counted when first asked for."""
        if self._all is None:
            count = (self.index >= 0).sum()
            if world_size() > 1:
                dist.all_reduce(count)
            self._all = int(count)
        return self._all

    def of_piece(self, piece: slice) -> "SharedGenerator":
        """One in the same state, for some of the rows."""
        made = SharedGenerator(device=self.device)
        made.set_state(self.get_state())
        made.index, made.piece, made._all = self.index, piece, self.all_rows()
        return made


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
    own = full[own_rank() :: world_size()][generator.piece]
    # A process without a row of its own computes with one that counts nowhere.
    return own if len(own) == shape[0] else full[: shape[0]]
