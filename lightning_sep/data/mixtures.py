"""Mixtures of several sounds with their sources, for separation."""

import math
from copy import copy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_sep.checks import finite_number, one_of, refusal, whole_number
from lightning_sep.data.audio_files import SILENCE_RMS
from lightning_sep.data.batch import Batch
from lightning_sep.data.corpus import Prepared, Table
from lightning_sep.data.draws import below, distinct, uniform
from lightning_sep.data.examples import (
    ORDERS,
    Draw,
    Examples,
    Index,
    energy,
    is_active,
    segment_length,
    to_float,
)
from lightning_sep.data.facts import MixtureFacts
from lightning_sep.data.passes import Pass
from lightning_sep.errors import DataError

SPEECH = "speech"  # name of the group that `pairing: speech_noise` sets against all others


class Mixtures(Examples):
    """Sums of ``sources`` segments, drawn class by class (Tzinis et al., arXiv:2010.13228, sec. 3).

    For each source: a class, a file of it, an offset, all uniform; never one class twice in a
    mixture. Where the split has fewer classes than sources, no speaker twice; where it has fewer
    speakers, no file twice. Each source is set to unit energy over the segment; all but the last
    are then raised by a level uniform in ``snr_range_db``. The waveform is the float32 sum of the
    sources, after all of them were scaled by one factor. Energies and peaks are those of all
    channels together, so that a source stays where it is between them.

    A file shorter than the segment lies somewhere within zeros. A source whose segment is below
    -80 dBFS becomes exact zeros and is marked in ``Batch.active``.

    Args:
        sources: sounds in a mixture.
        segment_s: length of a mixture in seconds.
        segment_samples: its length in samples, in place of ``segment_s``.
        context_samples: samples on either side of the segment that a net gets beside it: what the
            recordings hold there, zeros beyond their ends. They count for the levels; drawn,
            scored and judged for silence is the segment.
        snr_range_db: lowest and highest level of a source over the last one, in dB.
        normalise: ``peak`` makes the largest sample of the mixture 1, ``sources`` that of its
            sources, so that all of them stay within full scale and one reaches it; ``std`` removes
            the mean of the sources and makes the mixture's standard deviation 1, which leaves full
            scale (only an unbounded head follows); ``none`` leaves unit energy.
        pairing: ``any``, or ``speech_noise``: the first source is speech, the others are not.
        order: ``drawn``, or ``pass``: every file that may come first is the first source of one
            mixture of an epoch, in an order of its own; the others are drawn.
        train: mixtures of an epoch, drawn afresh in each; with ``pass`` the files count.
        val: mixtures of the validation part, always the same.
        test: mixtures of the test part, always the same.
        batch_size: mixtures of a step.

    Raises:
        ConfigError: a setting cannot be used.
    """

    def __init__(
        self,
        sources: int = 2,
        segment_s: float = 1.0,
        segment_samples: int | None = None,
        context_samples: int = 0,
        snr_range_db: tuple[float, float] | list[float] = (-5.0, 5.0),
        normalise: str = "peak",
        pairing: str = "any",
        order: str = "drawn",
        train: int = 256,
        val: int = 64,
        test: int = 128,
        batch_size: int = 16,
    ) -> None:
        self.sources = whole_number("sources", sources, at_least=1)
        self.segment_s = finite_number("segment_s", segment_s, above=0, meaning="seconds")
        if segment_samples is not None:
            whole_number("segment_samples", segment_samples)
        self.segment_samples = segment_samples
        self.context_samples = whole_number("context_samples", context_samples, at_least=0)
        self.snr_range_db = _range("snr_range_db", snr_range_db)
        self.normalise = one_of("normalise", normalise, ("peak", "sources", "std", "none"))
        self.pairing = one_of("pairing", pairing, ("any", "speech_noise"))
        self.order = one_of("order", order, ORDERS)
        if self.pairing == "speech_noise" and self.sources < 2:
            raise refusal("pairing", pairing, "it needs examples.sources of 2 or more")
        self.counts = {
            "train": whole_number("train", train),
            "val": whole_number("val", val),
            "test": whole_number("test", test),
        }
        self.batch_size = whole_number("batch_size", batch_size)

    def samples(self, prepared: Prepared) -> int:
        """Of a segment; see :func:`~lightning_sep.data.examples.segment_length`."""
        return segment_length(prepared, self.segment_s, self.segment_samples)

    def draw(self, prepared: Prepared, split: str) -> "MixtureDraw":
        """See :meth:`Examples.draw`."""
        return MixtureDraw(self, prepared, split)

    def lasting(self, prepared: Prepared, seconds: float) -> "Mixtures":
        """See :meth:`Examples.lasting`: the same sounds at the same levels, longer stretches."""
        samples = round(seconds * prepared.sample_rate)
        if self.context_samples or self.samples(prepared) >= samples:
            return self
        longer = copy(self)
        longer.segment_samples = samples
        return longer

    def facts(self, prepared: Prepared) -> MixtureFacts:
        """See :meth:`Examples.facts`."""
        return MixtureFacts(
            sample_rate=prepared.sample_rate,
            channels=prepared.channels,
            segment_samples=self.samples(prepared),
            context_samples=self.context_samples,
            sources=self.sources,
            class_names=tuple(prepared.class_names),
            group_names=tuple(prepared.group_names),
            class_groups=tuple(prepared.class_groups),
            normalise=self.normalise,
        )


class MixtureDraw(Draw):
    """Mixtures of one split; see :class:`Mixtures`."""

    def __init__(self, settings: Mixtures, prepared: Prepared, split: str) -> None:
        self.sources = settings.sources
        self.samples = settings.samples(prepared)
        self.context = settings.context_samples
        self.snr_range_db = settings.snr_range_db
        self.normalise = settings.normalise
        self.table = prepared.table(split)
        self.reader = prepared.reader
        where = f"{split} part of {prepared.name}"
        self.kinds = np.full(len(self.table), -1)
        self.sets: list[Index] = []  # kinds of each set
        number = 0
        for one in range(len(prepared.priors)):
            rows = self.table.corpus == one
            own = _kinds(self.table.where(rows), self.sources, where)
            self.kinds[rows] = own + number
            self.sets.append(np.arange(number, number + int(own.max()) + 1))
            number += len(self.sets[-1])
        self.priors = prepared.priors
        order = np.argsort(self.kinds, kind="stable")
        self.members = order  # items, kind by kind
        self.sizes = np.bincount(self.kinds, minlength=number)
        self.firsts = np.concatenate([[0], np.cumsum(self.sizes)[:-1]])
        # kinds to draw from, and how many of them, in the order of the sources
        self.pools = [(self.sets[0], self.sources)] if len(self.sets) == 1 else []
        if settings.pairing == "speech_noise":
            speech = _speech_kinds(self.table, self.kinds, prepared, split, self.sources)
            self.pools = [
                (np.flatnonzero(speech), 1),
                (np.flatnonzero(~speech), self.sources - 1),
            ]
        self.count = settings.counts[split]
        self.order: Pass | None = None
        if split == "train" and settings.order == "pass":
            first = self.pools[0][0] if self.pools else np.arange(number)
            self.leading = np.flatnonzero(np.isin(self.kinds, first))
            self.count = len(self.leading)
            self.order = Pass(self.count)

    def batch(self, *, seed: int, epoch: int, index: Index) -> Batch:
        """See :meth:`Draw.batch`."""
        items, offset = self.places(seed=seed, epoch=epoch, index=index)
        around = self.samples + 2 * self.context
        segments = self.table.read(self.reader, items, offset - self.context, around)
        low, high = self.snr_range_db
        numbers = uniform(
            seed=seed, epoch=epoch, index=index, purpose="level", columns=self.sources
        )
        level_db = low + (high - low) * numbers
        level_db[:, -1] = 0.0
        sources, active = mix(
            segments, level_db=level_db, normalise=self.normalise, context=self.context
        )
        stack = torch.from_numpy(sources)
        return Batch(
            waveform=stack.sum(dim=1),
            labels=torch.from_numpy(self.table.label[items]),
            active=torch.from_numpy(active),
            index=torch.from_numpy(index.copy()),
            sources=stack,
        )

    def places(self, *, seed: int, epoch: int, index: Index) -> tuple[Index, Index]:
        """See :meth:`Draw.places`; ``[index, source]``."""

        def numbers(purpose: str) -> NDArray[np.float64]:
            return uniform(
                seed=seed, epoch=epoch, index=index, purpose=purpose, columns=self.sources
            )

        kinds = self._distinct_kinds(seed, epoch, index)
        chosen = below(numbers("file"), self.sizes[kinds])
        items = self.members[self.firsts[kinds] + chosen]
        if self.order is not None:
            items = self._led(items, kinds, self.order.order(seed=seed, epoch=epoch)[index])
        offset = random_offset(numbers("offset"), self.table.samples[items], self.samples)
        return items, offset

    def _led(self, items: Index, kinds: Index, order: Index) -> Index:
        """The mixtures with their turn's file in front, in the place of one of its kind if any."""
        first = self.leading[order]
        alike = kinds == self.kinds[first][:, None]
        place = np.where(alike.any(axis=1), alike.argmax(axis=1), 0)
        rows = np.arange(len(items))
        led = items.copy()
        led[rows, place] = items[:, 0]
        led[:, 0] = first
        return led

    def _distinct_kinds(self, seed: int, epoch: int, index: Index) -> Index:
        """``[batch, source]`` kinds, none twice in a row."""
        if not self.pools:
            return self._kinds_of_sets(seed, epoch, index)
        drawn: list[Index] = []
        for among, columns in self.pools:
            skip = sum(one.shape[1] for one in drawn)
            drawn.append(
                distinct(
                    seed=seed,
                    epoch=epoch,
                    index=index,
                    purpose="kind",
                    among=among,
                    columns=columns,
                    skip=skip,
                )
            )
        return np.concatenate(drawn, axis=1)

    def _kinds_of_sets(self, seed: int, epoch: int, index: Index) -> Index:
        """The same where several sets are combined: first the set of each source, by the priors."""
        about: dict[str, Any] = {"seed": seed, "epoch": epoch, "index": index}
        which = drawn_sets(uniform(**about, purpose="set", columns=self.sources), self.priors)
        kinds = [
            distinct(**about, purpose=f"kind of {n}", among=among - among[0], columns=self.sources)
            + among[0]
            for n, among in enumerate(self.sets)
        ]
        alike = which[:, :, None] == which[:, None, :]
        turn = np.tril(alike, k=-1).sum(axis=2)  # how many earlier sources are of the same set
        rows = np.arange(len(index))[:, None]
        return np.asarray(np.stack(kinds)[which, rows, turn])


def drawn_sets(numbers: NDArray[np.float64], priors: list[float]) -> Index:
    """Numbers of sets, from uniform ``numbers`` of any shape."""
    return np.asarray(np.searchsorted(np.cumsum(priors)[:-1], numbers, side="right"))


def random_offset(numbers: NDArray[np.float64], available: Index, count: int) -> Index:
    """First sample of a segment of ``count`` samples; negative where a short piece lies later."""
    room = available - count
    place = below(numbers, np.abs(room) + 1)
    return np.where(room >= 0, place, -place)


def mix(
    segments: NDArray[np.int16],
    *,
    level_db: NDArray[np.float64],
    normalise: str,
    context: int = 0,
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scaled sources and which of them are not silent.

    Args:
        segments: ``[batch, source, channel, time]`` as recorded.
        level_db: ``[batch, source]`` level of each source over unit energy.
        normalise: see :class:`Mixtures`.
        context: samples on either side that are only surroundings: silence is judged without them.

    Returns:
        float32 ``[batch, source, channel, time]``, whose sum over sources is the mixture, and bool
        ``[batch, source]``.
    """
    power = energy(segments)
    heard = power >= SILENCE_RMS**2 * math.prod(segments.shape[-2:])
    gain = np.where(heard, 10.0 ** (level_db / 20.0) / np.sqrt(np.where(heard, power, 1.0)), 0.0)
    sources = to_float(segments) * gain.astype(np.float32)[..., None, None]
    if normalise == "std":
        sources -= sources.mean(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)
    active = heard
    if context:
        middle = slice(context, segments.shape[-1] - context)
        active = heard & is_active(segments[..., middle])
        sources[..., middle][~active] = 0
    mixture = sources.sum(axis=1).reshape(len(sources), -1)  # channels one after the other
    if normalise == "peak":
        scale = np.abs(mixture).max(axis=-1).astype(np.float64)
    elif normalise == "sources":
        scale = np.abs(sources).max(axis=(1, 2, 3)).astype(np.float64)
    elif normalise == "std":
        scale = mixture.std(axis=-1, dtype=np.float64)
    else:
        scale = np.ones(len(mixture))
    factor = 1.0 / np.where(scale > 0, scale, 1.0)  # all sources silent: zeros stay zeros
    sources *= factor.astype(np.float32)[:, None, None, None]
    if normalise == "sources":  # what rounding has put beyond
        sources = sources.clip(-1.0, 1.0)
    return sources, active


def _kinds(table: Table, sources: int, where: str) -> Index:
    """What must differ within a mixture, as numbers ``[item]``: class, else speaker, else file."""
    files = table.recording
    for column in (table.label, table.speaker, files):
        unique, numbers = np.unique(column, return_inverse=True)
        if len(unique) >= sources and (unique >= 0).all():
            return np.asarray(numbers, dtype=np.int64)
    raise DataError(
        f"{where} has {len(np.unique(files))} files, but a mixture needs "
        f"{sources} different ones: prepare more data or lower task.sources"
    )


def _speech_kinds(
    table: Table, kinds: Index, prepared: Prepared, split: str, sources: int
) -> NDArray[np.bool_]:
    speech = np.zeros(int(kinds.max()) + 1, dtype=bool)
    names = prepared.group_names
    number = names.index(SPEECH) if SPEECH in names else -1
    speech[kinds[table.group == number]] = True
    if not speech.any() or int((~speech).sum()) < sources - 1:
        raise DataError(
            f"examples.pairing = 'speech_noise': the {split} part of {prepared.name} has "
            f"{int(speech.sum())} kinds of speech and {int((~speech).sum())} of other sounds; "
            f"1 and {sources - 1} are needed. Use examples.pairing=any"
        )
    return speech


def _range(name: str, value: Any) -> tuple[float, float]:
    if (
        isinstance(value, str)
        or not hasattr(value, "__len__")
        or len(value) != 2
        or any(isinstance(v, bool) or not isinstance(v, int | float) for v in value)
        or not -200 <= value[0] <= value[1] <= 200
    ):
        raise refusal(name, value, "two numbers in dB are needed, the lower one first")
    return float(value[0]), float(value[1])
