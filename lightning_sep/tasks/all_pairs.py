"""Every two snippets of a part compared with each other, in bounded memory."""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as dist

from lightning_sep.functional.precision import at_least_float32, measured
from lightning_sep.functional.processes import own_rank, world_size
from lightning_sep.functional.trial_counts import (
    NO_TRIAL,
    OTHERS,
    SAME,
    counted_curve,
    rates_without,
)
from lightning_sep.functional.verification import ErrorCurve
from lightning_sep.heads.base import EmbeddingHead
from lightning_sep.losses.base import EmbeddingLoss

_SIDE = 512  # snippets that are compared with as many others at once


class Tile(NamedTuple):
    """Some pairs, ``[row, column]`` each.

    Args:
        rows: numbers of the snippets that are compared.
        columns: with these.
        forth: how far the second is from the first.
        back: how far the first is from the second.
        kinds: int64; what kind of trial a pair is, ``NO_TRIAL`` for those that are none.
    """

    rows: slice
    columns: slice
    forth: Tensor
    back: Tensor
    kinds: Tensor

    @property
    def scores(self) -> Tensor:
        """``[row, column]``, higher means more alike."""
        return -(self.forth + self.back) / 2


class OfSpeakers(NamedTuple):
    """Trials by pair of speakers, in the order of their numbers, without those that have none.

    Args:
        speakers: ``[pair, 2]`` int64.
        trials: ``[pair]``, how many.
        score: ``[pair]``, their mean score.
        wrong: ``[pair]``, the share of them that a threshold gets wrong.
    """

    speakers: Tensor
    trials: Tensor
    score: Tensor
    wrong: Tensor


class AllPairs:
    """All unordered pairs of snippets, a tile at a time: nothing is kept of a single one.

    What is asked for goes through all of them, shared out among the processes that evaluate
    together; those have to ask for the same.

    Args:
        head: says how far apart two snippets are.
        loss: says what that costs.
        raw: raw values ``[snippet, embed]`` of all processes.
        labels: ``[snippet]``, who speaks.
        sessions: ``[snippet]``; two snippets of one speaker from one session are no trial.
    """

    def __init__(
        self,
        *,
        head: EmbeddingHead,
        loss: EmbeddingLoss,
        raw: Tensor,
        labels: Tensor,
        sessions: Tensor,
    ) -> None:
        self.raw = at_least_float32(raw)
        self.labels = labels
        self.sessions = sessions
        self._loss = loss
        self._divergence = head.divergence_parts(self.raw)

    def tiles(self) -> Iterator[Tile]:
        """This process's."""
        count = len(self.raw)
        number = max(math.ceil(count / _SIDE), 1)
        edges = [count * one // number for one in range(number + 1)]
        parts = [slice(*ends) for ends in pairwise(edges)]
        both = [(one, two) for n, one in enumerate(parts) for two in parts[n:]]
        for rows, columns in both[own_rank() :: world_size()]:
            same = self.labels[rows].unsqueeze(1) == self.labels[columns]
            elsewhere = self.sessions[rows].unsqueeze(1) != self.sessions[columns]
            kinds = torch.where(~same | elsewhere, same.long(), NO_TRIAL)
            if rows == columns:
                kinds = torch.where(torch.ones_like(same).triu(1), kinds, NO_TRIAL)
            forth = self._divergence(rows, columns)
            back = forth.mT if rows == columns else self._divergence(columns, rows).mT
            yield Tile(rows, columns, forth, back, kinds)

    def costs(self) -> tuple[list[float], list[int]]:
        """Mean loss of the trials of other and of same speakers, and how many there are."""
        sums = measured(self.raw.new_zeros(2))
        counts = torch.zeros(2, dtype=torch.int64, device=self.raw.device)
        for tile in self.tiles():
            kinds = tile.kinds.flatten()
            losses = self._loss.of_pairs(
                forth=tile.forth.flatten(), back=tile.back.flatten(), same=kinds == SAME
            )
            of_kind = [kinds == kind for kind in (OTHERS, SAME)]
            sums += torch.stack([measured(losses.where(one, 0.0)).sum() for one in of_kind])
            counts += torch.stack([one.sum() for one in of_kind])
        if world_size() > 1:
            dist.all_reduce(sums)
            dist.all_reduce(counts)
        numbers = counts.tolist()
        pairs = zip(sums.tolist(), numbers, strict=True)
        return [total / count if count else math.nan for total, count in pairs], numbers

    def curve(self, *, prior: float, threshold: float) -> ErrorCurve | None:
        """See :func:`counted_curve`."""
        return counted_curve(
            lambda: ((tile.scores, tile.kinds) for tile in self.tiles()),
            like=self.raw,
            prior=prior,
            threshold=threshold,
        )

    def of_speakers(self, threshold: float) -> OfSpeakers:
        """What the trials of each pair of speakers come to, with that threshold."""
        known, numbers = torch.unique(self.labels, return_inverse=True)
        room = len(known) ** 2
        counts = torch.zeros(room + 1, dtype=torch.int64, device=self.raw.device)
        scored, wrong = (measured(self.raw.new_zeros(room + 1)) for _ in range(2))
        for tile in self.tiles():
            one, two = numbers[tile.rows].unsqueeze(1), numbers[tile.columns]
            pair = torch.minimum(one, two) * len(known) + torch.maximum(one, two)
            place = torch.where(tile.kinds == NO_TRIAL, room, pair).flatten()
            counts.scatter_add_(0, place, torch.ones_like(place))
            scores = measured(tile.scores).flatten()
            scored.scatter_add_(0, place, scores)
            mistaken = (scores > threshold) != (tile.kinds.flatten() == SAME)
            wrong.scatter_add_(0, place, mistaken.to(wrong.dtype))
        if world_size() > 1:
            for sums in (counts, scored, wrong):
                dist.all_reduce(sums)
        held = counts[:-1].nonzero().squeeze(1)
        speakers = torch.stack([known[held // len(known)], known[held % len(known)]], dim=1)
        trials = counts[held]
        return OfSpeakers(speakers, trials, scored[held] / trials, wrong[held] / trials)

    def rates_without(self, heard: Tensor) -> NDArray[np.float64]:
        """Equal error rate without the trials of each of some speakers in turn; see
        :func:`~lightning_sep.functional.trial_counts.rates_without`.

        Args:
            heard: ``[speaker]``, the labels of all that have trials, rising.
        """
        numbers = torch.searchsorted(heard, self.labels)

        def trials() -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
            for tile in self.tiles():
                one, two = numbers[tile.rows].unsqueeze(1), numbers[tile.columns]
                yield tile.scores, tile.kinds, one, two

        return rates_without(trials, like=self.raw, speakers=len(heard))
