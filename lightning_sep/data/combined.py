"""Several sets in one run."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain, combinations, product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_sep.checks import refusal
from lightning_sep.data.audio_files import Int16
from lightning_sep.data.cache import Reader
from lightning_sep.data.commands import entry
from lightning_sep.data.corpus import Corpus, Prepared, Table
from lightning_sep.data.manifests import Progress
from lightning_sep.data.names import shown, some
from lightning_sep.data.splits import SPLITS
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.settings import build


class Combined(Corpus):
    """The sets of other entries together, each with its splits, classes, speakers and groups.

    For mixtures, each source is of a set that is drawn by the priors, and no class of a set is in
    a mixture twice (no speaker, where the set has fewer classes than a mixture has sources). For
    sequences, a set is drawn by the priors, and a stretch of it. Classes and groups of one name are
    one; speakers are kept apart by the name of their set.

    Args:
        sets: names of entries of ``conf/data``, or ``{name: {setting: value}}`` for each.
        priors: how often a source is of each set, in their order; ``None`` is equally often.
        sample_rate: in Hz, of all sets; ``None`` asks that they have one rate.
        cache_limit_mb: bound of the decoded cache of each set in MiB.
        keep: see :class:`~lightning_sep.data.corpus.Corpus`.

    Raises:
        ConfigError: a setting cannot be used.
    """

    name = "combined"

    def __init__(
        self,
        sets: Sequence[str | Mapping[str, Any]] = (),
        priors: Sequence[float] | None = None,
        sample_rate: int | None = None,
        cache_limit_mb: float | None = None,
        keep: bool = False,
    ) -> None:
        super().__init__(sample_rate, cache_limit_mb, keep)
        own: dict[str, dict[str, Any]] = {}
        for one in _listed(sets):
            name, settings = (one, {}) if isinstance(one, str) else next(iter(one.items()))
            if name in own or name == self.name:
                raise ConfigError(f"data.sets: {name}: each set once, and none of them combined")
            own[name] = dict(settings or {})
        self.sets = own
        self.priors = None if priors is None else _checked(priors, len(own))

    def corpora(self) -> list[Corpus]:
        """The sets.

        Raises:
            ConfigError: fewer than two are named, or one cannot be built.
        """
        if len(self.sets) < 2:
            raise ConfigError("data=combined needs two sets or more: data.sets=[librispeech,esc10]")
        made = []
        for name, own in self.sets.items():
            node = entry(name)
            unknown = sorted(set(own) - set(node))
            if unknown:
                raise ConfigError(f"data.sets: {name} has no setting {', '.join(unknown)}")
            common = {"sample_rate": self.sample_rate, "cache_limit_mb": self.cache_limit_mb}
            if self.keep:
                common["keep"] = True
            made.append(build(node | common | own))
        return made

    def key(self) -> str:
        """See :meth:`Corpus.key`."""
        keys = [one.key() for one in self.corpora()]
        return f"combined-{hashlib.sha256(json.dumps(keys).encode()).hexdigest()[:12]}"

    def prepared_folder(self, home: Path) -> Path | None:
        """None: the sets have one each."""
        return None

    def make(self, home: Path, progress: Progress | None) -> Path:
        """Never: the sets are prepared one by one."""
        raise DataError("the sets of data=combined are prepared one by one, each by its own name")

    def open(self, home: Path, progress: Progress | None = None) -> "Combination":
        """See :meth:`Corpus.open`.

        Raises:
            DataError: a set cannot be opened, or their rates differ.
        """
        parts = [one.open(home, progress) for one in self.corpora()]
        return Combination(list(self.sets), parts, self.priors)

    def prepare_from(
        self, source: Path | None, home: Path, progress: Progress | None = None
    ) -> "Combination":
        """See :meth:`Corpus.prepare_from`; sets that need a folder are prepared by themselves."""
        if source is not None:
            raise ConfigError(
                "data=combined takes no --source: prepare its sets one by one, each by its own name"
            )
        return self.open(home, progress)


def _listed(sets: Any) -> Sequence[Any]:
    """The names of sets, or a name with its settings for each.

    Raises:
        ConfigError: it is something else.
    """
    fits = isinstance(sets, Sequence) and not isinstance(sets, str)
    if not fits or not all(
        isinstance(one, str) or (isinstance(one, Mapping) and len(one) == 1) for one in sets
    ):
        needed = "a list is needed: [librispeech,esc10] or [esc10,{folder: {path: my_audio}}]"
        raise refusal("sets", sets, needed)
    found: Sequence[Any] = sets
    return found


def _checked(priors: Sequence[float], count: int) -> list[float]:
    numbers = isinstance(priors, Sequence) and all(
        isinstance(one, int | float) and not isinstance(one, bool) and one > 0 for one in priors
    )
    if not numbers or len(priors) != count or not math.isclose(sum(priors), 1, abs_tol=1e-6):
        needed = f"{count} numbers above 0 that add up to 1 are needed, one for each of data.sets"
        raise refusal("priors", priors, needed)
    return [float(one) for one in priors]


class Combination(Prepared):
    """Prepared sets as one.

    Args:
        names: of the sets.
        parts: the sets.
        priors: share of each, where the user gave any.

    Raises:
        DataError: their rates or channels differ, or a sound is in two parts.
    """

    def __init__(
        self, names: Sequence[str], parts: Sequence[Prepared], priors: Sequence[float] | None
    ) -> None:
        rates = {name: part.sample_rate for name, part in zip(names, parts, strict=True)}
        if len(set(rates.values())) > 1:
            told = ", ".join(f"{name} is at {rate} Hz" for name, rate in rates.items())
            raise DataError(f"{told}: set data.sample_rate to one of them")
        self.name = "combined"
        self.parts = list(parts)
        self.names = list(names)
        self.given_priors = None if priors is None else list(priors)
        self.folder = parts[0].folder.parent
        self.cache_limit_mb = parts[0].cache_limit_mb
        hashes = {name: part.hash for name, part in zip(names, parts, strict=True)}
        counts = {name: part.channels for name, part in zip(names, parts, strict=True)}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} has {count}" for name, count in counts.items())
            raise DataError(f"channels: {told}: data.channels of those with more must be mean")
        self.channels = parts[0].channels
        self.hash = hashlib.sha256(json.dumps(hashes).encode()).hexdigest()
        self.sample_rate = parts[0].sample_rate
        self.licence = "; ".join(part.licence for part in parts)
        self.source = {
            "name": self.name,
            "hash": self.hash,
            "sets": hashes,
            "split_rule": "; ".join(
                f"{name}: {part.source['split_rule']}"
                for name, part in zip(names, parts, strict=True)
            ),
            "counts": {"files": sum(part.source["counts"]["files"] for part in parts)},
        }
        self.class_names = sorted({one for part in parts for one in part.class_names})
        self.group_names = sorted({one for part in parts for one in part.group_names})
        self.speaker_names = sorted(
            f"{name}:{one}"
            for name, part in zip(names, parts, strict=True)
            for one in part.speaker_names
        )
        self.mixture_names = sorted(
            f"{name}:{one}"
            for name, part in zip(names, parts, strict=True)
            for one in part.mixture_names
        )
        self.stem_names = sorted({one for part in parts for one in part.stem_names})
        _refuse_shared(self.names, self.parts)
        self._statistics = _merged([part.all_statistics for part in parts])

    @property
    def priors(self) -> list[float]:
        """Share of each set."""
        return self.given_priors or [1 / len(self.parts)] * len(self.parts)

    @cached_property
    def _tables(self) -> dict[str, Table]:
        return {split: self._joined(split) for split in SPLITS}

    def _joined(self, split: str) -> Table:
        columns: dict[str, list[NDArray[np.int64]]] = {name: [] for name in Table.columns()}
        first_session = 0
        for number, (name, part) in enumerate(zip(self.names, self.parts, strict=True)):
            table = part.everything(split)
            sessions = np.where(table.session >= 0, table.session + first_session, -1)
            known = max(int(part.everything(one).session.max(initial=-1)) for one in SPLITS)
            first_session += known + 1
            speakers = [f"{name}:{one}" for one in part.speaker_names]
            mixtures = [f"{name}:{one}" for one in part.mixture_names]
            own = {
                "recording": table.recording + self._firsts[number],
                "start": table.start,
                "samples": table.samples,
                "label": _renumbered(table.label, part.class_names, self.class_names),
                "speaker": _renumbered(table.speaker, speakers, self.speaker_names),
                "group": _renumbered(table.group, part.group_names, self.group_names),
                "session": sessions,
                "corpus": np.full(len(table), number),
                "mixture": _renumbered(table.mixture, mixtures, self.mixture_names),
                "stem": _renumbered(table.stem, part.stem_names, self.stem_names),
            }
            for column, values in own.items():
                columns[column].append(values)
        return Table(**{name: np.concatenate(values) for name, values in columns.items()})

    @cached_property
    def _firsts(self) -> NDArray[np.int64]:
        """``[set]`` number of the first recording of each."""
        counts = [len(part.lengths) for part in self.parts]
        return np.cumsum([0, *counts])[:-1]

    @property
    def lengths(self) -> NDArray[np.int64]:
        """``[recording]`` number of samples."""
        return np.concatenate([part.lengths for part in self.parts])

    @cached_property
    def reader(self) -> Reader:
        """Samples of all sets."""
        return JoinedReader([part.reader for part in self.parts], self._firsts)

    def remark(self) -> str:
        """See :meth:`Prepared.remark`."""
        return "; ".join(filter(None, (part.remark() for part in self.parts)))

    def sounds(self) -> dict[str, list[tuple[str, str, int, int]]]:
        """See :meth:`Prepared.sounds`."""
        found: dict[str, list[tuple[str, str, int, int]]] = {}
        for sound, pieces in chain.from_iterable(part.sounds().items() for part in self.parts):
            found.setdefault(sound, []).extend(pieces)
        return found

    def cuts(self, split: str) -> Any:
        """lhotse ``CutSet`` of one split, set after set."""
        from lhotse import CutSet

        return CutSet.from_cuts(cut for part in self.parts for cut in part.cuts(split))

    def verify(self, progress: Progress | None = None) -> None:
        """See :meth:`Prepared.verify`."""
        for part in self.parts:
            part.verify(progress)


def _refuse_shared(names: Sequence[str], parts: Sequence[Prepared]) -> None:
    """No sound is in one part of one set and in another part of another.

    Raises:
        DataError: one is; up to three are named.
    """
    sounds = [part.sounds() for part in parts]
    torn = []
    for (one, first), (other, second) in combinations(zip(names, sounds, strict=True), 2):
        for sound in sorted(first.keys() & second.keys()):
            for (name, split, low, high), (alike, where, start, stop) in product(
                first[sound], second[sound]
            ):
                if split != where and max(low, start) < min(high, stop):
                    torn.append(
                        f"'{shown(name)}' in {split} of {one} and '{shown(alike)}' in {where} of "
                        f"{other}"
                    )
                    break
    if torn:
        raise DataError(
            f"{len(torn)} recordings of {' and '.join(names)} are in two parts, which would be "
            f"trained and tested on: {some(torn)}. Leave one of the sets out, or give both one "
            "split"
        )


class JoinedReader(Reader):
    """Reads from the readers of several sets.

    Args:
        readers: of the sets.
        firsts: ``[set]`` number of the first recording of each.
    """

    def __init__(self, readers: Sequence[Reader], firsts: NDArray[np.int64]) -> None:
        self._readers = list(readers)
        self.channels = readers[0].channels
        self._firsts = firsts

    def _places(self, recording: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.searchsorted(self._firsts, recording, side="right") - 1

    def whole(self, recording: int, start: int, count: int) -> Int16:
        place = int(self._places(np.array([recording]))[0])
        return self._readers[place].whole(recording - int(self._firsts[place]), start, count)

    def inside(self, recording: NDArray[np.int64], start: NDArray[np.int64], count: int) -> Int16:
        places = self._places(recording)
        out = np.empty((len(recording), self.channels, count), dtype=np.int16)
        for place in np.unique(places):
            rows = places == place
            own = recording[rows] - self._firsts[place]
            out[rows] = self._readers[place].inside(own, start[rows], count)
        return out


def _renumbered(
    numbers: NDArray[np.int64], own: Sequence[str], all_names: Sequence[str]
) -> NDArray[np.int64]:
    """Numbers into ``own`` as numbers into ``all_names``; -1 stays."""
    place = {name: number for number, name in enumerate(all_names)}
    new = np.array([*(place[name] for name in own), -1], dtype=np.int64)
    return np.asarray(new[numbers])


def _merged(parts: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, dict[str, float]]:
    """Statistics by group of all sets together."""
    merged = {}
    for group in sorted({group for part in parts for group in part}):
        found = [part[group] for part in parts if group in part]
        count = sum(one["samples"] for one in found)

        def mean(values: Iterator[float], found: Any = found, count: float = count) -> float:
            weights = (one["samples"] for one in found)
            total = sum(w * value for w, value in zip(weights, values, strict=True))
            return float(total / count)

        average = mean(one["mean"] for one in found)
        power = mean(one["rms"] ** 2 for one in found)
        merged[group] = {
            "samples": count,
            "peak": max(one["peak"] for one in found),
            "mean": average,
            "std": math.sqrt(max(power - average**2, 0.0)),
            "rms": math.sqrt(power),
        }
    return merged
