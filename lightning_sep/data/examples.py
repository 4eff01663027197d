"""How examples are drawn from a prepared set, in an order that a resumed run repeats exactly.

Example ``index`` of epoch ``epoch`` is a pure function of (seed, epoch, index). Nothing random is
saved in a checkpoint, because nothing random is kept: a loader starts at any batch by arithmetic.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_sep.data.audio_files import FULL_SCALE, SILENCE_RMS, Int16
from lightning_sep.data.batch import Batch
from lightning_sep.data.corpus import Prepared, Table
from lightning_sep.data.facts import Facts
from lightning_sep.data.splits import SPLITS
from lightning_sep.errors import ConfigError

Index: TypeAlias = NDArray[np.int64]
Key: TypeAlias = tuple[int, Index]  # epoch, and the numbers of the examples of one batch

ORDERS = ("drawn", "pass")

# Draws of validation and test are fixed, so that all runs are measured on one set of examples.
# The seeds are those of the published experiments on gradient reweighting (arXiv:2010.13228).
FIXED_SEEDS = {"val": 9, "test": 8}


class Draw(ABC):
    """The examples of one split; small enough to be sent to worker processes."""

    count: int
    """Examples of one epoch."""

    table: Table
    """What is drawn from."""

    samples: int
    """Of one segment."""

    repeats: ClassVar[bool] = False
    """Whether a piece shorter than a segment fills it by being repeated."""

    alone: bool = False
    """Whether examples are of different lengths, so that each is a batch by itself."""

    def described(self, index: Index) -> dict[str, list[Any]]:
        """What is known of the examples ``index`` of a fixed split, a list with an entry for each,
        as JSON types."""
        return {}

    @abstractmethod
    def places(self, *, seed: int, epoch: int, index: Index) -> tuple[Index, Index]:
        """Rows of the table and first samples within their pieces, ``[index(, source)]``.

        Samples before the piece (a negative first one) and after it are no part of it.
        """

    @abstractmethod
    def batch(self, *, seed: int, epoch: int, index: Index) -> Batch:
        """The examples ``index`` of ``epoch``, all built in one go."""


class Heard:
    """How much of what a draw draws from was in the examples of the epochs that were added.

    Args:
        draw: of the split.
        seed: of its draws.
    """

    def __init__(self, draw: Draw, seed: int) -> None:
        self._draw, self._seed = draw, seed
        # of all pieces one after the other
        self._ends = np.cumsum(draw.table.samples)
        self._low = self._high = np.zeros(0, dtype=np.int64)

    def add(self, epoch: int, count: int | None = None) -> None:
        """Add the first ``count`` examples of an epoch, or all."""
        draw = self._draw
        if not len(draw.table):
            return
        index = np.arange(draw.count if count is None else count, dtype=np.int64)
        rows, offset = (
            value.reshape(-1) for value in draw.places(seed=self._seed, epoch=epoch, index=index)
        )
        size = draw.table.samples[rows]
        first = self._ends[rows] - size
        if draw.repeats:
            offset = np.where(size < draw.samples, 0, offset)
        low = np.concatenate([self._low, first + np.clip(offset, 0, size)])
        high = np.concatenate([self._high, first + np.clip(offset + draw.samples, 0, size)])
        order = np.argsort(low, kind="stable")
        low, reach = low[order], np.maximum.accumulate(high[order])
        starts = np.append(True, low[1:] > reach[:-1])  # where a stretch meets none before it
        self._low, self._high = low[starts], reach[np.append(np.flatnonzero(starts)[1:] - 1, -1)]

    def share(self) -> dict[str, float]:
        """Shares between 0 and 1: of the ``files`` that are heard at all, of the ``seconds``."""
        table = self._draw.table
        if not len(table):
            return {"files": 0.0, "seconds": 0.0}
        whole = self._high > self._low
        first = np.searchsorted(self._ends, self._low[whole], side="right")
        last = np.searchsorted(self._ends, self._high[whole] - 1, side="right")
        marks = np.zeros(len(table) + 1, dtype=np.int64)
        np.add.at(marks, first, 1)
        np.add.at(marks, last + 1, -1)
        files = np.unique(table.recording[np.cumsum(marks)[:-1] > 0])
        seconds = int((self._high - self._low).sum()) / int(table.samples.sum())
        return {"files": len(files) / len(np.unique(table.recording)), "seconds": seconds}


class Examples(ABC):
    """A way to draw examples for one kind of task.

    Subclasses say what an example is (:meth:`draw`, :meth:`facts`); order, sharing among
    processes and resuming are the same for all and live here.
    """

    batch_size: int
    """Examples of one step, over all processes together."""

    @abstractmethod
    def draw(self, prepared: Prepared, split: str) -> Draw:
        """What the examples of ``split`` are made from.

        Raises:
            DataError: the set does not hold what is needed.
            ConfigError: a setting does not fit the set.
        """

    @abstractmethod
    def facts(self, prepared: Prepared) -> Facts:
        """What a task has to know of the set."""

    def remarks(self, prepared: Prepared) -> list[str]:
        """What numbers that are measured on this set cannot say, a line each."""
        return []

    def as_trained(self, facts: Facts) -> "Examples":
        """These examples for a net that was trained with ``facts`` on another set: what was
        measured on its training part is not measured anew."""
        return self

    def lasting(self, prepared: Prepared, seconds: float) -> "Examples":
        """These examples, each at least so long, for ears that need more than a score; themselves
        where they are, or where a net takes no other length."""
        return self

    def coverage(
        self,
        prepared: Prepared,
        *,
        seed: int,
        epochs: int,
        times: int = 1,
        limit: int | None = None,
    ) -> dict[str, dict[str, float]]:
        """Which shares of the files and seconds of each split the examples hold.

        Args:
            prepared: the set.
            seed: of the run.
            epochs: that were trained.
            times: as for :meth:`loader`.
            limit: as for :meth:`loader`.

        Returns:
            ``files`` and ``seconds``, shares between 0 and 1, of ``first_epoch`` and ``train`` (all
            epochs together), and of ``val`` and ``test``.
        """

        def heard(split: str) -> tuple[Heard, int]:
            draw, fixed = self.draw(prepared, split), FIXED_SEEDS.get(split)
            size = self.batch_size * (times if fixed is None else 1)
            return Heard(draw, seed if fixed is None else fixed), _limited(draw, limit, size)

        train, count = heard("train")
        train.add(0, count)
        shares = {"first_epoch": train.share()}
        for epoch in range(1, epochs):
            train.add(epoch, count)
        shares["train"] = train.share()
        for split in FIXED_SEEDS:
            other, count = heard(split)
            other.add(0, count)
            shares[split] = other.share()
        return shares

    def loader(
        self,
        prepared: Prepared,
        split: str,
        *,
        seed: int,
        start_epoch: int = 0,
        start_batch: int = 0,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        pin: bool = False,
        times: int = 1,
        limit: int | None = None,
    ) -> "ExampleLoader":
        """A loader of :class:`Batch`; its length is always that of a full epoch.

        Args:
            prepared: from :meth:`lightning_sep.data.corpus.Corpus.open`.
            split: "train", "val" or "test". Only training draws depend on ``seed`` and the epoch.
            seed: of the run.
            start_epoch: epoch of the first pass, until ``set_epoch`` says another.
            start_batch: batches of ``start_epoch`` that are left out because they were done.
            workers: processes that build batches; their number changes nothing else.
            rank: number of this process among ``world``; it gets every ``world``-th example of
                each batch, so that all processes together see what one would. Where a last batch
                has none left for it, it gets one that counts nowhere: ``index`` is -1.
            world: number of processes that train together.
            pin: put batches into pinned memory, for training on a GPU that need not wait for them.
            times: how many times ``batch_size`` a training batch is.
            limit: batches of a pass, at most; ``None``: all.

        Raises:
            ConfigError: the settings do not fit the set or the number of processes.
        """
        if split not in SPLITS:
            raise ConfigError(f"no split '{split}': known are {', '.join(SPLITS)}")
        draw = self.draw(prepared, split)
        fixed = split != "train"
        if draw.alone and not fixed and times > 1:
            raise ConfigError(
                f"trainer.accumulate = {times}: these examples have lengths of their own, and each "
                "is a step; use trainer.accumulate=1"
            )
        size = world if draw.alone else self.batch_size * (1 if fixed else times)
        sampler = EpochBatches(
            count=_limited(draw, limit, size),
            batch_size=size,
            start_epoch=0 if fixed else start_epoch,
            start_batch=0 if fixed else start_batch,
            rank=rank,
            world=world,
            fixed=fixed,
        )
        examples = _ExampleSet(draw, FIXED_SEEDS[split] if fixed else seed)
        return ExampleLoader(examples, sampler, workers, pin=pin)


class EpochBatches(Sampler[Key]):
    """Keys of the batches of an epoch: (epoch, indices). Lightning calls ``set_epoch``.

    Attributes:
        factor: of the next pass: how many times ``batch_size`` a batch is.

    Args:
        count: examples of an epoch, over all processes.
        batch_size: examples of a batch, over all processes.
        start_epoch: epoch in which ``start_batch`` counts.
        start_batch: first batch of ``start_epoch``; other epochs start at the first.
        rank: number of this process.
        world: number of processes.
        fixed: every pass gives epoch 0.

    Raises:
        ConfigError: there are more processes than examples in a batch.
    """

    def __init__(
        self,
        *,
        count: int,
        batch_size: int,
        start_epoch: int = 0,
        start_batch: int = 0,
        rank: int = 0,
        world: int = 1,
        fixed: bool = False,
    ) -> None:
        if min(count, batch_size) < world:
            raise ConfigError(
                f"{world} processes share batches of {batch_size} examples out of {count}: "
                "each needs at least one. Use fewer processes or larger batches"
            )
        self.count, self.batch_size = count, batch_size
        self.start_epoch, self.start_batch = start_epoch, start_batch
        self.rank, self.world = rank, world
        self.fixed = fixed
        self.epoch = start_epoch
        self.factor = 1

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next pass."""
        if not self.fixed:
            self.epoch = epoch

    def __len__(self) -> int:
        size = self.factor * self.batch_size
        return math.ceil(self.count / size)

    def __iter__(self) -> Iterator[Key]:
        size = self.factor * self.batch_size
        first = self.start_batch if self.epoch == self.start_epoch else 0
        for number in range(first, len(self)):
            stop = min((number + 1) * size, self.count)
            indices = np.arange(number * size, stop, dtype=np.int64)
            yield self.epoch, indices[self.rank :: self.world]


class _ExampleSet(Dataset[Batch]):
    """A draw with its seed, addressed by the keys of :class:`EpochBatches`."""

    def __init__(self, draw: Draw, seed: int) -> None:
        self.draw = draw
        self.seed = seed

    def __getitem__(self, key: Key) -> Batch:
        epoch, index = key
        if len(index):
            return self.draw.batch(seed=self.seed, epoch=epoch, index=index)
        return self.draw.batch(seed=self.seed, epoch=epoch, index=np.zeros(1, np.int64)).of_nobody()


class ExampleLoader(DataLoader[Batch]):
    """A data loader that keeps no state, since its sampler starts anywhere by arithmetic.

    The empty ``state_dict`` tells Lightning that the loader can be resumed; what it would save by
    itself counts batches that were fetched ahead and never seen.
    """

    def __init__(
        self, examples: _ExampleSet, sampler: EpochBatches, workers: int, *, pin: bool = False
    ) -> None:
        self.draw = examples.draw
        # a generator of its own: the default takes its seed from the global generator at every
        # pass, which would make the number of passes part of a run's random numbers
        super().__init__(
            examples,
            batch_size=None,
            sampler=sampler,
            num_workers=workers,
            collate_fn=_as_is,
            generator=torch.Generator().manual_seed(0),
            persistent_workers=workers > 0,
            pin_memory=pin,
        )

    def told(self, values: Mapping[str, list[Any]], stage: str) -> dict[str, list[Any]]:
        """Lists with an entry per example, and beside them what is known of these examples.

        Args:
            values: by name; ``<stage>/index`` holds the examples' numbers, where they have any.
            stage: ``val`` or ``test``.
        """
        index = values.get(f"{stage}/index")
        if index is None:
            return dict(values)
        described = self.draw.described(np.array(index, dtype=np.int64))
        return dict(values) | {f"{stage}/{name}": known for name, known in described.items()}

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to do."""


def segment_length(prepared: Prepared, segment_s: float, segment_samples: int | None) -> int:
    """Samples of a segment: ``segment_samples``, else ``segment_s`` at the rate of the set.

    Raises:
        ConfigError: less than one.
    """
    samples = segment_samples or round(segment_s * prepared.sample_rate)
    if samples < 1:
        raise ConfigError(
            f"examples.segment_s = {segment_s}: less than one sample at {prepared.sample_rate} Hz"
        )
    return samples


def one_channel(prepared: Prepared, kind: str) -> None:
    """Refuse a set of several channels for examples that hold one.

    Raises:
        ConfigError: it has several.
    """
    if prepared.channels > 1:
        raise ConfigError(
            f"examples={kind} take one channel, {prepared.name} has {prepared.channels}: "
            "data.channels=mean takes their mean"
        )


def _limited(draw: Draw, limit: int | None, size: int) -> int:
    """Examples of a pass of ``limit`` batches, at most, of ``size`` examples."""
    return draw.count if limit is None else min(draw.count, limit * (1 if draw.alone else size))


def _as_is(batch: Any) -> Any:
    return batch


def to_float(samples: Int16) -> NDArray[np.float32]:
    """int16 samples as float32, 1.0 at full scale; exact."""
    return samples.astype(np.float32) * np.float32(1.0 / FULL_SCALE)


def energy(samples: Int16) -> NDArray[np.float64]:
    """Sum of squares over channels and time of int16 samples, 1.0 at full scale,
    ``[..., channel, time]`` -> ``[...]``.

    Every partial sum is a whole number that float64 holds, so the result does not depend on the
    order of summation.
    """
    squares = np.square(samples, dtype=np.float64).sum(axis=(-1, -2))
    return np.asarray(squares / FULL_SCALE**2)


def is_active(samples: Int16) -> NDArray[np.bool_]:
    """Whether the rms over channels and time reaches -80 dBFS, ``[..., channel, time]`` ->
    ``[...]``."""
    return np.asarray(energy(samples) >= SILENCE_RMS**2 * math.prod(samples.shape[-2:]))
