"""What lhotse has prepared: cuts, recordings with supervisions, a Kaldi folder, or Shar."""

import hashlib
import json
import re
import shutil
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import soundfile

from lightning_sep.checks import one_of, refusal, whole_number
from lightning_sep.data.audio_files import Int16, resampler, to_int16, write_flac
from lightning_sep.data.corpus import Corpus
from lightning_sep.data.kaldi import of_kaldi
from lightning_sep.data.manifests import BUILDING, Entry, Origin, Pieces, Progress, build
from lightning_sep.data.names import shown, some
from lightning_sep.data.splits import joined, split_by_key, split_named, whole
from lightning_sep.errors import ConfigError, DataError, LightningSepError
from lightning_sep.fsio import storage_errors

_KINDS = ("cuts", "recordings", "kaldi", "shar")
_PLAIN = re.compile(r"[\w@+=-][\w.@+=-]*(/[\w@+=-][\w.@+=-]*)*")  # ids that can be file names
_NO_SUPERVISION = "sound"
# Between what a manifest says and what there is; lhotse mirrors what is missing.
_MISMATCH_S = 0.025
_CLASS_FROM = "custom.class_name"
_READING = 2  # raised where manifests are read otherwise than before: sets are prepared again

Where = str | Mapping[str, str] | None


class LhotseSet(Corpus):
    """Recordings that lhotse knows; each cut, or each supervision, is one recording here.

    Custom fields of a supervision that are known: ``group``, ``session``, and of parts of a mixture
    ``mixture`` (which) and ``stem`` (which part).

    One of ``cuts``, ``recordings``, ``kaldi`` and ``shar`` is given: a path, or a path for each
    split (``{train: a, val: b, test: c}``). With one path for all, 15 % of the speakers each (of
    the recordings, where speakers are not known) validate and test. A cut that is a whole mono file
    is used as it lies; all others are read through lhotse, averaged to mono (unless their channels
    are kept) and stored as FLAC. A mixed cut is of the recordings of which something is said, and
    of all of them where nothing is. A recording that has no supervision, where there are any, is
    left out by name.

    Args:
        cuts: manifest of cuts.
        recordings: manifest of recordings.
        supervisions: manifest of supervisions that belong to ``recordings``.
        kaldi: Kaldi folder (``wav.scp``, ``segments``, ``utt2spk``).
        shar: folder in lhotse's Shar format.
        class_from: what the classes are: ``speaker``, ``text``, or ``custom.NAME`` of the
            supervision, which gives ``speech`` where there is a speaker and no such field.
        seed: another seed gives another split.
        channels: ``mean`` of each cut's, or ``keep``; see
            :class:`~lightning_sep.data.folder.Folder`.
        sample_rate: in Hz; ``None`` takes the rate that most recordings have.
        cache_limit_mb: bound of the decoded cache in MiB.
        keep: see :class:`~lightning_sep.data.corpus.Corpus`.
        test_only: see :class:`~lightning_sep.data.corpus.Corpus`.

    Raises:
        ConfigError: a setting cannot be used, or no supervision has what ``class_from`` names.
    """

    name = "lhotse"

    def __init__(
        self,
        cuts: Where = None,
        recordings: Where = None,
        supervisions: Where = None,
        kaldi: Where = None,
        shar: Where = None,
        class_from: str = _CLASS_FROM,
        seed: int = 0,
        channels: str = "mean",
        sample_rate: int | None = None,
        cache_limit_mb: float | None = None,
        keep: bool = False,
        test_only: bool = False,
    ) -> None:
        super().__init__(sample_rate, cache_limit_mb, keep, test_only)
        given = {"cuts": cuts, "recordings": recordings, "kaldi": kaldi, "shar": shar}
        self._given = {kind: _by_split(kind, where) for kind, where in given.items() if where}
        self._supervisions = _by_split("supervisions", supervisions) if supervisions else {}
        if class_from not in ("speaker", "text") and not re.fullmatch(r"custom\.\w+", class_from):
            raise refusal("class_from", class_from, "known are speaker, text and custom.NAME")
        self.class_from = class_from
        self.channels = one_of("channels", channels, ("mean", "keep"))
        self.seed = whole_number("seed", seed, at_least=None)

    def _source(self) -> tuple[str, dict[str, Path]]:
        """Which kind was given, and where the splits lie; ``""`` stands for all of them.

        Raises:
            ConfigError: none or several were given.
        """
        if len(self._given) != 1:
            raise ConfigError(
                f"data=lhotse needs one of {', '.join(f'data.{kind}=PATH' for kind in _KINDS)}; "
                f"given: {', '.join(self._given) or 'none'}"
            )
        [(kind, places)] = self._given.items()
        if self._supervisions and (kind != "recordings" or set(self._supervisions) != set(places)):
            raise ConfigError(
                "data.supervisions goes with data.recordings, with a path for the same splits"
            )
        for path in (*places.values(), *self._supervisions.values()):
            if not path.exists():
                raise DataError(f"{shown(path)} is not there: data.{kind} names what lhotse wrote")
        return kind, places

    def key(self) -> str:
        """See :meth:`Corpus.key`: changed manifests are another set."""
        kind, places = self._source()
        files = sorted(
            file
            for place in (*places.values(), *self._supervisions.values())
            for file in ([place] if place.is_file() else place.rglob("*"))
            if file.is_file()
        )
        stamps = [[str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns] for f in files]
        facts = [
            _READING,
            *(kind, {split: str(path.resolve()) for split, path in places.items()}, stamps),
            *(self.class_from, self.seed, self.sample_rate, resampler(), self.keep, self.test_only),
            *(["channels"] if self.channels == "keep" else []),
        ]
        return f"lhotse-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"

    def make(self, home: Path, progress: Progress | None = None) -> Path:
        """See :meth:`Corpus.make`."""
        kind, places = self._source()
        folder = home / f"{BUILDING}{self.name}-made-{uuid4().hex[:8]}"
        told = ", ".join(str(path.resolve()) for path in places.values())
        seen = _Seen()
        try:
            with storage_errors(folder), _strict():
                cuts = [
                    (split, cut)
                    for split, place in places.items()
                    for cut in self._cuts(kind, split, place, seen)
                ]
                _refuse_overlap(cuts, told)
                entries = [
                    self._entry(split, cut, folder, seen)
                    for split, cut in _told(cuts, progress, self.name)
                ]
                if not seen.classes and self.class_from != _CLASS_FROM:
                    raise ConfigError(
                        f"data.class_from={self.class_from}: no supervision of {shown(told)} has it"
                    )
                return build(
                    entries,
                    Origin(
                        name=self.name,
                        source=told,
                        licence="the user's",
                        split_rule="as given, manifest by manifest",
                        left_out={"without a supervision": seen.unsaid} if seen.unsaid else {},
                        notes=seen.notes(),
                    ),
                    home=home,
                    sample_rate=self.sample_rate,
                    cache_limit_mb=self.cache_limit_mb,
                    keep=self.keep,
                    keep_channels=self.channels == "keep",
                    splitter=partial(self._drawn, seen.of) if "" in places else None,
                    test_only=self.test_only,
                    progress=progress,
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _cuts(self, kind: str, split: str, place: Path, seen: "_Seen") -> Iterator[Any]:
        """lhotse's cuts of one split.

        Raises:
            DataError: lhotse cannot read them, or they do not fit one another.
        """
        from lhotse import CutSet, RecordingSet, SupervisionSet
        from lhotse.cut import Cut

        try:
            if kind == "cuts":
                for cut in _from_here(CutSet.from_file(place), place):
                    if not isinstance(cut, Cut):
                        raise TypeError(f"a {type(cut).__name__} is no cut")
                    yield cut
            elif kind == "shar":
                yield from CutSet.from_shar(in_dir=place)
            else:
                if kind == "kaldi":
                    recordings, supervisions = of_kaldi(place, self.sample_rate)
                else:
                    recordings = RecordingSet.from_file(place)
                    given = self._supervisions.get(split)
                    supervisions = None if given is None else SupervisionSet.from_file(given)
                cuts = CutSet.from_manifests(recordings=recordings, supervisions=supervisions)
                if supervisions is not None:
                    _refuse_unknown(recordings, supervisions, place)
                    cuts = CutSet.from_cuts(_supervised(cuts, seen))
                yield from _from_here(cuts, place)
        except (LightningSepError, OSError):
            raise
        except Exception as error:  # lhotse raises whatever its parsers do
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise DataError(
                f"{shown(place)}: lhotse cannot read it as {kind} ({reason})"
            ) from error

    def _entry(self, split: str, cut: Any, folder: Path, seen: "_Seen") -> Entry:
        speakers = {one.speaker for one in cut.supervisions if one.speaker}
        texts = [one.text for one in cut.supervisions if one.text]
        custom: dict[str, Any] = {}
        for one in cut.supervisions:
            custom |= one.custom or {}
        mixture, stem = str(custom.get("mixture", "")), str(custom.get("stem", ""))
        speaker = speakers.pop() if len(speakers) == 1 else ""
        text = " ".join(texts)
        named = {"speaker": speaker, "text": text}
        kind = named.get(self.class_from, "")
        if self.class_from.startswith("custom."):
            kind = str(custom.get(self.class_from.removeprefix("custom."), ""))
        seen.classes += bool(kind)
        spoken = bool(speaker)
        identity = str(cut.id)
        if not _PLAIN.fullmatch(identity):
            identity = f"cut-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        recordings = sorted({str(part.recording.id) for part in _parts(cut)})
        seen.of[identity] = recordings
        path = _as_it_lies(cut)
        temporary = path is None
        if path is None:
            path = folder / f"{identity}.flac"
            samples, clipped = _samples(cut, self.channels == "keep")
            if clipped:
                seen.clipped.append(str(cut.id))
            write_flac(path, samples, int(cut.sampling_rate))
        return Entry(
            id=identity,
            path=path,
            class_name=kind or ("speech" if spoken else _NO_SUPERVISION),
            group=str(custom.get("group") or ("speech" if spoken else _NO_SUPERVISION)),
            speaker=speaker,
            text=text,
            source="" if split else mixture or (recordings[0] if len(recordings) == 1 else ""),
            session=str(custom.get("session", "")),
            mixture=mixture if stem else "",
            stem=stem if mixture else "",
            pieces=whole(split or "train"),
            temporary=temporary,
        )

    def _drawn(
        self, of: Mapping[str, list[str]], entries: Sequence[Entry], heard: Sequence[str]
    ) -> tuple[list[Pieces], str]:
        """See :data:`~lightning_sep.data.manifests.Splitter`; ``of`` are the recordings of each."""
        labels = [
            [f"r {one}" for one in (entry.source, *of[entry.id]) if one]
            + [f"{kind} {key}" for kind, key in (("s", entry.speaker), ("c", sound)) if key]
            for entry, sound in zip(entries, heard, strict=True)
        ]
        groups = joined(labels)
        names = [entries[group].id for group in groups]
        splits = split_by_key(names, seed=self.seed, strata=[e.class_name for e in entries])
        rule = f"by speaker and recording, in an order seeded by {self.seed}"
        return [whole(split) for split in splits], rule


@dataclass
class _Seen:
    """What is known once all cuts were seen.

    Args:
        classes: how many have what the classes are made of.
        of: the recordings that each is of, by its id.
        unsaid: recordings without a supervision.
        beyond: supervisions that end after their recording.
        clipped: cuts that reach beyond full scale.
    """

    classes: int = 0
    of: dict[str, list[str]] = field(default_factory=dict)
    unsaid: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
    clipped: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """What the set should say of them, a line each."""
        told = [
            (self.beyond, "supervisions go on after the end of their recording, and end with it"),
            (self.clipped, "cuts reach beyond full scale, where they are clipped"),
        ]
        return [f"{len(one)} {what}: {some(list(map(shown, one)))}" for one, what in told if one]


@contextmanager
def _strict() -> Iterator[None]:
    """While this lasts, lhotse does not make up half a second of audio that is not there."""
    from lhotse.audio import (
        get_audio_duration_mismatch_tolerance,
        set_audio_duration_mismatch_tolerance,
    )

    before_s = get_audio_duration_mismatch_tolerance()
    with warnings.catch_warnings(action="ignore"):  # it advises against less than half a second
        set_audio_duration_mismatch_tolerance(_MISMATCH_S)
    try:
        yield
    finally:
        set_audio_duration_mismatch_tolerance(before_s)


def _by_split(kind: str, where: Where) -> dict[str, Path]:
    """Paths by split, ``""`` where one is for all."""
    if isinstance(where, str):
        return {"": Path(where).expanduser()}
    if not isinstance(where, Mapping) or not all(isinstance(one, str) for one in where.values()):
        raise refusal(kind, where, "a path is needed, or {train: PATH, val: PATH, test: PATH}")
    named = {name: split_named(str(name)) for name in where}
    unknown = [str(name) for name, split in named.items() if not split]
    if unknown or len(set(named.values())) < len(named):
        raise refusal(kind, dict(where), "the keys train, val and test are needed, each once")
    return {named[name]: Path(path).expanduser() for name, path in where.items()}


def _told(
    cuts: list[tuple[str, Any]], progress: Progress | None, name: str
) -> Iterator[tuple[str, Any]]:
    for number, (split, cut) in enumerate(cuts):
        if progress is not None:
            progress(number, len(cuts) + 1, f"{name}: cut {shown(str(cut.id))}")
        yield split, cut


def _refuse_unknown(recordings: Any, supervisions: Any, place: Path) -> None:
    """Nothing is said of a recording that is not there: lhotse would pass it over.

    Raises:
        DataError: it is.
    """
    known = {one.id for one in recordings}
    unknown = [shown(str(one.id)) for one in supervisions if one.recording_id not in known]
    if unknown:
        raise DataError(
            f"{shown(place)} lacks the recordings of {len(unknown)} supervisions: {some(unknown)}"
        )


def _supervised(cuts: Any, seen: "_Seen") -> Iterator[Any]:
    """A cut for each supervision, with nothing but that, from cuts of whole recordings."""
    for cut in cuts:
        if not cut.supervisions:
            seen.unsaid.append(str(cut.recording.id))
        for one in cut.supervisions:
            if one.end > cut.duration + _MISMATCH_S:
                seen.beyond.append(str(one.id))
            yield from replace(cut, supervisions=[one]).trim_to_supervisions()


def _from_here(cuts: Any, place: Path) -> Any:
    """Cuts whose relative paths start at the manifest, where they do not start here."""
    for cut in cuts:
        recording = getattr(cut, "recording", None)
        sources = recording.sources if recording else []
        paths = [Path(one.source) for one in sources if one.type == "file"]
        away = any(not path.is_absolute() and not path.exists() for path in paths)
        return cuts.with_recording_path_prefix(place.parent) if away else cuts
    return cuts


def _parts(cut: Any) -> list[Any]:
    """A cut itself, or those that it is mixed of; without those that are of no recording, and
    without those that nothing is said of, if of any something is."""
    cuts = [track.cut for track in cut.tracks] if hasattr(cut, "tracks") else [cut]
    found = [one for one in cuts if getattr(one, "recording", None)]
    return [one for one in found if one.supervisions] or found


def _as_it_lies(cut: Any) -> Path | None:
    """The file that a cut is, where it is a whole one and one channel of one."""
    recording = getattr(cut, "recording", None)
    if recording is None or recording.transforms or len(recording.sources) != 1:
        return None
    [source] = recording.sources
    everything = cut.start == 0 and cut.num_samples == recording.num_samples
    if source.type != "file" or recording.num_channels != 1 or not everything:
        return None
    path = Path(source.source)
    with suppress(OSError, RuntimeError):  # what cannot be read is named with all that cannot
        there_s = soundfile.info(path).duration
        if abs(there_s - recording.duration) > _MISMATCH_S:
            raise DataError(
                f"cut {shown(str(cut.id))}: {shown(path)} has {there_s:g} s, its manifest says "
                f"{recording.duration:g} s: was it changed? Write the manifest anew"
            )
    return path


def _samples(cut: Any, keep_channels: bool) -> tuple[Int16, int]:
    """Samples of a cut, ``[time, channel]``, and how many of them had to be clipped.

    Raises:
        DataError: lhotse cannot load them.
    """
    try:
        loaded = cut.load_audio()
        if loaded is None:
            raise ValueError("it has no recording")
        samples = np.asarray(loaded, dtype=np.float64).T
    except Exception as error:  # lhotse raises whatever its backends do
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(f"cut {shown(str(cut.id))} cannot be loaded by lhotse: {reason}") from error
    return to_int16(samples if keep_channels else samples.mean(axis=1))


def _refuse_overlap(cuts: list[tuple[str, Any]], told: str) -> None:
    """Cuts of two splits share no stretch of a recording.

    Raises:
        DataError: they do.
    """
    places: dict[str, list[tuple[float, float, str, str]]] = defaultdict(list)
    for split, cut in cuts:
        for part in _parts(cut) if split else ():
            places[str(part.recording.id)].append((part.start, part.end, split, str(cut.id)))
    shared = []
    for stretches in places.values():
        reach: dict[str, tuple[float, str]] = {}  # how far each split has got, and by which cut
        for start, end, split, name in sorted(stretches):
            shared += [
                f"{shown(other)} in {there} and {shown(name)} in {split}"
                for there, (until, other) in reach.items()
                if there != split and until > start
            ]
            reach[split] = max(reach.get(split, (0.0, "")), (end, name))
    if shared:
        raise DataError(
            f"{told}: cuts of two splits share a stretch of a recording: {some(sorted(shared))}"
        )
