"""Snippets of several speakers, several of each, for speaker verification."""

from typing import Any

import numpy as np
import torch

from lightning_sep.checks import finite_number, whole_number
from lightning_sep.data.batch import Batch
from lightning_sep.data.corpus import Prepared
from lightning_sep.data.draws import below, distinct, uniform
from lightning_sep.data.examples import (
    Draw,
    Examples,
    Index,
    is_active,
    to_float,
)
from lightning_sep.errors import ConfigError, DataError


class Snippets(Examples):
    """Batches of ``speakers`` speakers with ``snippets`` snippets each (speaker by speaker).

    In training: speakers without repetition within a batch, then for each snippet a file and an
    offset, all uniform (Lukic et al., MLSP 2017). Validation and test hold a fixed set of snippets
    of speakers that were never heard in training, without overlap, evenly spaced over their files:
    all pairs of them are the trials.

    A file shorter than the segment is repeated until it fills it: zeros would tell the files apart
    by their length.

    Args:
        speakers: speakers of a training batch.
        snippets: snippets of each of them.
        segment_s: length of a snippet in seconds.
        train: batches of an epoch, drawn afresh in each.
        val: snippets of each speaker of the validation part, at most.
        test: snippets of each speaker of the test part, at most.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(
        self,
        speakers: int = 8,
        snippets: int = 4,
        segment_s: float = 0.8,
        train: int = 30,
        val: int = 10,
        test: int = 10,
    ) -> None:
        self.speakers = whole_number("speakers", speakers, at_least=2)
        self.snippets = whole_number("snippets", snippets, at_least=2)
        self.segment_s = finite_number("segment_s", segment_s, above=0, meaning="seconds")
        self.train = whole_number("train", train)
        self.limits = {
            "val": whole_number("val", val, at_least=2),
            "test": whole_number("test", test, at_least=2),
        }
        self.batch_size = self.speakers * self.snippets

    def draw(self, prepared: Prepared, split: str) -> "SnippetDraw":
        """See :meth:`Examples.draw`."""
        return SnippetDraw(self, prepared, split)

    def facts(self, prepared: Prepared) -> dict[str, Any]:
        """``sample_rate``, ``segment_samples``, ``speaker_names`` (what labels count),
        ``train_speakers``, ``speakers`` and ``snippets`` of a batch."""
        table = prepared.table("train")
        return {
            "sample_rate": prepared.sample_rate,
            "segment_samples": round(self.segment_s * prepared.sample_rate),
            "speaker_names": prepared.speaker_names,
            "train_speakers": len(np.unique(table.speaker[table.speaker >= 0])),
            "speakers": self.speakers,
            "snippets": self.snippets,
        }


class SnippetDraw(Draw):
    """Snippets of one split; see :class:`Snippets`."""

    def __init__(self, settings: Snippets, prepared: Prepared, split: str) -> None:
        self.samples = round(settings.segment_s * prepared.sample_rate)
        if self.samples < 1:
            raise ConfigError(
                f"examples.segment_s = {settings.segment_s}: less than one sample at "
                f"{prepared.sample_rate} Hz"
            )
        self.reader = prepared.reader
        table = prepared.table(split)
        self.table = table.where(table.speaker >= 0)
        self.speakers, self.snippets = settings.speakers, settings.snippets
        names, numbers = np.unique(self.table.speaker, return_inverse=True)
        if len(names) < 2:
            raise DataError(
                f"the {split} part of {prepared.name} has {len(names)} speakers; telling speakers "
                "apart needs 2 in each part. Use a set with more speakers, or split otherwise "
                f"(now {prepared.source['split_rule']})"
            )
        self.members = np.argsort(numbers, kind="stable")  # items, speaker by speaker
        self.sizes = np.bincount(numbers)
        self.firsts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        self.fixed: tuple[Index, Index] | None = None  # item and offset of each snippet
        if split == "train":
            if len(names) < self.speakers:
                raise ConfigError(
                    f"examples.speakers = {self.speakers}: the train part of {prepared.name} has "
                    f"{len(names)} speakers. Use examples.speakers={len(names)} or less"
                )
            self.count = settings.train * settings.batch_size
        else:
            self.fixed = self._without_overlap(settings.limits[split])
            self.count = len(self.fixed[0])
            found = self.table.speaker[self.fixed[0]]
            if len(found) == len(np.unique(found)):
                raise DataError(
                    f"each speaker of the {split} part of {prepared.name} has one snippet of "
                    f"{settings.segment_s} s: no two of one speaker to compare. "
                    "Lower examples.segment_s"
                )

    def batch(self, *, seed: int, epoch: int, index: Index) -> Batch:
        """See :meth:`Draw.batch`."""
        if self.fixed is not None:
            item, offset = self.fixed[0][index], self.fixed[1][index]
        else:
            item, offset = self._drawn(seed, epoch, index)
        samples = self.reader.read(
            self.table.recording[item],
            self.table.start[item],
            self.table.samples[item],
            offset,
            self.samples,
            repeat=True,
        )
        return Batch(
            waveform=torch.from_numpy(to_float(samples)),
            labels=torch.from_numpy(self.table.speaker[item]),
            active=torch.from_numpy(is_active(samples)),
            index=torch.from_numpy(index.copy()),
        )

    def _drawn(self, seed: int, epoch: int, index: Index) -> tuple[Index, Index]:
        """Items and offsets of fresh snippets."""
        batch, place = np.divmod(index, self.speakers * self.snippets)
        batches, row = np.unique(batch, return_inverse=True)
        speakers = distinct(
            seed=seed,
            epoch=epoch,
            index=batches,
            purpose="speakers",
            among=np.arange(len(self.sizes)),
            columns=self.speakers,
        )
        speaker = speakers[row, place // self.snippets]
        numbers = uniform(seed=seed, epoch=epoch, index=index, purpose="snippet", columns=2)
        item = self.members[self.firsts[speaker] + below(numbers[:, 0], self.sizes[speaker])]
        available = self.table.samples[item]
        room = np.where(available >= self.samples, available - self.samples + 1, available)
        return item, below(numbers[:, 1], room)

    def _without_overlap(self, limit: int) -> tuple[Index, Index]:
        """Items and offsets of at most ``limit`` snippets of each speaker."""
        items, offsets = [], []
        for first, size in zip(self.firsts, self.sizes, strict=True):
            members = self.members[first : first + size]
            each = np.maximum(self.table.samples[members] // self.samples, 1)
            item = np.repeat(members, each)
            number = np.arange(len(item)) - np.repeat(np.cumsum(each) - each, each)
            kept = np.arange(min(limit, len(item))) * len(item) // min(limit, len(item))
            items.append(item[kept])
            offsets.append(number[kept] * self.samples)
        return np.concatenate(items), np.concatenate(offsets)
