"""Error curves of more trials than there is room for: exact, by counting instead of sorting.

Scores are grouped by their leading bits, and only the groups in which something is decided are
looked into, in another pass over the trials.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as dist

from lightning_sep.functional.processes import world_size
from lightning_sep.functional.verification import ErrorCurve

OTHERS, SAME, NO_TRIAL = 0, 1, 2

# Scores, and of which kind each is: one of the three numbers above, int64, in the same shape.
Trials = Callable[[], Iterable[tuple[Tensor, Tensor]]]

# The same, and the two speakers of each, numbers from 0 that may broadcast to the scores.
SpokenTrials = Callable[[], Iterable[tuple[Tensor, Tensor, Tensor, Tensor]]]

# Bits of a score that are still open, look after look. Few are taken at a time, for the counters
# of a look have to be cheap where there are few trials too.
_UNKNOWN = {torch.float32: (16, 8, 0), torch.float64: (48, 40, 32, 24, 16, 8, 0)}
_AT_ONCE = 512  # groups that are looked into in one pass


class _Groups(NamedTuple):
    """Trials by score, in rising order.

    Args:
        lowest: ``[group]``, key of the lowest score that a group may hold.
        unknown: ``[group]``, how many bits of a key a group leaves open.
        counts: ``[kind, group]``.
    """

    lowest: NDArray[np.int64]
    unknown: NDArray[np.int64]
    counts: NDArray[np.int64]


def counted_curve(
    trials: Trials, *, like: Tensor, prior: float, threshold: float = math.nan
) -> ErrorCurve | None:
    """As much of the error curve as its equal error, its least cost and one threshold take.

    Where nothing of that is decided, one point stands for many: what
    :func:`~lightning_sep.functional.verification.equal_error_of`, ``min_dcf_of`` with the same
    prior and ``error_rate_of`` at the same threshold give is what they give of the whole curve.

    Args:
        trials: goes through this process's share of all trials, the same in every pass.
        like: has the dtype of the scores, float32 or float64, and is on their device.
        prior: assumed share of same-class trials, both errors costing the same.
        threshold: chosen on other data.

    Returns:
        ``None`` when a score is NaN, or without trials of both kinds.
    """
    nearest = torch.tensor(threshold, dtype=like.dtype)
    limit = int(_keys(nearest)) - int(float(nearest) > threshold)
    groups = _first_look(trials, like)
    while groups is not None:
        thresholds = _scores(groups.lowest, like.dtype)
        others, same = groups.counts.cumsum(1)
        curve = ErrorCurve(
            thresholds=np.concatenate([[-np.inf], thresholds]),
            miss=np.concatenate([[0.0], same / same[-1]]),
            false_alarm=np.concatenate([[1.0], 1 - others / others[-1]]),
        )
        chosen = _undecided(groups, curve, prior, limit)
        if not len(chosen):
            return curve
        groups = _looked_into(groups, chosen, trials, like)
    return None


def rates_without(trials: SpokenTrials, *, like: Tensor, speakers: int) -> NDArray[np.float64]:
    """Equal error rate without the trials of each speaker in turn, ``[speaker]``.

    What a jackknife over speakers takes (Efron and Stein, Annals of Statistics 9(3), 1981): trials
    of one speaker go together, so they are left out together. In each pass eight more bits are
    found of each of the scores at which the two rates cross.

    Args:
        trials: goes through this process's share of all trials, the same in every pass.
        like: has the dtype of the scores, float32 or float64, and is on their device.
        speakers: how many there are.

    Returns:
        NaN where no trial of one of the two kinds is left, or a score is NaN.
    """
    if not speakers:
        return np.zeros(0)
    bits, parts = 8 * like.element_size(), 256
    cell = np.zeros(speakers, dtype=np.int64)  # the bits found so far
    below = np.zeros((2, speakers), dtype=np.int64)  # trials by kind, under the cell
    left = upto = below
    for unknown in range(bits, 0, -8):
        first = unknown == bits
        cells, which = np.unique(cell, return_inverse=True)
        own = torch.from_numpy(cell).to(like.device)
        known = torch.from_numpy(cells).to(like.device)
        in_cells = torch.zeros(2 * len(cells) * parts + 2, dtype=torch.int64, device=like.device)
        of_speakers = torch.zeros(2 * speakers * parts + 1, dtype=torch.int64, device=like.device)
        for scores, kinds, *members in trials():
            key, trial = _keys(scores), kinds != NO_TRIAL
            part = (key >> (unknown - 8)) & (parts - 1)
            leading = torch.zeros_like(key) if first else key >> unknown
            if first:  # the sign's bit is the other way round
                part = part ^ (parts // 2)
            place = torch.searchsorted(known, leading).clamp(max=len(cells) - 1)
            here = trial & (known[place] == leading)
            place = torch.where(here, (kinds * len(cells) + place) * parts + part, -2)
            place = torch.where(trial & scores.isnan(), -1, place)
            _count(in_cells, place % len(in_cells))
            one, two = (member.expand_as(key) for member in members)
            for member, counts in ((one, trial), (two, trial & (one != two))):
                here = counts & (own[member.clamp(max=speakers - 1)] == leading)
                place = torch.where(here, (kinds * speakers + member) * parts + part, -1)
                _count(of_speakers, place % len(of_speakers))
        table = _of_all(in_cells)
        if table[-1]:
            return np.full(speakers, np.nan)
        table = table[:-2].reshape(2, len(cells), parts)[:, which]
        table = table - _of_all(of_speakers)[:-1].reshape(2, speakers, parts)
        if first:
            left = table.sum(2)
        others, same = below[:, :, None] + table.cumsum(2)
        with np.errstate(invalid="ignore"):
            crossed = (1 - others / left[0][:, None] <= same / left[1][:, None]).argmax(1)
        places = np.arange(speakers)
        upto = np.stack([others[places, crossed], same[places, crossed]])
        below = upto - table[:, places, crossed]
        cell = crossed - parts // 2 if first else (cell << 8) | crossed
    with np.errstate(invalid="ignore"):
        (others, miss), (others_after, miss_after) = below / left, upto / left
        gap, gap_after = 1 - others - miss, 1 - others_after - miss_after
        rates = miss + gap / (gap - gap_after) * (miss_after - miss)
    return np.where(left.all(0), rates, np.nan)


def _undecided(groups: _Groups, curve: ErrorCurve, prior: float, limit: int) -> NDArray[np.intp]:
    """Numbers of the groups that have to be looked into next, rising; one holds the key ``limit``,
    if any does."""
    _, miss, false_alarm = curve
    # No point within a group costs less than the first miss rate with the last false alarm rate.
    least = (prior * miss + (1 - prior) * false_alarm).min()
    bound = prior * miss[:-1] + (1 - prior) * false_alarm[1:]
    wanted = bound < least
    # Around the crossing, both sides of it.
    after = int(np.argmax(false_alarm <= miss))
    wanted[max(after - 2, 0) : after] = True
    place = int(np.searchsorted(groups.lowest, limit, side="right")) - 1
    wanted[max(place, 0)] |= place >= 0
    wanted &= groups.unknown > 0
    if not wanted.any():
        return np.zeros(0, dtype=np.intp)
    chosen = np.flatnonzero(wanted & (groups.unknown == groups.unknown[wanted].max()))
    return np.sort(chosen[np.argsort(bound[chosen], kind="stable")[:_AT_ONCE]])


def _first_look(trials: Trials, like: Tensor) -> _Groups | None:
    unknown = _UNKNOWN[like.dtype][0]
    half = 1 << (8 * like.element_size() - unknown - 1)
    counts = torch.zeros(2 * 2 * half + 2, dtype=torch.int64, device=like.device)
    for scores, kinds in trials():
        place = kinds * (2 * half) + half + (_keys(scores) >> unknown)
        place = torch.where(kinds == NO_TRIAL, 4 * half, place)
        _count(counts, torch.where(scores.isnan() & (kinds != NO_TRIAL), 4 * half + 1, place))
    table = _of_all(counts)
    if table[-1]:
        return None
    table = table[:-2].reshape(2, -1)
    if not table.any(1).all():
        return None
    (held,) = np.nonzero(table.any(0))
    return _Groups((held - half) << unknown, np.full(len(held), unknown), table[:, held])


def _looked_into(
    groups: _Groups, chosen: NDArray[np.intp], trials: Trials, like: Tensor
) -> _Groups:
    """The same with the chosen groups, which leave as many bits open, taken apart."""
    unknown = int(groups.unknown[chosen[0]])
    fewer = next(bits for bits in _UNKNOWN[like.dtype] if bits < unknown)
    parts, number = 1 << (unknown - fewer), len(chosen)
    known = torch.from_numpy(groups.lowest[chosen] >> unknown).to(like.device)
    counts = torch.zeros(2 * number * parts + 1, dtype=torch.int64, device=like.device)
    for scores, kinds in trials():
        key = _keys(scores)
        leading = key >> unknown
        place = torch.searchsorted(known, leading).clamp(max=number - 1)
        one_of_them = (known[place] == leading) & (kinds != NO_TRIAL)
        within = (key >> fewer) & (parts - 1)
        _count(
            counts,
            torch.where(one_of_them, (kinds * number + place) * parts + within, len(counts) - 1),
        )
    table = _of_all(counts)[:-1].reshape(2, number, parts)
    held, parts_held = np.nonzero(table.any(0))
    left = np.delete(np.arange(len(groups.lowest)), chosen)
    lowest = np.append(groups.lowest[left], groups.lowest[chosen][held] + (parts_held << fewer))
    order = lowest.argsort()
    return _Groups(
        lowest[order],
        np.append(groups.unknown[left], np.full(len(held), fewer))[order],
        np.concatenate([groups.counts[:, left], table[:, held, parts_held]], axis=1)[:, order],
    )


def _count(counts: Tensor, places: Tensor) -> None:
    places = places.flatten()
    counts.scatter_add_(0, places, torch.ones_like(places))


def _of_all(counts: Tensor) -> NDArray[np.int64]:
    """Summed over all processes."""
    if world_size() > 1:
        dist.all_reduce(counts)
    return counts.cpu().numpy()


def _keys(scores: Tensor) -> Tensor:
    """int64 numbers in the order of the scores; equal ones for equal scores, zeros of both signs
    among them."""
    whole = torch.int32 if scores.dtype == torch.float32 else torch.int64
    bits = (scores + 0.0).view(whole)
    return torch.where(bits < 0, bits ^ torch.iinfo(whole).max, bits).long()


def _scores(keys: NDArray[np.int64], dtype: torch.dtype) -> NDArray[np.float64]:
    """What :func:`_keys` was made from; minus infinity below all numbers."""
    whole = torch.int32 if dtype == torch.float32 else torch.int64
    lowest = int(_keys(torch.tensor(-math.inf, dtype=dtype)))
    bits = torch.from_numpy(np.maximum(keys, lowest)).to(whole)
    bits = torch.where(bits < 0, bits ^ torch.iinfo(whole).max, bits)
    return bits.view(dtype).double().numpy()
