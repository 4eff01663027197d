"""Sequences that are 1 throughout: the hardest target for a bounded head, and the plainest."""

import numpy as np
import torch

from lightning_sep.data.batch import Batch
from lightning_sep.data.corpus import Prepared, Table
from lightning_sep.data.examples import Draw, Index
from lightning_sep.data.sequences import Sequences


class Ones(Sequences):
    """As many sequences as :class:`Sequences` would draw, every sample of which is 1.

    Nothing has to be known to predict them: a score shows only how close a head gets to its bound
    and how long that takes. tanh never arrives (Stoller, "Bounded output regression with neural
    networks").

    Args:
        frame_samples: samples of a frame; the task's own setting.
        frames: frames of a sequence.
        train: sequences of an epoch.
        val: sequences of the validation part.
        test: sequences of the test part.
        batch_size: sequences of a step.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(
        self,
        frame_samples: int = 64,
        frames: int = 50,
        train: int = 256,
        val: int = 16,
        test: int = 16,
        batch_size: int = 16,
    ) -> None:
        super().__init__(
            frame_samples=frame_samples,
            frames=frames,
            train=train,
            val=val,
            test=test,
            batch_size=batch_size,
        )
        self.counts = {"train": train, "val": val, "test": test}

    def draw(self, prepared: Prepared, split: str) -> Draw:
        """See :meth:`Examples.draw`."""
        nothing = prepared.table(split).where(np.zeros(len(prepared.table(split)), dtype=bool))
        return OnesDraw(nothing, self.counts[split], self.samples)


class OnesDraw(Draw):
    """All ones; see :class:`Ones`."""

    def __init__(self, table: Table, count: int, samples: int) -> None:
        self.table, self.count, self.samples = table, count, samples

    def places(self, *, seed: int, epoch: int, index: Index) -> tuple[Index, Index]:
        """See :meth:`Draw.places`: nothing of the set is heard, ``[index, 0]``."""
        none = np.zeros((len(index), 0), dtype=np.int64)
        return none, none

    def batch(self, *, seed: int, epoch: int, index: Index) -> Batch:
        """See :meth:`Draw.batch`."""
        count = len(index)
        return Batch(
            waveform=torch.ones(count, 1, self.samples),
            labels=torch.zeros(count, dtype=torch.int64),
            active=torch.ones(count, dtype=torch.bool),
            index=torch.from_numpy(np.array(index)),
        )
