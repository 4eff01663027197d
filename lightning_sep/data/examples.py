"""How examples are drawn from a prepared set, in an order that a resumed run repeats exactly.

Example ``index`` of epoch ``epoch`` is a pure function of (seed, epoch, index). Nothing random is
saved in a checkpoint, because nothing random is kept: a loader starts at any batch by arithmetic.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_sep.data.audio_files import FULL_SCALE, SILENCE_RMS, Int16
from lightning_sep.data.batch import Batch
from lightning_sep.data.corpus import Prepared
from lightning_sep.data.splits import SPLITS
from lightning_sep.errors import ConfigError

Index: TypeAlias = NDArray[np.int64]
Key: TypeAlias = tuple[int, Index]  # epoch, and the numbers of the examples of one batch

# Draws of validation and test are fixed, so that all runs are measured on one set of examples.
# The seeds are those of the published experiments on gradient reweighting (arXiv:2010.13228).
FIXED_SEEDS = {"val": 9, "test": 8}


class Draw(ABC):
    """The examples of one split; small enough to be sent to worker processes."""

    count: int
    """Examples of one epoch."""

    @abstractmethod
    def batch(self, *, seed: int, epoch: int, index: Index) -> Batch:
        """The examples ``index`` of ``epoch``, all built in one go."""


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
    def facts(self, prepared: Prepared) -> dict[str, Any]:
        """What a task has to know of the set, as JSON types."""

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
                each batch, so that all processes together see what one would.
            world: number of processes that train together.

        Raises:
            ConfigError: the settings do not fit the set or the number of processes.
        """
        if split not in SPLITS:
            raise ConfigError(f"no split '{split}': known are {', '.join(SPLITS)}")
        draw = self.draw(prepared, split)
        fixed = split != "train"
        sampler = EpochBatches(
            count=draw.count,
            batch_size=self.batch_size,
            start_epoch=0 if fixed else start_epoch,
            start_batch=0 if fixed else start_batch,
            rank=rank,
            world=world,
            fixed=fixed,
        )
        examples = _ExampleSet(draw, FIXED_SEEDS[split] if fixed else seed)
        return ExampleLoader(examples, sampler, workers)


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
        batches = math.ceil(self.count / size)
        # a last batch that would leave a process without any example joins the one before
        return batches - (batches > 1 and 0 < self.count % size < self.world)

    def __iter__(self) -> Iterator[Key]:
        size, batches = self.factor * self.batch_size, len(self)
        first = self.start_batch if self.epoch == self.start_epoch else 0
        for number in range(first, batches):
            last = number == batches - 1
            stop = self.count if last else (number + 1) * size
            indices = np.arange(number * size, stop, dtype=np.int64)
            yield self.epoch, indices[self.rank :: self.world]


class _ExampleSet(Dataset[Batch]):
    """A draw with its seed, addressed by the keys of :class:`EpochBatches`."""

    def __init__(self, draw: Draw, seed: int) -> None:
        self.draw = draw
        self.seed = seed

    def __getitem__(self, key: Key) -> Batch:
        epoch, index = key
        return self.draw.batch(seed=self.seed, epoch=epoch, index=index)


class ExampleLoader(DataLoader[Batch]):
    """A data loader that keeps no state, since its sampler starts anywhere by arithmetic.

    The empty ``state_dict`` tells Lightning that the loader can be resumed; what it would save by
    itself counts batches that were fetched ahead and never seen.
    """

    def __init__(self, examples: Dataset[Batch], sampler: EpochBatches, workers: int) -> None:
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
        )

    def state_dict(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing to do."""


def _as_is(batch: Any) -> Any:
    return batch


def to_float(samples: Int16) -> NDArray[np.float32]:
    """int16 samples as float32, 1.0 at full scale; exact."""
    return samples.astype(np.float32) * np.float32(1.0 / FULL_SCALE)


def energy(samples: Int16) -> NDArray[np.float64]:
    """Sum of squares over time of int16 samples, 1.0 at full scale, ``[..., time]`` -> ``[...]``.

    Every partial sum is a whole number that float64 holds, so the result does not depend on the
    order of summation.
    """
    squares = np.square(samples, dtype=np.float64).sum(axis=-1)
    return np.asarray(squares / FULL_SCALE**2)


def is_active(samples: Int16) -> NDArray[np.bool_]:
    """Whether the rms over time reaches -80 dBFS, ``[..., time]`` -> ``[...]``."""
    return np.asarray(energy(samples) >= SILENCE_RMS**2 * samples.shape[-1])
