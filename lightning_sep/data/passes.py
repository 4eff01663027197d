"""Epochs that visit everything once: orders that are a pure function of (seed, epoch)."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_sep.data.draws import below, uniform

Index = NDArray[np.int64]


def shuffled(count: int, *, seed: int, epoch: int, purpose: str) -> Index:
    """The numbers below ``count`` in an order of the epoch's own; every order is equally likely.

    Args:
        count: how many, ``[count]``.
        seed: see :func:`~lightning_sep.data.draws.uniform`.
        epoch: see :func:`~lightning_sep.data.draws.uniform`.
        purpose: see :func:`~lightning_sep.data.draws.uniform`.
    """
    numbers = np.arange(count, dtype=np.int64)
    drawn = uniform(seed=seed, epoch=epoch, index=numbers, purpose=purpose)
    return np.argsort(drawn[:, 0], kind="stable")


class Pass:
    """The numbers below ``count``, shuffled for each epoch; the last order is kept at hand.

    Args:
        count: how many.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._kept: tuple[tuple[int, int], Index] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None}

    def order(self, *, seed: int, epoch: int) -> Index:
        """``[count]``, see :func:`shuffled`."""
        if self._kept is None or self._kept[0] != (seed, epoch):
            order = shuffled(self.count, seed=seed, epoch=epoch, purpose="order")
            self._kept = ((seed, epoch), order)
        return self._kept[1]


class Stretches:
    """Recordings cut into segments from a start that is drawn for the epoch; all of them come once,
    shuffled.

    Args:
        lengths: ``[recording]`` samples of each. One shorter than a segment is a segment.
        samples: of a segment.
    """

    def __init__(self, lengths: Index, samples: int) -> None:
        each = np.maximum(lengths // samples, 1)
        self.samples = samples
        self.starts = np.where(lengths < samples, 1, lengths % samples + 1)  # to draw from
        self.row = np.repeat(np.arange(len(each)), each)
        self.number = np.arange(len(self.row)) - np.repeat(np.cumsum(each) - each, each)
        self.order = Pass(len(self.row))
        self.count = self.order.count

    def places(self, *, seed: int, epoch: int, index: Index) -> tuple[Index, Index]:
        """Recordings and first samples of the segments, ``[index]``."""
        turn = self.order.order(seed=seed, epoch=epoch)[index]
        row = self.row[turn]
        numbers = uniform(seed=seed, epoch=epoch, index=row, purpose="phase")[:, 0]
        return row, below(numbers, self.starts[row]) + self.number[turn] * self.samples


@dataclass(frozen=True)
class Plan:
    """Which speaker's files stand where in the batches of one epoch.

    Args:
        speakers: ``[batch, place]`` number of the speaker, -1 where one is drawn. These come last.
        parts: ``[batch, place]`` which part of the speaker's files, -1 where files are drawn.
        turns: ``[file]`` the files of each speaker by their number, speaker by speaker, shuffled.
        firsts: ``[speaker]`` where a speaker's files begin.
        sizes: ``[speaker]`` how many there are.
        size: files of a part.
    """

    speakers: Index
    parts: Index
    turns: Index
    firsts: Index
    sizes: Index
    size: int

    def filled(self, batch: Index, drawn: Index) -> Index:
        """``[n, place]`` speakers of the batches, all different within one.

        Args:
            batch: ``[n]`` numbers of the batches.
            drawn: ``[n, place]`` different speakers to fill the rows with.
        """
        rows = self.speakers[batch]
        there = (drawn[:, :, None] == rows[:, None, :]).any(axis=2)
        spare = np.take_along_axis(drawn, np.argsort(there, axis=1, kind="stable"), axis=1)
        missing = rows < 0
        number = np.cumsum(missing, axis=1) - 1
        return np.where(missing, np.take_along_axis(spare, np.maximum(number, 0), axis=1), rows)

    def turn(self, batch: Index, place: Index, number: Index) -> Index:
        """``[n]`` which of its speaker's files comes ``number``-th at a place; -1: one is drawn."""
        speaker, part = self.speakers[batch, place], self.parts[batch, place]
        position = part * self.size + number
        planned = (part >= 0) & (position < self.sizes[speaker])
        return np.where(planned, self.turns[self.firsts[speaker] + position * planned], -1)


class Groups:
    """Plans in which every file of every speaker stands once, no speaker twice in a batch.

    A speaker's files are cut into parts, which are dealt to batch after batch; places that are left
    over are filled by drawing.

    Args:
        sizes: ``[speaker]`` files of each.
        places: speakers of a batch.
        size: files of a part.
    """

    def __init__(self, sizes: Index, places: int, size: int) -> None:
        self.sizes, self.places, self.size = sizes, places, size
        self.firsts = np.cumsum(sizes) - sizes
        self.parts = -(-sizes // size)
        self.batches = max(-(-int(self.parts.sum()) // places), int(self.parts.max()))
        self._kept: tuple[tuple[int, int], Plan] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_kept": None}

    def plan(self, *, seed: int, epoch: int) -> Plan:
        """The plan of an epoch; the last one is kept at hand."""
        if self._kept is None or self._kept[0] != (seed, epoch):
            self._kept = ((seed, epoch), self._made(seed, epoch))
        return self._kept[1]

    def _made(self, seed: int, epoch: int) -> Plan:
        order = shuffled(len(self.sizes), seed=seed, epoch=epoch, purpose="order of speakers")
        speaker = np.repeat(order, self.parts[order])
        part = np.arange(len(speaker)) - np.repeat(
            np.cumsum(self.parts[order]) - self.parts[order], self.parts[order]
        )
        # one part to each batch, round after round: the parts of one speaker meet in none
        row = shuffled(self.batches, seed=seed, epoch=epoch, purpose="order of batches")
        place, turn = np.divmod(np.arange(len(speaker)), self.batches)
        speakers = np.full((self.batches, self.places), -1)
        parts = np.full((self.batches, self.places), -1)
        speakers[row[turn], place], parts[row[turn], place] = speaker, part
        mixed = shuffled(int(self.sizes.sum()), seed=seed, epoch=epoch, purpose="order of files")
        owner = np.repeat(np.arange(len(self.sizes)), self.sizes)
        by_speaker = mixed[np.argsort(owner[mixed], kind="stable")]
        turns = by_speaker - self.firsts[owner[by_speaker]]
        return Plan(speakers, parts, turns, self.firsts, self.sizes, self.size)
