"""Snippets of several speakers, several of each, for speaker verification."""

import numpy as np
import torch

from lightning_sep.checks import finite_number, one_of, whole_number
from lightning_sep.data.batch import Batch
from lightning_sep.data.corpus import Prepared, Table
from lightning_sep.data.draws import below, distinct, uniform
from lightning_sep.data.examples import (
    ORDERS,
    Draw,
    Examples,
    Index,
    is_active,
    one_channel,
    to_float,
)
from lightning_sep.data.facts import SnippetFacts
from lightning_sep.data.passes import Groups
from lightning_sep.errors import ConfigError, DataError

_FEW = 10  # test speakers below which error rates say nothing about other speakers
_SNIPPETS = 10  # of each speaker of validation and test, unless asked for otherwise


class Snippets(Examples):
    """Batches of ``speakers`` speakers with ``snippets`` snippets each (speaker by speaker).

    In training: speakers without repetition within a batch, then for each snippet a file and an
    offset, all uniform (Lukic et al., MLSP 2017). Validation and test hold a fixed set of snippets
    of speakers that were never heard in training, without overlap, from as many of their files as
    there may be: all pairs of them are the trials, but for those of one speaker in one recording,
    where the room gives the answer away. Where sessions are known, two snippets of one session
    are no trial either, unless no speaker has two sessions.

    A file shorter than the segment is repeated until it fills it: zeros would tell the files apart
    by their length.

    Args:
        speakers: speakers of a training batch.
        snippets: snippets of each of them.
        segment_s: length of a snippet in seconds.
        order: ``drawn``, or ``pass``: every file is in an epoch once, ``snippets`` of a speaker
            at a time; what fills the last of a speaker and the last batches is drawn.
        train: batches of an epoch, drawn afresh in each; with ``pass`` the files count.
        val: snippets of each speaker of the validation part, at most; ``None`` takes ten, or one
            of every file where a speaker has more.
        test: snippets of each speaker of the test part; the same.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(
        self,
        speakers: int = 8,
        snippets: int = 4,
        segment_s: float = 0.8,
        order: str = "drawn",
        train: int = 30,
        val: int | None = 10,
        test: int | None = None,
    ) -> None:
        self.speakers = whole_number("speakers", speakers, at_least=2)
        self.snippets = whole_number("snippets", snippets, at_least=2)
        self.segment_s = finite_number("segment_s", segment_s, above=0, meaning="seconds")
        self.order = one_of("order", order, ORDERS)
        self.train = whole_number("train", train)
        self.limits = {
            "val": None if val is None else whole_number("val", val, at_least=2),
            "test": None if test is None else whole_number("test", test, at_least=2),
        }
        self.batch_size = self.speakers * self.snippets

    def draw(self, prepared: Prepared, split: str) -> "SnippetDraw":
        """See :meth:`Examples.draw`."""
        return SnippetDraw(self, prepared, split)

    def facts(self, prepared: Prepared) -> SnippetFacts:
        """See :meth:`Examples.facts`."""
        one_channel(prepared, "snippets")
        speakers = prepared.table("train").speaker
        numbers = np.unique(speakers[speakers >= 0]).tolist()
        return SnippetFacts(
            sample_rate=prepared.sample_rate,
            segment_samples=round(self.segment_s * prepared.sample_rate),
            speakers=self.speakers,
            snippets=self.snippets,
            speaker_names=tuple(prepared.speaker_names),
            train_speakers=len(numbers),
            train_numbers=tuple(numbers),
            remarks=tuple(self.remarks(prepared)),
        )

    def remarks(self, prepared: Prepared) -> list[str]:
        """See :meth:`Examples.remarks`."""
        table = prepared.table("test")
        table = table.where(table.speaker >= 0)
        speakers = len(np.unique(table.speaker))
        remarks = []
        if 0 < speakers < _FEW:
            remarks.append(
                f"the test part of {prepared.name} has {speakers} speakers: its error rates hold "
                f"for them alone, and differences between runs say nothing below {_FEW} speakers"
            )
        if (table.session >= 0).any() and not _several(table.speaker, _sessions(table)):
            remarks.append(
                f"no speaker of the test part of {prepared.name} has two sessions: trials of one "
                "speaker are of one session, where the room and the day help"
            )
        return remarks


def _sessions(table: Table) -> Index:
    """``[item]`` number of the session; of the recording where nobody knows it."""
    return np.where(table.session >= 0, table.session, -1 - table.recording)


def _several(speaker: Index, session: Index) -> bool:
    """Whether any speaker has more than one session."""
    pairs = np.unique(np.stack([speaker, session]), axis=1)
    return bool(len(np.unique(pairs[0])) < pairs.shape[1])


class SnippetDraw(Draw):
    """Snippets of one split; see :class:`Snippets`."""

    repeats = True

    def __init__(self, settings: Snippets, prepared: Prepared, split: str) -> None:
        one_channel(prepared, "snippets")
        self.samples = round(settings.segment_s * prepared.sample_rate)
        if self.samples < 1:
            raise ConfigError(
                f"examples.segment_s = {settings.segment_s}: less than one sample at "
                f"{prepared.sample_rate} Hz"
            )
        if prepared.given_priors is not None:
            raise ConfigError(
                "data.priors: speakers are drawn equally often, of whatever set they are. Leave "
                "it out"
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
        self.sessions = self.table.recording
        self.fixed: tuple[Index, Index] | None = None  # item and offset of each snippet
        self.groups: Groups | None = None
        if split == "train":
            if len(names) < self.speakers:
                raise ConfigError(
                    f"examples.speakers = {self.speakers}: the train part of {prepared.name} has "
                    f"{len(names)} speakers. Use examples.speakers={len(names)} or less"
                )
            self.count = settings.train * settings.batch_size
            if settings.order == "pass":
                self.groups = Groups(self.sizes, self.speakers, self.snippets)
                self.count = self.groups.batches * settings.batch_size
        else:
            if not _several(self.table.speaker, self.table.recording):
                raise DataError(
                    f"no speaker of the {split} part of {prepared.name} has two files: two "
                    "snippets of one recording are no trial, since its room gives the answer "
                    "away. Use a set with several files of a speaker, or split otherwise (now "
                    f"{prepared.source['split_rule']})"
                )
            self.fixed = self._without_overlap(settings.limits[split])
            self.count = len(self.fixed[0])
            found = _sessions(self.table)
            if _several(self.table.speaker[self.fixed[0]], found[self.fixed[0]]):
                self.sessions = found

    def batch(self, *, seed: int, epoch: int, index: Index) -> Batch:
        """See :meth:`Draw.batch`."""
        item, offset = self.places(seed=seed, epoch=epoch, index=index)
        samples = self.table.read(self.reader, item, offset, self.samples, repeat=True)
        return Batch(
            waveform=torch.from_numpy(to_float(samples)),
            labels=torch.from_numpy(self.table.speaker[item]),
            active=torch.from_numpy(is_active(samples)),
            index=torch.from_numpy(index.copy()),
            sessions=torch.from_numpy(self.sessions[item]),
        )

    def places(self, *, seed: int, epoch: int, index: Index) -> tuple[Index, Index]:
        """See :meth:`Draw.places`; ``[index]``."""
        if self.fixed is not None:
            return self.fixed[0][index], self.fixed[1][index]
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
        which, number = np.divmod(place, self.snippets)
        numbers = uniform(seed=seed, epoch=epoch, index=index, purpose="snippet", columns=2)
        if self.groups is None:
            speaker = speakers[row, which]
            drawn = below(numbers[:, 0], self.sizes[speaker])
        else:
            plan = self.groups.plan(seed=seed, epoch=epoch)
            filled = plan.filled(batches, speakers)
            speaker = filled[row, which]
            drawn = below(numbers[:, 0], self.sizes[speaker])
            turn = plan.turn(batch, which, number)
            drawn = np.where(turn >= 0, turn, drawn)
        item = self.members[self.firsts[speaker] + drawn]
        available = self.table.samples[item]
        room = np.where(available >= self.samples, available - self.samples + 1, available)
        return item, below(numbers[:, 1], room)

    def _without_overlap(self, limit: int | None) -> tuple[Index, Index]:
        """Items and offsets of at most ``limit`` snippets of each speaker."""
        items, offsets = [], []
        for first, size in zip(self.firsts, self.sizes, strict=True):
            members = self.members[first : first + size]
            each = np.maximum(self.table.samples[members] // self.samples, 1)
            taken = _shared_out(each, max(_SNIPPETS, int(size)) if limit is None else limit)
            item = np.repeat(members, taken)
            number = np.arange(len(item)) - np.repeat(np.cumsum(taken) - taken, taken)
            items.append(item)
            spread = number * np.repeat(each, taken) // np.repeat(taken, taken)
            offsets.append(spread * self.samples)
        return np.concatenate(items), np.concatenate(offsets)


def _shared_out(each: Index, limit: int) -> Index:
    """``[file]`` how many of ``each`` file's snippets are taken: ``limit`` in all, as evenly as
    they allow, and where files are left over from files that are evenly spaced."""
    limit = min(limit, int(each.sum()))
    level = 0
    while int(np.minimum(each, level + 1).sum()) <= limit and level < limit:
        level += 1
    taken = np.minimum(each, level)
    left = limit - int(taken.sum())
    more = np.flatnonzero(each > level)
    taken[more[np.arange(left) * len(more) // max(left, 1)]] += 1
    return taken
