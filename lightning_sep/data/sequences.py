"""Stretches of one recording cut into frames, for autoregression."""

import math
from copy import copy

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_sep.checks import one_of, refusal, whole_number
from lightning_sep.data.batch import Batch
from lightning_sep.data.corpus import Prepared, Table
from lightning_sep.data.draws import below, uniform
from lightning_sep.data.examples import (
    ORDERS,
    Draw,
    Examples,
    Index,
    is_active,
    one_channel,
    to_float,
)
from lightning_sep.data.facts import Facts, SequenceFacts
from lightning_sep.data.passes import Stretches
from lightning_sep.errors import ConfigError, DataError


class Sequences(Examples):
    """``frames`` frames of ``frame_samples`` samples in a row, scaled by one gain for all.

    In training every sequence starts at a fresh offset, all offsets of all recordings being
    equally likely. Validation and test walk through their recordings without overlap, always the
    same way; where that gives more than asked for, evenly spaced ones are kept.

    The gain is 1 over the peak of the *train* part, so validation and test may leave [-1, 1] a
    little: a statistic of theirs would leak (Beckham's write-up of 2016 used the whole recording).

    Args:
        frame_samples: samples of a frame; the task's own setting.
        frames: frames of a sequence.
        group: group of sounds to draw from; ``auto`` takes music where the set has any, else all.
        order: ``drawn``, or ``pass``: each recording is cut into sequences from a start that is
            drawn for the epoch, and all of them come once, shuffled.
        train: sequences of an epoch, drawn afresh in each; with ``pass`` the recordings count.
        val: sequences of the validation part, at most; ``None`` takes all.
        test: sequences of the test part, at most; ``None`` takes all.
        batch_size: sequences of a step.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(
        self,
        frame_samples: int = 64,
        frames: int = 50,
        group: str = "auto",
        order: str = "drawn",
        train: int = 256,
        val: int | None = 64,
        test: int | None = 128,
        batch_size: int = 16,
    ) -> None:
        self.frame_samples = whole_number("frame_samples", frame_samples)
        self.frames = whole_number("frames", frames, at_least=2)
        if not isinstance(group, str) or not group:
            raise refusal("group", group, "'auto' or the name of a group is needed")
        self.group = group
        self.order = one_of("order", order, ORDERS)
        self.train = whole_number("train", train)
        self.limits = {
            "val": None if val is None else whole_number("val", val),
            "test": None if test is None else whole_number("test", test),
        }
        self.batch_size = whole_number("batch_size", batch_size)
        self._gain: float | None = None  # of the set that a net was trained on

    def as_trained(self, facts: Facts) -> "Sequences":
        """See :meth:`Examples.as_trained`: the gain stays.

        Raises:
            ConfigError: the net was trained on another kind of examples.
        """
        if not isinstance(facts, SequenceFacts):
            raise ConfigError(f"sequences need the facts of sequences, got {type(facts).__name__}")
        same = copy(self)
        same._gain = facts.gain
        return same

    def lasting(self, prepared: Prepared, seconds: float) -> "Sequences":
        """See :meth:`Examples.lasting`."""
        longer = copy(self)
        samples = seconds * prepared.sample_rate
        longer.frames = max(self.frames, math.ceil(samples / self.frame_samples))
        return self if longer.frames == self.frames else longer

    def gain(self, prepared: Prepared) -> float:
        """What samples are multiplied by.

        Raises:
            DataError: the set has no train part, or it is silent.
        """
        if self._gain is not None:
            return self._gain
        peak = prepared.statistics_of(self.chosen_group(prepared))["peak"]
        if peak == 0:
            raise DataError(
                f"the train part of {prepared.name} is digital silence: nothing to learn"
            )
        return 1.0 / peak

    @property
    def samples(self) -> int:
        """Samples of a sequence."""
        return self.frame_samples * self.frames

    def draw(self, prepared: Prepared, split: str) -> Draw:
        """See :meth:`Examples.draw`."""
        one_channel(prepared, "sequences")
        return SequenceDraw(self, prepared, split)

    def facts(self, prepared: Prepared) -> SequenceFacts:
        """See :meth:`Examples.facts`."""
        one_channel(prepared, "sequences")
        group = self.chosen_group(prepared)
        return SequenceFacts(
            sample_rate=prepared.sample_rate,
            gain=self.gain(prepared),
            train_statistics=prepared.statistics_of(group),
            frame_samples=self.frame_samples,
            frames=self.frames,
            group=group or "all",
            class_names=tuple(prepared.class_names),
        )

    def chosen_group(self, prepared: Prepared) -> str:
        """Name of the group that is drawn from; ``""`` is all of them."""
        if self.group == "auto":
            return "music" if "music" in prepared.group_names else ""
        if self.group == "all":
            return ""
        if self.group not in prepared.group_names:
            raise ConfigError(
                f"examples.group = '{self.group}': {prepared.name} has "
                f"{', '.join(prepared.group_names)}; auto and all work with every set"
            )
        return self.group


class SequenceDraw(Draw):
    """Sequences of one split; see :class:`Sequences`."""

    def __init__(self, settings: Sequences, prepared: Prepared, split: str) -> None:
        self.samples = settings.samples
        self.gain = np.float32(settings.gain(prepared))
        self.reader = prepared.reader
        table = prepared.table(split)
        group = settings.chosen_group(prepared)
        if group:
            table = table.where(table.group == prepared.group_names.index(group))
        self.table = table.where(table.samples >= self.samples)
        if len(self.table) == 0:
            longest = int(table.samples.max()) if len(table) else 0
            raise DataError(
                f"no recording of the {split} part of {prepared.name} has the {self.samples} "
                f"samples of a sequence ({settings.frames} frames of {settings.frame_samples}); "
                f"the longest has {longest}. Lower examples.frames to "
                f"{max(longest // settings.frame_samples, 2)} or less, or task.frame_samples"
            )
        self.order: Stretches | None = None
        self.fixed: tuple[Index, Index] | None = None  # item and offset of each sequence
        if split == "train":
            self.count = settings.train
            # every start within every recording counts once
            self.ends = np.cumsum(self.table.samples - self.samples + 1)
            self.edges, self.stretches = _sets(self.table, self.ends, prepared.priors)
            if settings.order == "pass":
                self.order = Stretches(self.table.samples, self.samples)
                self.count = self.order.count
        else:
            self.fixed = _in_a_row(self.table, self.samples, settings.limits[split])
            self.count = len(self.fixed[0])

    def batch(self, *, seed: int, epoch: int, index: Index) -> Batch:
        """See :meth:`Draw.batch`."""
        item, offset = self.places(seed=seed, epoch=epoch, index=index)
        samples = self.table.read(self.reader, item, offset, self.samples)
        return Batch(
            waveform=torch.from_numpy(to_float(samples) * self.gain),
            labels=torch.from_numpy(self.table.label[item]),
            active=torch.from_numpy(is_active(samples)),
            index=torch.from_numpy(index.copy()),
        )

    def places(self, *, seed: int, epoch: int, index: Index) -> tuple[Index, Index]:
        """See :meth:`Draw.places`; ``[index]``."""
        if self.fixed is not None:
            return self.fixed[0][index], self.fixed[1][index]
        if self.order is not None:
            return self.order.places(seed=seed, epoch=epoch, index=index)
        numbers = uniform(seed=seed, epoch=epoch, index=index, purpose="start")[:, 0]
        one = np.searchsorted(self.edges[1:-1], numbers, side="right")  # the set
        share = (numbers - self.edges[one]) / (self.edges[one + 1] - self.edges[one])
        first, last = self.stretches[one], self.stretches[one + 1]
        place = first + below(share, last - first)
        item = np.searchsorted(self.ends, place, side="right")
        return item, place - np.where(item > 0, self.ends[item - 1], 0)


def _sets(table: Table, ends: Index, priors: list[float]) -> tuple[NDArray[np.float64], Index]:
    """Where the sets that have any recording lie, ``[set + 1]`` each: in [0, 1] by their priors,
    and among all starts."""
    present, first = np.unique(table.corpus, return_index=True)
    shares = np.array([priors[one] for one in present])
    edges = np.concatenate([[0.0], np.cumsum(shares / shares.sum())[:-1], [1.0]])
    before = np.concatenate([[0], ends])
    return edges, np.append(before[first], ends[-1])


def _in_a_row(table: Table, count: int, limit: int | None) -> tuple[Index, Index]:
    """Items and offsets of all segments of ``count`` samples without overlap, thinned evenly."""
    each = table.samples // count
    item = np.repeat(np.arange(len(table)), each)
    number = np.arange(len(item)) - np.repeat(np.cumsum(each) - each, each)
    if limit is not None and len(item) > limit:
        kept = np.arange(limit) * len(item) // limit
        item, number = item[kept], number[kept]
    return item, number * count
