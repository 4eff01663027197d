"""Long signals piece by piece, in bounded memory."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor


def in_pieces(
    run: Callable[[Tensor], Tensor], blocks: Iterable[Tensor], *, piece: int, reach: int
) -> Iterator[Tensor]:
    """What ``run`` gives for a whole signal, of which it sees a piece and its surroundings at once.

    Equal to one pass where ``run`` gives as many samples as it gets, each from samples at most
    ``reach`` away, and where it treats samples alike whose numbers differ by ``piece`` or by
    ``reach``: a net that keeps every 2^n-th sample needs multiples of 2^n for both.

    Args:
        run: ``[..., time]`` to ``[..., time]``; at its input's ends it does what it would do at
            the ends of the signal.
        blocks: the signal, in parts of any length, ``[..., time]``.
        piece: samples that each pass adds to the result, at least ``reach``.
        reach: samples on either side that an output sample depends on.

    Yields:
        Consecutive parts of the result, ``[..., time]``, together as long as the signal.

    Raises:
        ValueError: ``piece`` is not positive or less than ``reach``.

    Example:
        >>> smooth = lambda x: (torch.nn.functional.pad(x, (1, 1)).unfold(-1, 3, 1)).sum(-1)
        >>> blocks = [torch.ones(3), torch.ones(4)]
        >>> torch.cat(list(in_pieces(smooth, blocks, piece=2, reach=1)))
        tensor([2., 3., 3., 3., 3., 3., 2.])
    """
    if piece < max(reach, 1):
        raise ValueError(f"a piece needs at least {max(reach, 1)} samples, got {piece}")
    waiting: Tensor | None = None
    before = 0  # samples at the start of `waiting` that are only surroundings
    for block in blocks:
        waiting = block if waiting is None else torch.cat([waiting, block], dim=-1)
        while waiting.shape[-1] > before + piece + reach:
            end = before + piece
            yield run(waiting[..., : end + reach])[..., before:end]
            waiting, before = waiting[..., end - reach :], reach
    if waiting is not None and waiting.shape[-1] > before:
        yield run(waiting)[..., before:]
