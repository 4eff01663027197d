"""Stems of songs, aligned, for the separation of music."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_sep.checks import finite_number, one_of, refusal, whole_number
from lightning_sep.data.audio_files import FULL_SCALE, SILENCE_RMS, Int16
from lightning_sep.data.batch import Batch
from lightning_sep.data.corpus import Prepared
from lightning_sep.data.draws import below, distinct, uniform
from lightning_sep.data.examples import ORDERS, Draw, Examples, Index, segment_length
from lightning_sep.data.facts import MixtureFacts
from lightning_sep.data.manifests import MIXTURE, NOISE
from lightning_sep.data.mixtures import random_offset
from lightning_sep.data.parts import Parts
from lightning_sep.data.passes import Stretches
from lightning_sep.data.splits import SPLITS
from lightning_sep.errors import ConfigError, DataError

_SPARSE = 64  # of so many samples one is looked at first


class Stems(Examples):
    """Segments of songs with their stems as sources, in a fixed order.

    In training a song is drawn, an offset in it, and for each stem a gain; all uniform. Of the
    examples that are not coherent each stem is from another song, at an offset of its own
    (Uhlich et al., "Improving music source separation based on deep neural networks through data
    augmentation and network blending", ICASSP 2017). Validation and test walk through whole songs,
    segment after segment, as they were recorded; the last segment of a song ends in zeros.

    A source is the sum of its stems, and the waveform that of all stems, also of those in no
    source. Nothing is normalised: the sum of all stems is the recording.

    Args:
        number: of sources; the task's own setting.
        sources: stems of each source by its name: ``{vocals: [vocals], accompaniment: [drums, bass,
            other]}``; ``None`` makes each stem a source, in alphabetical order.
        segment_s: length of an example in seconds.
        segment_samples: its length in samples, in place of ``segment_s``.
        context_samples: samples on either side of the segment that a net gets beside it: what the
            songs hold there, zeros beyond their ends.
        gain_range: lowest and highest factor of a stem in training.
        coherent: share of the training examples whose stems are of one song.
        order: ``drawn``, or ``pass``: each song is cut into segments from a start that is drawn for
            the epoch, and all of them come once, shuffled.
        train: examples of an epoch, drawn afresh in each; with ``pass`` the songs count.
        val: segments of the validation part, at most, evenly spaced; ``None`` takes all.
        test: segments of the test part, at most, evenly spaced; ``None`` takes all.
        batch_size: examples of a step.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(
        self,
        number: int = 4,
        sources: Mapping[str, Sequence[str]] | None = None,
        segment_s: float = 1.0,
        segment_samples: int | None = None,
        context_samples: int = 0,
        gain_range: tuple[float, float] | list[float] = (1.0, 1.0),
        coherent: float = 1.0,
        order: str = "drawn",
        train: int = 256,
        val: int | None = None,
        test: int | None = None,
        batch_size: int = 16,
    ) -> None:
        self.number = whole_number("number", number, at_least=1)
        self.sources = None if sources is None else _sums(sources)
        self.segment_s = finite_number("segment_s", segment_s, above=0, meaning="seconds")
        if segment_samples is not None:
            whole_number("segment_samples", segment_samples)
        self.segment_samples = segment_samples
        self.context_samples = whole_number("context_samples", context_samples, at_least=0)
        self.gain_range = _factors("gain_range", gain_range)
        self.coherent = finite_number(
            "coherent", coherent, at_least=0, at_most=1, meaning="a share of the examples"
        )
        self.order = one_of("order", order, ORDERS)
        if self.order == "pass" and self.coherent < 1:
            raise refusal("order", order, "a pass goes through whole songs: examples.coherent=1")
        self.train = whole_number("train", train)
        self.limits = {
            "val": None if val is None else whole_number("val", val),
            "test": None if test is None else whole_number("test", test),
        }
        self.batch_size = whole_number("batch_size", batch_size)

    def named(self, prepared: Prepared) -> dict[str, list[str]]:
        """Stems of each source by its name.

        Raises:
            DataError: the set has no stems.
            ConfigError: it has others, or the task has another number of sources.
        """
        stems = [name for name in prepared.stem_names if name not in (MIXTURE, NOISE)]
        if not stems:
            raise DataError(
                f"{prepared.name} has no songs with stems: data=songs data.path=FOLDER prepares a "
                "folder for each song with a file for each stem"
            )
        named = self.sources or {stem: [stem] for stem in stems}
        unknown = [one for own in named.values() for one in own if one not in (*stems, NOISE)]
        if unknown:
            raise ConfigError(
                f"examples.sources: no stem {', '.join(unknown)}; {prepared.name} has "
                f"{', '.join(stems)}"
            )
        if len(named) != self.number:
            raise ConfigError(
                f"{len(named)} sources ({', '.join(named)}) and task.sources={self.number}: set "
                f"task.sources={len(named)}, or examples.sources to that many sums of stems"
            )
        return named

    def samples(self, prepared: Prepared) -> int:
        """Of a segment; see :func:`~lightning_sep.data.examples.segment_length`."""
        return segment_length(prepared, self.segment_s, self.segment_samples)

    def draw(self, prepared: Prepared, split: str) -> "StemDraw":
        """See :meth:`Examples.draw`."""
        return StemDraw(self, prepared, split)

    def facts(self, prepared: Prepared) -> MixtureFacts:
        """See :meth:`Examples.facts`; classes are the sources, of their first stems' groups."""
        named = self.named(prepared)
        groups = {
            prepared.stem_names[stem]: prepared.group_names[group]
            for table in map(prepared.table, SPLITS)
            for stem, group in zip(table.stem.tolist(), table.group.tolist(), strict=True)
            if stem >= 0
        }
        return MixtureFacts(
            sample_rate=prepared.sample_rate,
            channels=prepared.channels,
            segment_samples=self.samples(prepared),
            context_samples=self.context_samples,
            sources=len(named),
            class_names=tuple(named),
            group_names=tuple(prepared.group_names),
            class_groups=tuple(groups[own[0]] for own in named.values()),
            normalise="none",
        )


class StemDraw(Draw):
    """Segments of songs of one split; see :class:`Stems`."""

    def __init__(self, settings: Stems, prepared: Prepared, split: str) -> None:
        named = settings.named(prepared)
        self.table = prepared.table(split)
        stems = [name for name in prepared.stem_names if name != MIXTURE]
        self.parts = Parts.of(prepared, self.table, stems, split)
        self.reader = prepared.reader
        self.samples = settings.samples(prepared)
        self.context = settings.context_samples
        self.sums = [[stems.index(one) for one in own] for own in named.values()]
        self.rate = prepared.sample_rate
        self.gain_range = settings.gain_range if split == "train" else (1.0, 1.0)
        self.coherent = settings.coherent if split == "train" else 1.0
        self.order: Stretches | None = None
        self.fixed: tuple[Index, Index] | None = None  # song and offset of each segment
        songs, columns = self.parts.rows.shape
        if self.coherent < 1 and songs < columns:
            raise DataError(
                f"examples.coherent = {settings.coherent}: {columns} stems of different songs need "
                f"{columns} songs, the {split} part of {prepared.name} has {songs}. Use "
                "examples.coherent=1"
            )
        if split == "train":
            self.count = settings.train
            if settings.order == "pass":
                self.order = Stretches(self.parts.samples, self.samples)
                self.count = self.order.count
        else:
            self.fixed = whole_songs(self.parts.samples, self.samples, settings.limits[split])
            self.count = len(self.fixed[0])

    def places(self, *, seed: int, epoch: int, index: Index) -> tuple[Index, Index]:
        """See :meth:`Draw.places`; ``[index, stem]``."""
        if self.fixed is not None:
            song, offset = self.fixed[0][index], self.fixed[1][index]
        elif self.order is not None:
            song, offset = self.order.places(seed=seed, epoch=epoch, index=index)
        else:
            return self._drawn(seed, epoch, index)
        rows = self.parts.rows[song]
        return rows, np.broadcast_to(offset[:, None], rows.shape)

    def _drawn(self, seed: int, epoch: int, index: Index) -> tuple[Index, Index]:
        about: dict[str, Any] = {"seed": seed, "epoch": epoch, "index": index}
        songs, stems = self.parts.rows.shape
        one = below(uniform(**about, purpose="song")[:, 0], songs)
        song = np.broadcast_to(one[:, None], (len(index), stems))
        place = np.broadcast_to(uniform(**about, purpose="offset"), song.shape)
        if self.coherent < 1:
            apart = uniform(**about, purpose="coherent") >= self.coherent
            among = np.arange(songs)
            others = distinct(**about, purpose="song of a stem", among=among, columns=stems)
            places = uniform(**about, purpose="offset of a stem", columns=stems)
            song, place = np.where(apart, others, song), np.where(apart, places, place)
        offset = random_offset(place, self.parts.samples[song], self.samples)
        return self.parts.rows[song, np.arange(stems)], offset

    def batch(self, *, seed: int, epoch: int, index: Index) -> Batch:
        """See :meth:`Draw.batch`."""
        items, offset = self.places(seed=seed, epoch=epoch, index=index)
        around = self.samples + 2 * self.context
        segments = self.table.read(self.reader, items, offset - self.context, around)
        heard = segments[..., self.context : self.context + self.samples]
        low, high = self.gain_range
        numbers = uniform(
            seed=seed, epoch=epoch, index=index, purpose="gain", columns=items.shape[1]
        )
        gain = low + (high - low) * numbers
        return StemBatch(
            stems=torch.from_numpy(segments),
            gain=torch.from_numpy((gain / FULL_SCALE).astype(np.float32)),
            sums=self.sums,
            active=torch.from_numpy(loud(heard, gain, self.sums)),
            index=torch.from_numpy(index.copy()),
        )

    def described(self, index: Index) -> dict[str, list[Any]]:
        """See :meth:`Draw.described`: ``mixture``, ``mixture_number`` and ``start_s``."""
        if self.fixed is None:
            return {}
        song, offset = self.fixed[0][index], self.fixed[1][index]
        return {
            "mixture": [self.parts.names[one] for one in song],
            "mixture_number": song.tolist(),
            "start_s": (offset / self.rate).tolist(),
        }


class StemBatch(Batch):
    """A batch whose stems stay int16 until they are where they are used, and are summed there.

    As float32 it would be two to three times as large, and take a worker four times as long.

    Args:
        stems: ``[batch, stem, channel, time]`` int16, as recorded.
        gain: ``[batch, stem]`` what a stem is multiplied by, from int16 to float32.
        sums: numbers of the stems of each source.
        active: see :class:`~lightning_sep.data.batch.Batch`.
        index: see :class:`~lightning_sep.data.batch.Batch`.
    """

    def __init__(
        self,
        stems: Tensor,
        gain: Tensor,
        sums: Sequence[Sequence[int]],
        active: Tensor,
        index: Tensor,
    ) -> None:
        self._stems, self._gain, self._sums = stems, gain, sums
        self.labels = torch.arange(len(sums), device=stems.device).repeat(len(stems), 1)
        self.active, self.index = active, index
        self.sessions = None

    def __len__(self) -> int:
        return len(self._stems)

    # a field of a batch that is worked out when it is first read
    @cached_property
    def sources(self) -> Tensor:  # type: ignore[override]
        """``[batch, source, channel, time]`` float32: sums of stems."""
        batch, _, *rest = self._stems.shape
        made = self._gain.new_empty((batch, len(self._sums), *rest))
        for number, stems in enumerate(self._sums):
            self._sum(stems, made[:, number])
        return made

    @cached_property
    def waveform(self) -> Tensor:  # type: ignore[override]
        """``[batch, channel, time]`` float32: the sum of all stems, also of those in no source."""
        scored = {number for stems in self._sums for number in stems}
        others = [number for number in range(self._stems.shape[1]) if number not in scored]
        total = self.sources.sum(dim=1)
        return total + self._sum(others, torch.empty_like(total)) if others else total

    def _sum(self, stems: Sequence[int], out: Tensor) -> Tensor:
        """``out``, ``[batch, channel, time]``, filled with the sum of the stems."""
        for number, one in enumerate(stems):
            gain = self._gain[:, one, None, None]
            if number == 0:
                torch.mul(self._stems[:, one], gain, out=out)
            else:
                out += self._stems[:, one] * gain
        return out

    def of_nobody(self) -> "StemBatch":
        """See :meth:`~lightning_sep.data.batch.Batch.of_nobody`."""
        active, none = torch.zeros_like(self.active), torch.full_like(self.index, -1)
        return StemBatch(self._stems, self._gain, self._sums, active, none)

    def _each(self, make: Callable[[Tensor], Tensor]) -> "StemBatch":
        parts = (self._stems, self._gain, self.active, self.index)
        stems, gain, active, index = map(make, parts)
        return StemBatch(stems, gain, self._sums, active, index)


def loud(
    stems: Int16, gain: NDArray[np.float64], sums: Sequence[Sequence[int]]
) -> NDArray[np.bool_]:
    """Whether the rms of each source over channels and time reaches -80 dBFS.

    Args:
        stems: ``[batch, stem, channel, time]`` as recorded.
        gain: ``[batch, stem]``.
        sums: numbers of the stems of each source.

    Returns:
        ``[batch, source]``.
    """
    needed = (SILENCE_RMS * FULL_SCALE) ** 2 * math.prod(stems.shape[2:])
    active = np.zeros((len(stems), len(sums)), dtype=bool)
    for number, own in enumerate(sums):
        # some of the samples are enough to know that nearly every source is loud enough
        for step in (_SPARSE, 1):
            rows = np.flatnonzero(~active[:, number])
            total = sum(stems[rows, one, :, ::step] * gain[rows, one, None, None] for one in own)
            active[rows, number] = np.square(total).sum(axis=(1, 2)) >= needed
    return active


def whole_songs(lengths: Index, samples: int, limit: int | None) -> tuple[Index, Index]:
    """Songs and first samples of all segments in order; the last of a song may reach beyond it.

    Args:
        lengths: ``[song]``.
        samples: of a segment.
        limit: this many at most, evenly spaced.
    """
    each = -(-lengths // samples)
    song = np.repeat(np.arange(len(each)), each)
    number = np.arange(len(song)) - np.repeat(np.cumsum(each) - each, each)
    if limit is not None and len(song) > limit:
        kept = np.arange(limit) * len(song) // limit
        song, number = song[kept], number[kept]
    return song, number * samples


def _sums(value: Any) -> dict[str, list[str]]:
    needed = "stems by the source's name are needed: {vocals: [vocals], rest: [drums, bass]}"
    if not isinstance(value, Mapping) or not value:
        raise refusal("sources", value, needed)
    for stems in value.values():
        fits = not isinstance(stems, str) and isinstance(stems, Sequence) and len(stems)
        if not fits or not all(isinstance(stem, str) for stem in stems):
            raise refusal("sources", value, needed)
    named = {str(name): list(stems) for name, stems in value.items()}
    used = [stem for stems in named.values() for stem in stems]
    twice = sorted({stem for stem in used if used.count(stem) > 1})
    if twice:
        raise refusal("sources", value, f"{', '.join(twice)} can be in one source alone")
    return named


def _factors(name: str, value: Any) -> tuple[float, float]:
    if (
        isinstance(value, str)
        or not hasattr(value, "__len__")
        or len(value) != 2
        or any(isinstance(v, bool) or not isinstance(v, int | float) for v in value)
        or not 0 < value[0] <= value[1] <= 1000
    ):
        raise refusal(name, value, "two factors above 0 are needed, the lower one first")
    return float(value[0]), float(value[1])
