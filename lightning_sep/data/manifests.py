"""From a list of audio files to a prepared set: checks, FLAC, lhotse manifests, statistics, cache.

A prepared set is one folder, built aside and renamed, named after a hash of its labels, splits
and samples::

    <data home>/<name>-<hash>/
        source.json        where it came from: checksums, licence, resampler, what was done
        items.json         the same labels and places as the manifests, as columns that open fast
        statistics.json    peak, mean, std and rms of the train part, in all and per group
        {split}_recordings.jsonl.gz  {split}_supervisions.jsonl.gz  {split}_cuts.jsonl.gz
        audio/             FLAC of every file that had to be changed (or made)
        cache/             the decoded int16 file
"""

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias
from uuid import uuid4

import numpy as np

from lightning_sep.data.audio_files import (
    FULL_SCALE,
    MONO_RULE,
    MOST_CHANNELS,
    SILENCE_DBFS,
    SILENCE_RMS,
    AudioFile,
    BadAudio,
    FlacWriter,
    Int16,
    header,
    read_int16,
    resampler,
)
from lightning_sep.data.cache import CacheFile, cache_key, locked_if_free, room
from lightning_sep.data.names import is_text, shown, some
from lightning_sep.data.splits import SPLITS, Piece, whole
from lightning_sep.errors import DataError
from lightning_sep.fsio import sha256_file, storage_errors, sync_folder, write_json

FORMAT = 1
BUILDING = ".building-"
_LEFTOVER = re.compile(rf"{re.escape(BUILDING)}(?P<name>.+)-(?:\d+|made|old)-[0-9a-f]+")
MIXTURE, NOISE = "mixture", "noise"
"""Stems that are no source: the recorded sum of all, and what is heard and not to be estimated."""
_SHOWN = 10  # bad files named in one error
_LONGEST = 240  # bytes of a copy's name before suffixes; file systems hold 255
_CUSTOM = ("session", "mixture", "stem")  # fields of a supervision that few sets have
_TOLD = 1 << 24  # samples of a long file between two words about it

Progress = Callable[[int, int, str], object]
"""Called as ``progress(done, total, text)`` while a set is prepared."""

Pieces: TypeAlias = tuple[Piece, ...]  # which stretch of a recording belongs to which split


@dataclass(frozen=True)
class Entry:
    """One audio file of a set, and what is known about it.

    Args:
        id: unique within the set: the file's name relative to its audio folder.
        path: where the file lies now.
        class_name: what it sounds like, for mixing and per-class figures.
        group: ``speech``, ``noise`` or ``music`` (any word for a user's own folder).
        speaker: who speaks; empty where nobody does or nobody knows.
        text: what is said, where known.
        source: what must not be in two splits, besides the speaker; empty where nothing is known.
        session: in which sitting, call or video it was recorded; empty where nobody knows.
        mixture: of which song or recorded mixture it is a part; empty for a sound by itself.
        stem: which part of it, another for each; :data:`MIXTURE` is the recorded sum of the
            others, :data:`NOISE` a part that is no source.
        pieces: which stretch belongs to which split; almost always one split for all of it.
        temporary: the file goes away when the set is prepared, so a copy is kept.
    """

    id: str
    path: Path
    class_name: str
    group: str
    speaker: str = ""
    text: str = ""
    source: str = ""
    session: str = ""
    mixture: str = ""
    stem: str = ""
    pieces: Pieces = field(default_factory=lambda: whole("train"))
    temporary: bool = False


@dataclass(frozen=True)
class Origin:
    """What is written down about where a set came from.

    Args:
        name: of the set, as in ``data=<name>``.
        source: folder that was prepared, or what made it.
        licence: in one line.
        split_rule: how the splits were made, in one line.
        checksums: SHA-256 of files by entry id, where the set brings them.
        table_sha256: of the table that says what is in them, where the set brings one.
        left_out: names of files that were found and are not prepared, by the reason.
        notes: what else a user should know of what was done, a line each.
        common_speakers: splits that share their speakers on purpose.
    """

    name: str
    source: str
    licence: str
    split_rule: str
    checksums: Mapping[str, str] = field(default_factory=dict)
    table_sha256: str = ""
    left_out: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: Sequence[str] = ()
    common_speakers: frozenset[str] = frozenset()


Splitter: TypeAlias = Callable[[Sequence[Entry], Sequence[str]], tuple[list[Pieces], str]]
"""Called with the entries and a hash of what is heard in each (empty for silence), when all files
are read; gives the pieces of each entry and the rule that was used, in one line."""


def build(
    entries: Sequence[Entry],
    origin: Origin,
    *,
    home: Path,
    sample_rate: int | None,
    cache_limit_mb: float | None = None,
    store_all: bool = False,
    keep: bool = False,
    keep_channels: bool = False,
    splitter: Splitter | None = None,
    test_only: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Prepare a set and return its folder; the caller holds the lock of the set.

    Args:
        entries: the files, in any order.
        origin: what to write down about them.
        home: the data home.
        sample_rate: in Hz; ``None`` keeps the rate that most files have (ties: the lower).
        cache_limit_mb: no decoded cache is written beyond this; ``None`` is what the disk holds.
        store_all: keep FLAC copies even of files that could be read where they lie.
        keep: take files whose levels or rates no good recording has, and say so in the set.
        keep_channels: make a set of as many channels as the files have, instead of taking their
            mean; files of one channel are in all of them alike.
        splitter: decides the splits once all files are read; without it the entries say theirs.
        test_only: everything is the test part, whatever the entries and ``splitter`` say.
        progress: called for each file.

    Raises:
        DataError: files that cannot be used (all of them named at once), or nothing to train on.
        StorageError: the disk refused.
    """
    entries = sorted(entries, key=lambda entry: entry.id)
    listed = Counter(entry.id for entry in entries)
    doubled = [f"'{shown(name)}' is listed {n} times" for name, n in listed.items() if n > 1]
    if doubled:
        raise DataError(f"{shown(origin.source)}: {some(doubled)}. One row a file is needed")
    if not entries:
        raise DataError(f"{shown(origin.source)} lists no audio file: is it the right folder?")
    aside = home / f"{BUILDING}{origin.name}-{os.getpid()}-{uuid4().hex[:8]}"
    try:
        with storage_errors(aside):
            (aside / "audio").mkdir(parents=True)
            rate, most = _common(entries, sample_rate, keep_channels)
            draft = _Draft(entries, origin, rate, most, aside, store_all, keep, progress)
            limit = room(aside) if cache_limit_mb is None else int(cache_limit_mb * (1 << 20))
            draft.read(CacheFile(aside / "cache", "draft", most), limit)
            content = draft.finish(home, _all_test if test_only else splitter)
            _rename_cache(aside, content, rate)
            folder = _final(home, origin.name, content)
            old = home / f"{BUILDING}{origin.name}-old-{uuid4().hex[:8]}"
            if folder.exists():  # the same content again: the new copy mends what was damaged
                os.replace(folder, old)
            os.replace(aside, folder)
            sync_folder(home)
            shutil.rmtree(old, ignore_errors=True)
            return folder
    finally:
        if aside.exists():
            shutil.rmtree(aside, ignore_errors=True)


def _final(home: Path, name: str, content: str) -> Path:
    return home / f"{name}-{content[:12]}"


def _all_test(entries: Sequence[Entry], heard: Sequence[str]) -> tuple[list[Pieces], str]:
    return [whole("test") for _ in entries], "all of it is for testing (data.test_only)"


def sweep_builds(home: Path, name: str) -> None:
    """Remove what builds left behind that were killed.

    Args:
        home: the data home.
        name: of the set whose lock the caller holds. Folders of other sets are removed where
            nobody holds theirs.
    """
    for path in home.glob(f"{BUILDING}*"):
        match = _LEFTOVER.fullmatch(path.name)
        if match is None:
            continue
        if match["name"] == name:
            shutil.rmtree(path, ignore_errors=True)
            continue
        with locked_if_free(home / f".lock-{match['name']}") as free:
            if free:
                shutil.rmtree(path, ignore_errors=True)


def _common(
    entries: Sequence[Entry], sample_rate: int | None, keep_channels: bool
) -> tuple[int, int]:
    """Rate in Hz and number of channels of the set, from the files' headers where needed.

    Raises:
        DataError: a file has more channels than can be kept.
    """
    if sample_rate is not None and not keep_channels:
        return sample_rate, 1
    found = {entry.id: header(entry.path) for entry in entries}
    # headers that cannot be read are named with the other bad files when those are read
    known = {name: one for name, one in found.items() if one is not None}
    rates = Counter(rate for rate, _ in known.values())
    # nothing can be read: the rate does not matter, the error will come
    rate = min(rates, key=lambda rate: (-rates[rate], rate)) if rates else 8000
    if not keep_channels:
        return rate, 1
    many = [shown(name) for name, (_, count) in known.items() if count > MOST_CHANNELS]
    if many:
        raise DataError(
            f"{some(many)}: more than {MOST_CHANNELS} channels cannot be kept; data.channels=mean "
            "takes their mean"
        )
    return sample_rate or rate, max((count for _, count in known.values()), default=1)


def stored_names(ids: Sequence[str]) -> dict[str, str]:
    """Where the copy of each file lies in the folder of its set, by id; no two in one place.

    Example:
        >>> stored_names(["b.wav", "b.wav.flac"])
        {'b.wav': 'audio/b.wav.flac', 'b.wav.flac': 'audio/b.wav.flac.flac'}
    """
    taken = {str(folder) for one in ids for folder in PurePosixPath(one).parents}
    names = {}
    for one in ids:
        folder, _, last = one.rpartition("/")
        if len(os.fsencode(last)) > _LONGEST:
            last = hashlib.sha256(last.encode("utf-8", "surrogateescape")).hexdigest()
        name = f"{folder}/{last}" if folder else last
        while not name.endswith(".flac") or name in taken:
            name += ".flac"
        taken.add(name)
        names[one] = f"audio/{name}"
    return names


class _Draft:
    """The folder of a set while it is being built."""

    def __init__(
        self,
        entries: Sequence[Entry],
        origin: Origin,
        rate: int,
        channels: int,
        folder: Path,
        store_all: bool,
        keep: bool,
        progress: Progress | None,
    ) -> None:
        self.entries = entries
        self.origin = origin
        self.rate = rate
        self.channels = channels
        self.folder = folder
        self.store_all = store_all
        self.keep = keep
        self.progress = progress
        self.names = stored_names([entry.id for entry in entries])
        self.recordings: list[dict[str, Any]] = []
        self.files: dict[str, dict[str, Any]] = {}
        self.counts: Counter[str] = Counter()
        self.whole: list[_Moments] = []  # of each recording
        self.kept: dict[str, list[str]] = {}
        self.bad: list[str] = []
        self.keepable = 0

    def read(self, cache: CacheFile, limit_bytes: int) -> None:
        """Read every file once: check, convert, measure, and fill the cache while at it.

        Raises:
            DataError: files that cannot be used.
        """
        cache.write((self._blocks(n, entry) for n, entry in enumerate(self.entries)), limit_bytes)
        self._tell(len(self.entries), "manifests")
        if self.bad:
            start = " " if len(self.bad) == 1 else "\n    "
            stop = "." if len(self.bad) == 1 else ""
            more = f"\n    and {len(self.bad) - _SHOWN} more" if len(self.bad) > _SHOWN else ""
            keep = (
                f"{stop}{start}data.keep=true (`data prepare` has --keep) takes what is only "
                "clipped, cancels, or has such a rate or end"
            )
            raise DataError(
                f"{len(self.bad)} of {len(self.entries)} files of {shown(self.origin.source)} "
                "cannot be used:"
                + "".join(f"{start}{line}" for line in self.bad[:_SHOWN])
                + more
                + (keep if self.keepable else "")
            )

    def _tell(self, done: int, text: str) -> None:
        if self.progress is not None:
            self.progress(done, len(self.entries), f"{self.origin.name}: {text}")

    def _blocks(self, number: int, entry: Entry) -> Iterator[Int16]:
        """The samples of one file, block by block, while they are measured and stored."""
        self._tell(number, shown(entry.id))
        file = AudioFile(
            entry.path,
            sample_rate=self.rate,
            wanted_channels=self.channels,
            sha256=self.origin.checksums.get(entry.id),
            keep=self.keep,
        )
        digest, moments = hashlib.sha256(), _Moments()
        place = str(entry.path.resolve())
        copied = self.store_all or entry.temporary or not is_text(place)
        name = self.names[entry.id]
        stored = False
        try:
            with contextlib.ExitStack() as stack:
                writer: FlacWriter | None = None
                for samples in file.blocks():
                    digest.update(samples.astype("<i2", copy=False).tobytes())
                    moments.add(samples)
                    if writer is None and (copied or not file.as_is):
                        writer = stack.enter_context(
                            FlacWriter(self.folder / name, self.rate, self.channels)
                        )
                    if writer is not None:
                        writer.write(samples)
                    if moments.count // _TOLD > (moments.count - samples.size) // _TOLD:
                        minutes = moments.count / self.channels / self.rate / 60
                        self._tell(number, f"{shown(entry.id)}: {minutes:.0f} min of it")
                    yield samples
                stored = writer is not None
        except BadAudio as error:
            self.bad.append(f"{shown(entry.path)}: {error}")
            self.keepable += error.keepable
            return
        self._add(entry, file, moments, digest.hexdigest(), name if stored else place)

    def _add(
        self, entry: Entry, file: AudioFile, moments: "_Moments", digest: str, place: str
    ) -> None:
        stored = not Path(place).is_absolute()
        self.counts["files"] += 1
        self.counts["averaged to mono"] += file.channels > self.channels
        if self.channels > 1:
            self.counts["mono in all channels"] += file.channels == 1
        self.counts["resampled"] += file.source_rate != self.rate
        self.counts["clipped in conversion"] += file.clipped > 0
        self.counts["silent"] += moments.silent
        self.counts["stored as FLAC"] += stored
        if file.kept:
            self.kept[entry.id] = file.kept
        self.files[entry.id] = {
            "path": place,
            "sha256": sha256_file(self.folder / place) if stored else file.file_sha256,
            "source_sha256": file.file_sha256,
        }
        self.recordings.append(
            {
                "id": entry.id,
                "path": place,
                "samples": moments.count // self.channels,
                "sha256": digest,
            }
        )
        self.whole.append(moments)

    def finish(self, home: Path, splitter: Splitter | None) -> str:
        """Split, write manifests and facts; return the hash of the content.

        Args:
            home: where the folder will lie in the end.
            splitter: see :func:`build`.

        Raises:
            DataError: a split is empty, all files are silent, or two splits share what they must
                not.
        """
        source = shown(self.origin.source)
        if all(moments.silent for moments in self.whole):
            if not self.keep:
                raise DataError(
                    f"{source}: all {len(self.whole)} files are silent (below {SILENCE_DBFS:.0f} "
                    "dBFS): is it the right folder? data.keep=true (`data prepare` has --keep) "
                    "takes them"
                )
            self.kept |= {recording["id"]: ["is silent"] for recording in self.recordings}
        heard = [
            "" if moments.silent else recording["sha256"]
            for moments, recording in zip(self.whole, self.recordings, strict=True)
        ]
        pieces, rule = [entry.pieces for entry in self.entries], self.origin.split_rule
        if splitter is not None:
            pieces, rule = splitter(self.entries, heard)
        refuse_shared(self.entries, pieces, heard, self.origin)
        items, moments = self._items(pieces)
        present = Counter(item["split"] for item in items)
        missing = [split for split in SPLITS if not present[split]]
        if missing and splitter is not _all_test:
            raise DataError(
                f"{source}: nothing is left for {' and '.join(missing)} ({rule}). More files, "
                "speakers or sources are needed, or a column 'split' in metadata.csv. To only test "
                "on all of it: data.test_only=true"
            )
        facts: list[Any] = [
            FORMAT,
            self.origin.name,
            self.rate,
            MONO_RULE if self.channels == 1 else f"{self.channels} channels",
            [[r["id"], r["samples"], r["sha256"]] for r in self.recordings],
            items,
        ]
        if self.kept:
            facts.append(sorted(self.kept))
        content = hashlib.sha256(json.dumps(facts).encode()).hexdigest()
        write_json(self.folder / "statistics.json", {k: m.facts() for k, m in moments.items()})
        columns = {key: [item[key] for item in items] for key in items[0]}
        write_json_compact(
            self.folder / "items.json", {"recordings": self.recordings, "items": columns}
        )
        final = _final(home.resolve(), self.origin.name, content)
        manifests = _write_manifests(
            self.folder, self.recordings, items, self.rate, self.channels, final
        )
        named = ("items.json", "statistics.json", *manifests)
        left_out = {
            reason: {"files": len(names), "examples": [shown(name) for name in sorted(names)[:3]]}
            for reason, names in sorted(self.origin.left_out.items())
        }
        write_json(
            self.folder / "source.json",
            {
                "format": FORMAT,
                "name": self.origin.name,
                "hash": content,
                "source": source if not is_text(self.origin.source) else self.origin.source,
                "licence": self.origin.licence,
                "split_rule": rule,
                "sample_rate": self.rate,
                **({"mono_rule": MONO_RULE} if self.channels == 1 else {"channels": self.channels}),
                "resampler": resampler(),
                "found": len(self.entries) + sum(map(len, self.origin.left_out.values())),
                "left_out": left_out,
                "kept": self.kept,
                "notes": list(self.origin.notes),
                "counts": dict(self.counts),
                "manifests": {name: sha256_file(self.folder / name) for name in named},
                "files": self.files,
                **({"table_sha256": table} if (table := self.origin.table_sha256) else {}),
            },
        )
        return content

    def _items(
        self, pieces: Sequence[Pieces]
    ) -> tuple[list[dict[str, Any]], dict[str, "_Moments"]]:
        """The pieces as rows, and the moments of those that train, in all and by group."""
        items: list[dict[str, Any]] = []
        # else hashes are as without them
        sessions = any(entry.session for entry in self.entries)
        stems = any(entry.stem for entry in self.entries)
        moments: dict[str, _Moments] = defaultdict(_Moments)
        for number, (entry, own) in enumerate(zip(self.entries, pieces, strict=True)):
            samples = self.recordings[number]["samples"]
            for split, low, high in own:
                start, stop = round(low * samples), round(high * samples)
                if stop <= start:
                    continue
                items.append(
                    {
                        "recording": number,
                        "start": start,
                        "samples": stop - start,
                        "split": split,
                        "class": entry.class_name,
                        "group": entry.group,
                        "speaker": entry.speaker,
                        "text": entry.text,
                        "silent": self.whole[number].silent,
                        **({"session": entry.session} if sessions else {}),
                        **({"mixture": entry.mixture, "stem": entry.stem} if stems else {}),
                    }
                )
                if split == "train" and entry.stem != MIXTURE:
                    piece = self.whole[number]
                    if stop - start < samples:
                        piece = _Moments()
                        path = self.folder / self.recordings[number]["path"]
                        for block in read_int16(path, start, stop):
                            piece.add(block)
                    for part in ("", entry.group):
                        moments[part].merge(piece)
        return items, moments


def refuse_shared(
    entries: Sequence[Entry], pieces: Sequence[Pieces], heard: Sequence[str], origin: Origin
) -> None:
    """Splits share no speaker, no source and no sound, whoever made them.

    Recordings that are themselves split in time are left out: they are in every split by intent.

    Args:
        entries: the files.
        pieces: of each file.
        heard: a hash of what is heard in each file; empty for silence.
        origin: names the set, and splits that share speakers on purpose.

    Raises:
        DataError: they do; up to three examples of each are named.
    """
    places: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)  # split -> a file, by key
    for entry, own, sound in zip(entries, pieces, heard, strict=True):
        if len(own) != 1:
            continue
        keys = (("speaker", entry.speaker), ("source", entry.source), ("content", sound))
        for kind, key in keys:
            if key:
                places[kind, key].setdefault(own[0][0], entry.id)
    problems = []
    for kind in ("speaker", "source", "content"):
        torn = []
        for (found, key), files in sorted(places.items()):
            if found != kind or len(files) < 2:
                continue
            if kind == "speaker" and set(files) <= origin.common_speakers:
                continue
            where = ", ".join(
                f"'{shown(files[split])}' in {split}" for split in SPLITS if split in files
            )
            torn.append(f"({where})" if kind == "content" else f"'{shown(key)}' ({where})")
        if torn:
            what = "the same sound" if kind == "content" else f"{kind}"
            problems.append(f"{what} {some(torn)}")
    if problems:
        raise DataError(
            f"{shown(origin.source)}: splits share what must be in one of them alone: "
            f"{'; '.join(problems)}. Move or remove files, or leave the split to this program"
        )


def _rename_cache(folder: Path, content: str, rate: int) -> None:
    """Give the cache its key, which is known only now."""
    draft = CacheFile(folder / "cache", "draft")
    if not draft.facts_path.exists():
        return
    key = cache_key(content=content, sample_rate=rate, resampler=resampler())
    final = CacheFile(folder / "cache", key)
    os.replace(draft.samples_path, final.samples_path)
    os.replace(draft.offsets_path, final.offsets_path)
    write_json(final.facts_path, json.loads(draft.facts_path.read_text()) | {"key": key})
    draft.facts_path.unlink()


class _Moments:
    """Peak, mean and power of the samples of all channels, which come in parts; sums of whole
    numbers, so exact."""

    def __init__(self) -> None:
        self.count = self.sum = self.squares = self.peak = 0

    def add(self, samples: Int16) -> None:
        wide = samples.astype(np.int64)
        self.count += wide.size
        self.sum += int(wide.sum())
        self.squares += int(np.square(wide).sum())
        self.peak = max(self.peak, int(np.abs(wide).max(initial=0)))

    def merge(self, other: "_Moments") -> None:
        self.count += other.count
        self.sum += other.sum
        self.squares += other.squares
        self.peak = max(self.peak, other.peak)

    @property
    def silent(self) -> bool:
        return bool(math.sqrt(self.squares / self.count) / FULL_SCALE < SILENCE_RMS)

    def facts(self) -> dict[str, float]:
        mean, power = self.sum / self.count, self.squares / self.count
        return {
            "samples": self.count,
            "peak": self.peak / FULL_SCALE,
            "mean": mean / FULL_SCALE,
            "std": float(np.sqrt(max(power - mean * mean, 0.0))) / FULL_SCALE,
            "rms": float(np.sqrt(power)) / FULL_SCALE,
        }


def write_json_compact(path: Path, value: Any) -> None:
    """JSON on one line: columns of a big set are read by programs."""
    from lightning_sep.fsio import write_aside

    write_aside(path, json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def _write_manifests(
    folder: Path,
    recordings: list[dict[str, Any]],
    items: list[dict[str, Any]],
    rate: int,
    channels: int,
    final: Path,
) -> list[str]:
    """lhotse recordings, supervisions and cuts of each split; returns the files' names.

    Paths of audio are absolute, from where the folder will lie in the end (``final``), so that
    lhotse finds it from anywhere.
    """
    from lhotse import (
        CutSet,
        MonoCut,
        MultiCut,
        Recording,
        RecordingSet,
        SupervisionSegment,
        SupervisionSet,
    )
    from lhotse.audio import AudioSource

    every = list(range(channels))
    about: dict[str, Any] = {"channel": 0 if channels == 1 else every}
    made = [
        Recording(
            id=r["id"],
            sources=[AudioSource(type="file", channels=every, source=str(final / r["path"]))],
            sampling_rate=rate,
            num_samples=r["samples"],
            duration=r["samples"] / rate,
        )
        for r in recordings
    ]
    names = []
    for split in SPLITS:
        cuts, supervisions = [], []
        for item in (item for item in items if item["split"] == split):
            recording = made[item["recording"]]
            start, duration = item["start"] / rate, item["samples"] / rate
            supervision = SupervisionSegment(
                id=f"{recording.id}@{item['start']}",
                recording_id=recording.id,
                start=start,
                duration=duration,
                **about,
                text=item["text"] or None,
                speaker=item["speaker"] or None,
                custom={
                    "class_name": item["class"],
                    "group": item["group"],
                    "silent": item["silent"],
                    **{name: item[name] for name in _CUSTOM if item.get(name)},
                },
            )
            supervisions.append(supervision)
            cuts.append(
                (MonoCut if channels == 1 else MultiCut)(
                    id=supervision.id,
                    start=start,
                    duration=duration,
                    **about,
                    recording=recording,
                    supervisions=[supervision.with_offset(-start)],
                )
            )
        used = {cut.recording.id: cut.recording for cut in cuts}
        for kind, manifest in (
            ("recordings", RecordingSet.from_recordings(used.values())),
            ("supervisions", SupervisionSet.from_segments(supervisions)),
            ("cuts", CutSet.from_cuts(cuts)),
        ):
            names.append(f"{split}_{kind}.jsonl.gz")
            manifest.to_file(folder / names[-1])
    return names
