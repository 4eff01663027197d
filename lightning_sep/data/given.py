"""Recorded mixtures with their sources, as they are."""

from typing import Any

import numpy as np
import torch

from lightning_sep.checks import finite_number, one_of, whole_number
from lightning_sep.data.batch import Batch
from lightning_sep.data.corpus import Prepared
from lightning_sep.data.draws import below, uniform
from lightning_sep.data.examples import (
    ORDERS,
    Draw,
    Examples,
    Index,
    is_active,
    segment_length,
    to_float,
)
from lightning_sep.data.facts import MixtureFacts
from lightning_sep.data.manifests import MIXTURE, NOISE
from lightning_sep.data.mixtures import random_offset
from lightning_sep.data.parts import Parts
from lightning_sep.data.passes import Pass
from lightning_sep.errors import ConfigError, DataError


class Given(Examples):
    """Mixtures that were recorded or made by somebody else, with their sources in a fixed order.

    Training takes a segment of each mixture, at an offset that is drawn for the epoch; a mixture
    that is shorter lies somewhere within zeros. Validation and test take all mixtures whole, in the
    order of their names, and each is a batch by itself unless all have one length: the tests of
    WSJ0-2mix (Hershey et al., arXiv:1508.04306), WHAM (Wichern et al., arXiv:1907.01160) and
    LibriMix (Cosentino et al., arXiv:2005.11262).

    Nothing is scaled. Noise is part of the mixture and no source.

    Args:
        sources: of a mixture; the task's own setting.
        segment_s: length of a training example in seconds.
        order: ``pass``: every mixture once an epoch; or ``drawn``.
        train: examples of an epoch with ``drawn``; with ``pass`` the mixtures count.
        val: mixtures of the validation part, at most, evenly spaced; ``None`` takes all.
        test: mixtures of the test part, at most, evenly spaced; ``None`` takes all.
        batch_size: mixtures of a step.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(
        self,
        sources: int = 2,
        segment_s: float = 4.0,
        order: str = "pass",
        train: int = 256,
        val: int | None = None,
        test: int | None = None,
        batch_size: int = 16,
    ) -> None:
        self.sources = whole_number("sources", sources, at_least=1)
        self.segment_s = finite_number("segment_s", segment_s, above=0, meaning="seconds")
        self.order = one_of("order", order, ORDERS)
        self.train = whole_number("train", train)
        self.limits = {
            "val": None if val is None else whole_number("val", val),
            "test": None if test is None else whole_number("test", test),
        }
        self.batch_size = whole_number("batch_size", batch_size)

    def stems(self, prepared: Prepared) -> list[str]:
        """The sources, in their fixed order.

        Raises:
            DataError: the set has no recorded mixtures.
            ConfigError: the task has another number of sources.
        """
        if MIXTURE not in prepared.stem_names:
            raise DataError(
                f"{prepared.name} has no recorded mixtures: data=given_mixtures data.path=FOLDER "
                "prepares folders of mixtures and of their sources"
            )
        stems = [name for name in prepared.stem_names if name not in (MIXTURE, NOISE)]
        if len(stems) != self.sources:
            raise ConfigError(
                f"mixtures of {prepared.name} have {len(stems)} sources ({', '.join(stems)}), and "
                f"task.sources={self.sources}: set task.sources={len(stems)}"
            )
        return stems

    def draw(self, prepared: Prepared, split: str) -> "GivenDraw":
        """See :meth:`Examples.draw`."""
        return GivenDraw(self, prepared, split)

    def facts(self, prepared: Prepared) -> MixtureFacts:
        """See :meth:`Examples.facts`."""
        return MixtureFacts(
            sample_rate=prepared.sample_rate,
            channels=prepared.channels,
            segment_samples=segment_length(prepared, self.segment_s, None),
            sources=len(self.stems(prepared)),
            class_names=tuple(prepared.class_names),
            group_names=tuple(prepared.group_names),
            class_groups=tuple(prepared.class_groups),
            normalise="none",
        )


class GivenDraw(Draw):
    """Mixtures of one split; see :class:`Given`."""

    def __init__(self, settings: Given, prepared: Prepared, split: str) -> None:
        stems = settings.stems(prepared)
        self.reader = prepared.reader
        everything = prepared.everything(split)
        # the mixture is the first part, so that it is read with its sources
        parts = Parts.of(prepared, everything, [MIXTURE, *stems], split)
        self.names, self.rows, self.lengths = parts.names, parts.rows, parts.samples
        self.all = everything
        self.table = everything.where(np.isin(np.arange(len(everything)), self.rows[:, 0]))
        self.order: Pass | None = None
        self.chosen: Index | None = None  # mixtures of a fixed split
        if split == "train":
            self.samples = segment_length(prepared, settings.segment_s, None)
            self.count = settings.train
            if settings.order == "pass":
                self.order = Pass(len(self.names))
                self.count = self.order.count
        else:
            limit = settings.limits[split]
            count = len(self.names) if limit is None else min(limit, len(self.names))
            self.chosen = np.arange(count) * len(self.names) // count
            self.count = count
            self.samples = int(self.lengths[self.chosen].max())
            self.alone = bool((self.lengths[self.chosen] != self.samples).any())

    def _mixtures(self, seed: int, epoch: int, index: Index) -> tuple[Index, Index]:
        """Numbers of the mixtures and first samples, ``[index]``."""
        if self.chosen is not None:
            return self.chosen[index], np.zeros(len(index), dtype=np.int64)
        about: dict[str, Any] = {"seed": seed, "epoch": epoch, "index": index}
        if self.order is not None:
            mixture = self.order.order(seed=seed, epoch=epoch)[index]
        else:
            mixture = below(uniform(**about, purpose="mixture")[:, 0], len(self.names))
        numbers = uniform(**about, purpose="offset")[:, 0]
        return mixture, random_offset(numbers, self.lengths[mixture], self.samples)

    def places(self, *, seed: int, epoch: int, index: Index) -> tuple[Index, Index]:
        """See :meth:`Draw.places`; ``[index]``, of the recorded mixtures."""
        mixture, offset = self._mixtures(seed, epoch, index)
        # rows of the mixtures within the table of mixtures alone
        return np.searchsorted(np.sort(self.rows[:, 0]), self.rows[mixture, 0]), offset

    def batch(self, *, seed: int, epoch: int, index: Index) -> Batch:
        """See :meth:`Draw.batch`."""
        mixture, offset = self._mixtures(seed, epoch, index)
        # several of different lengths meet only in a last batch that processes share unevenly
        samples = self.samples if self.chosen is None else int(self.lengths[mixture].max())
        rows = self.rows[mixture]
        offsets = np.broadcast_to(offset[:, None], rows.shape)
        segments = self.all.read(self.reader, rows, offsets, samples)
        sound = torch.from_numpy(to_float(segments))
        return Batch(
            waveform=sound[:, 0].contiguous(),
            labels=torch.from_numpy(self.all.label[rows[:, 1:]]),
            active=torch.from_numpy(is_active(segments[:, 1:])),
            index=torch.from_numpy(index.copy()),
            sources=sound[:, 1:].contiguous(),
        )

    def described(self, index: Index) -> dict[str, list[Any]]:
        """See :meth:`Draw.described`: ``mixture`` and ``mixture_number``."""
        if self.chosen is None:
            return {}
        numbers = self.chosen[index]
        return {
            "mixture": [self.names[one] for one in numbers],
            "mixture_number": numbers.tolist(),
        }
