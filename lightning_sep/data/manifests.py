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

import hashlib
import json
import os
import shutil
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import soundfile

from lightning_sep.data.audio_files import (
    FULL_SCALE,
    MONO_RULE,
    SILENCE_RMS,
    BadAudio,
    Decoded,
    Int16,
    decode,
    resampler,
    write_flac,
)
from lightning_sep.data.cache import CacheFile, cache_key
from lightning_sep.data.splits import SPLITS, Piece, whole
from lightning_sep.errors import DataError
from lightning_sep.fsio import sha256_file, storage_errors, sync_folder, write_json

FORMAT = 1
BUILDING = ".building-"
_SHOWN = 10  # bad files named in one error

Progress = Callable[[int, int, str], object]
"""Called as ``progress(done, total, text)`` while a set is prepared."""


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
        pieces: which stretch belongs to which split; almost always one split for all of it.
    """

    id: str
    path: Path
    class_name: str
    group: str
    speaker: str = ""
    text: str = ""
    pieces: tuple[Piece, ...] = field(default_factory=lambda: whole("train"))


@dataclass(frozen=True)
class Origin:
    """What is written down about where a set came from.

    Args:
        name: of the set, as in ``data=<name>``.
        source: folder that was prepared, or what made it.
        licence: in one line.
        split_rule: how the splits were made, in one line.
        checksums: SHA-256 of files by entry id, where the set brings them.
    """

    name: str
    source: str
    licence: str
    split_rule: str
    checksums: Mapping[str, str] = field(default_factory=dict)


def build(
    entries: Sequence[Entry],
    origin: Origin,
    *,
    home: Path,
    sample_rate: int | None,
    cache_limit_bytes: int,
    store_all: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Prepare a set and return its folder; the caller holds the lock of the set.

    Args:
        entries: the files, in any order.
        origin: what to write down about them.
        home: the data home.
        sample_rate: in Hz; ``None`` keeps the rate that most files have (ties: the lower).
        cache_limit_bytes: no decoded cache is written beyond this.
        store_all: keep FLAC copies even of files that could be read where they lie.
        progress: called for each file.

    Raises:
        DataError: files that cannot be used (all of them named at once), or nothing to train on.
        StorageError: the disk refused.
    """
    entries = sorted(entries, key=lambda entry: entry.id)
    doubled = [name for name, n in Counter(entry.id for entry in entries).items() if n > 1]
    if doubled:
        raise DataError(f"{origin.source}: '{doubled[0]}' is listed {len(doubled) + 1} times")
    if not entries:
        raise DataError(f"{origin.source} lists no audio file: is it the right folder?")
    for leftover in home.glob(f"{BUILDING}{origin.name}-*"):  # of a build that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    aside = home / f"{BUILDING}{origin.name}-{os.getpid()}-{uuid4().hex[:8]}"
    try:
        with storage_errors(aside):
            (aside / "audio").mkdir(parents=True)
            rate = sample_rate or _common_rate(entries)
            draft = _Draft(entries, origin, rate, aside, store_all)
            key_file = CacheFile(aside / "cache", "draft")
            draft.run(key_file, cache_limit_bytes, progress)
            content = draft.finish()
            _rename_cache(aside, content, rate)
            folder = home / f"{origin.name}-{content[:12]}"
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


def _common_rate(entries: Sequence[Entry]) -> int:
    rates: Counter[int] = Counter()
    for entry in entries:
        try:
            rates[int(soundfile.info(str(entry.path)).samplerate)] += 1
        except (soundfile.LibsndfileError, RuntimeError, OSError):
            continue  # named with the other bad files when they are read
    if not rates:
        return 8000  # nothing can be read: the rate does not matter, the error will come
    return min(rates, key=lambda rate: (-rates[rate], rate))


class _Draft:
    """The folder of a set while it is being built."""

    def __init__(
        self, entries: Sequence[Entry], origin: Origin, rate: int, folder: Path, store_all: bool
    ) -> None:
        self.entries = entries
        self.origin = origin
        self.rate = rate
        self.folder = folder
        self.store_all = store_all
        self.recordings: list[dict[str, Any]] = []
        self.items: list[dict[str, Any]] = []
        self.files: dict[str, dict[str, Any]] = {}
        self.counts: Counter[str] = Counter()
        self.moments: dict[str, _Moments] = defaultdict(_Moments)

    def run(self, cache: CacheFile, limit_bytes: int, progress: Progress | None) -> None:
        """Read every file once: check, convert, measure, and fill the cache while at it."""
        bad: list[str] = []
        stream = self._decoded(bad, progress)
        try:
            cache.write(_up_to(stream, limit_bytes))
        except _TooBigError:
            for _ in stream:  # the other files are still checked and measured
                pass
        if bad:
            start = " " if len(bad) == 1 else "\n    "
            more = f"\n    and {len(bad) - _SHOWN} more" if len(bad) > _SHOWN else ""
            raise DataError(
                f"{len(bad)} of {len(self.entries)} files of {self.origin.source} cannot be used:"
                + "".join(f"{start}{line}" for line in bad[:_SHOWN])
                + more
            )

    def _decoded(self, bad: list[str], progress: Progress | None) -> Iterator[Int16]:
        for number, entry in enumerate(self.entries):
            if progress is not None:
                progress(number, len(self.entries), entry.id)
            try:
                decoded = decode(
                    entry.path,
                    sample_rate=self.rate,
                    sha256=self.origin.checksums.get(entry.id),
                )
            except BadAudio as error:
                bad.append(f"{entry.path}: {error}")
                continue
            if not bad:
                self._add(entry, decoded)
                yield decoded.samples
        if progress is not None:
            progress(len(self.entries), len(self.entries), "manifests")

    def _add(self, entry: Entry, decoded: Decoded) -> None:
        samples = decoded.samples
        silent = _rms(samples) < SILENCE_RMS
        self.counts["files"] += 1
        self.counts["averaged to mono"] += decoded.channels > 1
        self.counts["resampled"] += decoded.source_rate != self.rate
        self.counts["clipped in conversion"] += decoded.clipped > 0
        self.counts["silent"] += silent
        stored = self.store_all or not decoded.as_is
        place = str(entry.path.resolve())
        if stored:
            name = entry.id if entry.id.endswith(".flac") else f"{entry.id}.flac"
            write_flac(self.folder / "audio" / name, samples, self.rate)
            place = f"audio/{name}"
        self.counts["stored as FLAC"] += stored
        self.files[entry.id] = {
            "path": place,
            "sha256": sha256_file(self.folder / place) if stored else decoded.file_sha256,
            "source_sha256": decoded.file_sha256,
        }
        number = len(self.recordings)
        self.recordings.append(
            {
                "id": entry.id,
                "path": place,
                "samples": len(samples),
                "sha256": hashlib.sha256(samples.astype("<i2").tobytes()).hexdigest(),
            }
        )
        for split, low, high in entry.pieces:
            start, stop = round(low * len(samples)), round(high * len(samples))
            if stop <= start:
                continue
            self.items.append(
                {
                    "recording": number,
                    "start": start,
                    "samples": stop - start,
                    "split": split,
                    "class": entry.class_name,
                    "group": entry.group,
                    "speaker": entry.speaker,
                    "text": entry.text,
                    "silent": silent,
                }
            )
            if split == "train":
                for part in ("", entry.group):
                    self.moments[part].add(samples[start:stop])

    def finish(self) -> str:
        """Write manifests and facts; return the hash of the content."""
        present = Counter(item["split"] for item in self.items)
        missing = [split for split in SPLITS if not present[split]]
        if missing:
            raise DataError(
                f"{self.origin.source}: nothing is left for {' and '.join(missing)} "
                f"({self.origin.split_rule}). More files, speakers or sources are needed, or a "
                "column 'split' in metadata.csv"
            )
        content = hashlib.sha256(
            json.dumps(
                [
                    FORMAT,
                    self.origin.name,
                    self.rate,
                    MONO_RULE,
                    [[r["id"], r["samples"], r["sha256"]] for r in self.recordings],
                    self.items,
                ]
            ).encode()
        ).hexdigest()
        write_json(self.folder / "statistics.json", {k: m.facts() for k, m in self.moments.items()})
        columns = {key: [item[key] for item in self.items] for key in self.items[0]}
        write_json_compact(
            self.folder / "items.json", {"recordings": self.recordings, "items": columns}
        )
        manifests = _write_manifests(self.folder, self.recordings, self.items, self.rate)
        named = ("items.json", "statistics.json", *manifests)
        write_json(
            self.folder / "source.json",
            {
                "format": FORMAT,
                "name": self.origin.name,
                "hash": content,
                "source": self.origin.source,
                "licence": self.origin.licence,
                "split_rule": self.origin.split_rule,
                "sample_rate": self.rate,
                "mono_rule": MONO_RULE,
                "resampler": resampler(),
                "counts": dict(self.counts),
                "manifests": {name: sha256_file(self.folder / name) for name in named},
                "files": self.files,
            },
        )
        return content


class _TooBigError(Exception):
    """The decoded samples pass the cache's bound."""


def _up_to(stream: Iterator[Int16], limit_bytes: int) -> Iterator[Int16]:
    used = 0
    for samples in stream:
        used += 2 * len(samples)
        if used > limit_bytes:
            raise _TooBigError
        yield samples


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


def _rms(samples: Int16) -> float:
    if len(samples) == 0:
        return 0.0
    return float(np.sqrt(np.square(samples, dtype=np.float64).mean())) / FULL_SCALE


class _Moments:
    """Peak, mean and power of samples that come in parts; sums of whole numbers, so exact."""

    def __init__(self) -> None:
        self.count = self.sum = self.squares = self.peak = 0

    def add(self, samples: Int16) -> None:
        wide = samples.astype(np.int64)
        self.count += len(wide)
        self.sum += int(wide.sum())
        self.squares += int(np.square(wide).sum())
        self.peak = max(self.peak, int(np.abs(wide).max()))

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
    folder: Path, recordings: list[dict[str, Any]], items: list[dict[str, Any]], rate: int
) -> list[str]:
    """lhotse recordings, supervisions and cuts of each split; returns the files' names."""
    from lhotse import CutSet, MonoCut, Recording, RecordingSet, SupervisionSegment, SupervisionSet
    from lhotse.audio import AudioSource

    made = [
        Recording(
            id=r["id"],
            sources=[AudioSource(type="file", channels=[0], source=r["path"])],
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
                text=item["text"] or None,
                speaker=item["speaker"] or None,
                custom={
                    "class_name": item["class"],
                    "group": item["group"],
                    "silent": item["silent"],
                },
            )
            supervisions.append(supervision)
            cuts.append(
                MonoCut(
                    id=supervision.id,
                    start=start,
                    duration=duration,
                    channel=0,
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
