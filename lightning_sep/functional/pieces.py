"""Long signals piece by piece, in bounded memory."""

from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from lightning_sep.functional.permutation import best_permutation, reorder


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


def in_faded_pieces(
    run: Callable[[Tensor], Tensor], blocks: Iterable[Tensor], *, piece: int, overlap: int
) -> Iterator[Tensor]:
    """Sources of a long signal, for a ``run`` that looks at all of what it gets (a global norm).

    Pieces overlap: within the overlap one fades into the next, whose sources are put in the order
    that fits best there. The last piece is as long as what is left, up to about two pieces, and a
    signal that short goes through at once. In pieces the result is close to that of one pass, not
    equal to it.

    Args:
        run: ``[..., time]`` to ``[source, ..., time]``.
        blocks: the signal, in parts of any length, ``[..., time]``.
        piece: samples of a piece, more than ``overlap``.
        overlap: samples that two pieces share.

    Yields:
        Consecutive parts of the result, ``[source, ..., time]``, together as long as the signal.

    Raises:
        ValueError: ``overlap`` is not positive or not less than ``piece``.
    """
    if not 0 < overlap < piece:
        raise ValueError(f"0 < overlap < piece is needed, got {overlap} and {piece}")
    waiting: Tensor | None = None
    end: Tensor | None = None  # of the piece before, where the next one begins

    def joined(now: Tensor) -> Tensor:
        if end is None:
            return now
        start = now[..., :overlap]
        apart = (start.unsqueeze(1) - end.unsqueeze(0)).square().flatten(2).mean(-1)
        now = reorder(now.unsqueeze(0), best_permutation(apart.unsqueeze(0))[1])[0]
        share = torch.linspace(0, 1, overlap + 2, dtype=now.dtype, device=now.device)[1:-1]
        faded = end * (1 - share) + now[..., :overlap] * share
        return torch.cat([faded, now[..., overlap:]], dim=-1)

    for block in blocks:
        waiting = block if waiting is None else torch.cat([waiting, block], dim=-1)
        while waiting.shape[-1] > 2 * piece:
            now = joined(run(waiting[..., :piece]))
            yield now[..., :-overlap]
            end, waiting = now[..., -overlap:], waiting[..., piece - overlap :]
    if waiting is not None and waiting.shape[-1]:
        yield joined(run(waiting))
