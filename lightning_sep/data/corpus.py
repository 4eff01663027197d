"""What a set of recordings is before and after it was prepared."""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import soundfile
from numpy.typing import NDArray

from lightning_sep.checks import finite_number, refusal, yes_or_no
from lightning_sep.data.audio_files import HIGHEST_RATE, LOWEST_RATE, Int16, read_int16
from lightning_sep.data.cache import (
    CacheFile,
    MappedReader,
    Reader,
    StreamReader,
    cache_key,
    locked,
    room,
    times_slower,
)
from lightning_sep.data.manifests import FORMAT, MIXTURE, Progress, sweep_builds
from lightning_sep.data.names import shown
from lightning_sep.data.recordings import load_cuts
from lightning_sep.data.splits import SPLITS
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.fsio import sha256_file, sweep_leftovers, write_json

_MIB = 1 << 20


def waiting(name: str, progress: Progress | None) -> Callable[[], object] | None:
    """What to call while another process prepares the set of this name."""
    if progress is None:
        return None
    return lambda: progress(0, 1, f"{name}: another process prepares it")


@dataclass(frozen=True)
class Table:
    """The pieces of one split as columns, ``[item]`` each; what examples are drawn from.

    Args:
        recording: number of the recording, as the reader counts.
        start: first sample within the recording.
        samples: number of samples.
        label: class number, into ``Prepared.class_names``.
        speaker: speaker number, into ``Prepared.speaker_names``; -1 where there is none.
        group: group number, into ``Prepared.group_names``.
        session: number of the session in which it was recorded; -1 where nobody knows.
        corpus: number of the set, where several are combined; 0 elsewhere.
        mixture: number of the song or recorded mixture that it is a part of, into
            ``Prepared.mixture_names``; -1 for a sound by itself.
        stem: which part of it, into ``Prepared.stem_names``; -1 for a sound by itself.
    """

    recording: NDArray[np.int64]
    start: NDArray[np.int64]
    samples: NDArray[np.int64]
    label: NDArray[np.int64]
    speaker: NDArray[np.int64]
    group: NDArray[np.int64]
    session: NDArray[np.int64]
    corpus: NDArray[np.int64]
    mixture: NDArray[np.int64]
    stem: NDArray[np.int64]

    @classmethod
    def columns(cls) -> list[str]:
        """Names of the columns."""
        return list(cls.__dataclass_fields__)

    def __len__(self) -> int:
        return len(self.recording)

    def where(self, chosen: NDArray[np.bool_]) -> "Table":
        """The rows that ``chosen`` marks."""
        return Table(*(getattr(self, name)[chosen] for name in self.columns()))

    def read(
        self,
        reader: Reader,
        rows: NDArray[np.int64],
        offset: NDArray[np.int64],
        count: int,
        *,
        repeat: bool = False,
    ) -> Int16:
        """``[*rows, channel, count]`` samples of the pieces ``rows`` from ``offset`` on, of the
        same shape; what a piece lacks is as :meth:`Reader.read` says."""
        flat = rows.reshape(-1)
        samples = reader.read(
            self.recording[flat],
            self.start[flat],
            self.samples[flat],
            offset.reshape(-1),
            count,
            repeat=repeat,
        )
        return samples.reshape(*rows.shape, *samples.shape[1:])


class Prepared:
    """A set that is ready to draw from: lhotse manifests, statistics and decoded samples.

    Args:
        folder: made by :func:`lightning_sep.data.manifests.build`.
        cache_limit_mb: sets beyond it are read from their files; the samples are the same.
            ``None`` is what the disk has room for.
        progress: called for each recording while its samples are decoded again.

    Raises:
        DataError: the folder is not whole.
    """

    given_priors: list[float] | None = None
    """Of sets that are combined, where the user gave any."""

    def __init__(
        self,
        folder: Path,
        *,
        cache_limit_mb: float | None = None,
        progress: Progress | None = None,
    ) -> None:
        self.folder = folder
        self.cache_limit_mb = cache_limit_mb
        self._progress = progress
        try:
            self.source: dict[str, Any] = json.loads((folder / "source.json").read_text())
            self._columns: dict[str, Any] = json.loads((folder / "items.json").read_text())
            self._statistics = json.loads((folder / "statistics.json").read_text())
            self.name: str = self.source["name"]
            self.hash: str = self.source["hash"]
            self.sample_rate: int = self.source["sample_rate"]
            self.channels: int = self.source.get("channels", 1)
            self.licence: str = self.source["licence"]
            items = self._columns["items"]
            recorded = [stem == MIXTURE for stem in items.get("stem", ())]

            def names(column: str) -> list[str]:
                values = items[column]
                if any(recorded):  # mixtures are of no class
                    values = [one for one, no in zip(values, recorded, strict=True) if not no]
                return sorted(set(values))

            self.class_names: list[str] = names("class")
            self.group_names: list[str] = names("group")
            self.speaker_names: list[str] = sorted(set(items["speaker"]) - {""})
            self.mixture_names: list[str] = sorted(set(items.get("mixture", ())) - {""})
            self.stem_names: list[str] = sorted(set(items.get("stem", ())) - {""})
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{folder} is not whole ({type(error).__name__}: {error}): delete it and prepare "
                "the set again"
            ) from error

    @property
    def statistics(self) -> dict[str, float]:
        """peak, mean, std and rms of the train part alone (1.0 is full scale)."""
        return self.statistics_of("")

    def statistics_of(self, group: str) -> dict[str, float]:
        """The same for one group of sounds; ``""`` is all of them."""
        if group not in self._statistics:
            what = f"'{group}' in its train part" if self._statistics else "train part"
            raise DataError(f"{self.name} has no {what}")
        return dict(self._statistics[group])

    @cached_property
    def _tables(self) -> dict[str, Table]:
        items = self._columns["items"]

        def numbers(column: str, names: list[str]) -> NDArray[np.int64]:
            place = {name: number for number, name in enumerate(names)}
            if column not in items:
                return np.full(len(items["recording"]), -1)
            return np.array([place.get(value, -1) for value in items[column]], dtype=np.int64)

        everything = Table(
            recording=np.array(items["recording"], dtype=np.int64),
            start=np.array(items["start"], dtype=np.int64),
            samples=np.array(items["samples"], dtype=np.int64),
            label=numbers("class", self.class_names),
            speaker=numbers("speaker", self.speaker_names),
            group=numbers("group", self.group_names),
            session=numbers("session", sorted(set(items.get("session", ())) - {""})),
            corpus=np.zeros(len(items["recording"]), dtype=np.int64),
            mixture=numbers("mixture", self.mixture_names),
            stem=numbers("stem", self.stem_names),
        )
        splits = np.array(items["split"])
        return {split: everything.where(splits == split) for split in SPLITS}

    def table(self, split: str) -> Table:
        """The pieces of ``split`` ("train", "val" or "test"), without recorded mixtures."""
        return self._parted[split][0]

    def mixtures(self, split: str) -> Table:
        """The recorded mixtures of ``split``."""
        return self._parted[split][1]

    def everything(self, split: str) -> Table:
        """Both of them."""
        return self._tables[split]

    @cached_property
    def _parted(self) -> dict[str, tuple[Table, Table]]:
        """Tables without recorded mixtures, and of these alone."""
        number = self.stem_names.index(MIXTURE) if MIXTURE in self.stem_names else -2
        tables = {split: (table, table.stem == number) for split, table in self._tables.items()}
        return {
            split: (table.where(~recorded), table.where(recorded))
            for split, (table, recorded) in tables.items()
        }

    @cached_property
    def class_groups(self) -> list[str]:
        """``[class]`` name of the group of each class."""
        groups: dict[int, int] = {}
        for split in SPLITS:
            table = self.table(split)
            groups |= dict(zip(table.label.tolist(), table.group.tolist(), strict=True))
        return [self.group_names[groups[number]] for number in range(len(self.class_names))]

    @property
    def all_statistics(self) -> dict[str, dict[str, float]]:
        """The same for each group, and for all under ``""``."""
        return dict(self._statistics)

    @property
    def priors(self) -> list[float]:
        """Share of each set that is combined here."""
        return [1.0]

    @property
    def test_only(self) -> bool:
        """Whether there is a test part alone."""
        return not len(self.table("train"))

    def hours(self, split: str | None = None) -> float:
        """Length of one split, or of all."""
        chosen = SPLITS if split is None else (split,)
        samples = sum(int(self.table(name).samples.sum()) for name in chosen)
        return samples / self.sample_rate / 3600

    def cuts(self, split: str) -> Any:
        """lhotse ``CutSet`` of one split; each cut is a piece, with one supervision."""
        paths = {one["id"]: one["path"] for one in self._columns["recordings"]}
        return load_cuts(self.folder, split, paths)

    @cached_property
    def reader(self) -> Reader:
        """Where samples come from: the memory-mapped cache, or the files beyond its bound."""
        recordings, lengths = self._columns["recordings"], self.lengths
        needed = 2 * self.channels * int(lengths.sum())
        limit = None if self.cache_limit_mb is None else self.cache_limit_mb * _MIB
        offsets = None
        if limit is None or needed <= limit:
            offsets = self.cache.offsets(lengths)
        if offsets is None:
            if needed > (room(self.folder) if limit is None else limit):
                return StreamReader([self.folder / r["path"] for r in recordings], self.channels)
            with locked(self.folder / "cache" / ".lock", waiting(self.name, self._progress)):
                offsets = self.cache.offsets(lengths)  # another process may have been faster
                if offsets is None:
                    sweep_leftovers(self.folder / "cache")
                    self.cache.write(self._all_decoded(recordings), needed)
                    offsets = self.cache.offsets(lengths)
        if offsets is None:
            raise DataError(
                f"{self.cache.samples_path} does not fit its manifests: delete {self.folder} and "
                "prepare the set again"
            )
        return MappedReader(self.cache.samples_path, offsets, self.channels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """``[recording]`` number of samples of a channel."""
        return np.array([r["samples"] for r in self._columns["recordings"]], dtype=np.int64)

    def remark(self) -> str:
        """What somebody who waits should know: that samples come from files, and what that costs.

        Empty where they come from the cache. Reads a few files to measure it.
        """
        if not isinstance(self.reader, StreamReader):
            return ""
        lengths = self.lengths
        needed = 2 * self.channels * int(lengths.sum()) / _MIB
        bound = (
            f"data.cache_limit_mb allows {self.cache_limit_mb:g}"
            if self.cache_limit_mb is not None
            else f"the disk of {self.folder} has room for {room(self.folder) / _MIB:.0f}"
        )
        slower = times_slower(self.reader, lengths, self.sample_rate)
        return (
            f"{self.name} is read from its files, about {slower:.0f} times slower than decoded: "
            f"that needs {needed:.0f} MiB, and {bound}. trainer.workers reads ahead"
        )

    @property
    def cache(self) -> CacheFile:
        """The decoded file, whether or not it exists."""
        key = cache_key(
            content=self.hash,
            sample_rate=self.sample_rate,
            resampler=self.source["resampler"],
        )
        return CacheFile(self.folder / "cache", key, self.channels)

    def _all_decoded(self, recordings: list[dict[str, Any]]) -> Iterator[Iterator[Int16]]:
        tell = self._progress or (lambda done, total, text: None)
        for number, recording in enumerate(recordings):
            tell(number, len(recordings), f"{self.name}: decode {shown(recording['id'])}")
            yield self._decoded(recording)
        tell(len(recordings), len(recordings), f"{self.name} is decoded")

    def _decoded(self, recording: dict[str, Any]) -> Iterator[Int16]:
        path = self.folder / recording["path"]
        digest = hashlib.sha256()
        try:
            for samples in read_int16(path):
                digest.update(samples.astype("<i2", copy=False).tobytes())
                yield samples
        except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
            raise DataError(
                f"{shown(path)} cannot be read any more: it was moved or damaged since "
                f"{self.name} was prepared. Prepare the set again"
            ) from error
        if digest.hexdigest() != recording["sha256"]:
            raise DataError(
                f"{shown(path)} has changed since {self.name} was prepared: prepare it again"
            )

    def sounds(self) -> dict[str, list[tuple[str, str, int, int]]]:
        """By a hash of what a recording holds, unless it is silent: its name, and the split, first
        and last sample of each of its pieces."""
        items, recordings = self._columns["items"], self._columns["recordings"]
        columns = (items[name] for name in ("recording", "split", "start", "samples", "silent"))
        found: dict[str, list[tuple[str, str, int, int]]] = {}
        for number, split, start, samples, silent in zip(*columns, strict=True):
            if not silent:
                about = recordings[number]
                piece = (about["id"], split, start, start + samples)
                found.setdefault(about["sha256"], []).append(piece)
        return found

    def verify(self, progress: Progress | None = None) -> None:
        """Read every byte of the set and compare it with its checksums.

        Raises:
            DataError: manifests, audio files or the cache differ; all of them named at once.
        """
        problems = []
        named = {name: digest for name, digest in self.source["manifests"].items()}
        named |= {file["path"]: file["sha256"] for file in self.source["files"].values()}
        for number, (name, digest) in enumerate(named.items()):
            if progress is not None:
                progress(number, len(named), name)
            path = self.folder / name
            if not path.is_file():
                problems.append(f"{shown(path)}: is not there any more")
            elif sha256_file(path) != digest:
                problems.append(f"{shown(path)}: differs from its checksum")
        if self.cache.facts_path.exists():
            problems += self.cache.problems()
        if problems:
            more = f"\n    and {len(problems) - 10} more" if len(problems) > 10 else ""
            raise DataError(
                f"{len(problems)} files of {self.name} are not what was prepared; "
                "prepare the set again:" + "".join(f"\n    {line}" for line in problems[:10]) + more
            )

    def summary(self) -> dict[str, Any]:
        """What a list of sets shows, as JSON types."""
        return {
            "hours": self.hours(),
            "sample_rate": self.sample_rate,
            "channels": self.channels,
            "splits": {
                split: {"pieces": len(self.table(split)), "hours": self.hours(split)}
                for split in SPLITS
            },
            "classes": len(self.class_names),
            "speakers": len(self.speaker_names),
            "licence": self.licence,
            "split_rule": self.source["split_rule"],
            "found": self.source.get("found", self.source["counts"]["files"]),
            "left_out": {
                reason: told["files"] for reason, told in self.source.get("left_out", {}).items()
            },
            "kept": len(self.source.get("kept", {})),
            "notes": "; ".join(self.source.get("notes", [])),
            "counts": self.source["counts"],
            "hash": self.hash,
            "folder": str(self.folder),
        }


class Corpus(ABC):
    """A set of recordings by name; ``open`` gives it prepared.

    Args:
        sample_rate: rate to draw at, in Hz; ``None`` keeps the rate of the files. Resampling is
            done once, when the set is prepared.
        cache_limit_mb: bound of the decoded cache in MiB; bigger sets are read from their files,
            which is slower and gives the same samples. ``None`` is what the disk has room for.
        keep: take files that are clipped, that cancel when their channels are averaged, whose
            rate no recording has or whose Ogg stream does not end, and sets that are all silence.
            Which ones is written down and counts as a part of the set.
        test_only: make all of it the test part, for ``lightning-sep evaluate``; nothing can be
            trained on it.

    Raises:
        ConfigError: a setting cannot be used.
    """

    name: ClassVar[str]

    def __init__(
        self,
        sample_rate: int | None = None,
        cache_limit_mb: float | None = None,
        keep: bool = False,
        test_only: bool = False,
    ) -> None:
        if sample_rate is not None and (
            not isinstance(sample_rate, int)
            or isinstance(sample_rate, bool)
            or not LOWEST_RATE <= sample_rate <= HIGHEST_RATE
        ):
            needed = f"a whole number of Hz from {LOWEST_RATE} to {HIGHEST_RATE}"
            rest = "or null for the rate of the files, is needed"
            raise refusal("sample_rate", sample_rate, f"{needed}, {rest}")
        if cache_limit_mb is not None:
            meaning = "MiB; null for what the disk has room for"
            finite_number("cache_limit_mb", cache_limit_mb, at_least=0, meaning=meaning)
        yes_or_no("keep", keep)
        self.sample_rate = sample_rate
        self.cache_limit_mb = cache_limit_mb
        self.keep = keep
        self.test_only = yes_or_no("test_only", test_only)

    @abstractmethod
    def key(self) -> str:
        """What identifies this set with these settings among the prepared ones."""

    @abstractmethod
    def make(self, home: Path, progress: Progress | None) -> Path:
        """Prepare the set without being told more, and return its folder; the lock is held.

        Raises:
            DataError: that cannot be done; the message says what can.
        """

    def open(self, home: Path, progress: Progress | None = None) -> Prepared:
        """The prepared set; it is made now where that needs nothing from the user.

        Several processes may open one set at once: one makes it, the others wait.

        Raises:
            DataError: the set has to be prepared first, or its files cannot be used.
            StorageError: the disk refused.
        """
        folder = self.prepared_folder(home)
        if folder is None:
            with self._locked(home, progress):
                folder = self.prepared_folder(home)
                if folder is None:
                    sweep_builds(home, self.name)
                    folder = self.make(home, progress)
                    self.point(home, folder)
        return Prepared(folder, cache_limit_mb=self.cache_limit_mb, progress=progress)

    def prepare_from(
        self, source: Path | None, home: Path, progress: Progress | None = None
    ) -> Prepared:
        """Prepare the set from a folder of the user's, anew even if it is prepared already.

        Args:
            source: the folder; ``None`` for sets that are made without one.
            home: the data home.
            progress: called for each file.

        Raises:
            ConfigError: ``source`` is missing, or given where none is wanted.
            DataError: files cannot be used; all of them are named at once.
            StorageError: the disk refused.
        """
        if source is not None:
            raise ConfigError(f"{self.name} is made on the spot and takes no --source ({source})")
        with self._locked(home, progress):
            sweep_builds(home, self.name)
            folder = self.make(home, progress)
            self.point(home, folder)
        return Prepared(folder, cache_limit_mb=self.cache_limit_mb, progress=progress)

    def _locked(self, home: Path, progress: Progress | None) -> AbstractContextManager[None]:
        """The lock under which sets of this name are prepared."""
        return locked(home / f".lock-{self.name}", waiting(self.name, progress))

    def _pointer(self, home: Path) -> Path:
        return home / "prepared" / f"{self.key()}.json"

    def point(self, home: Path, folder: Path) -> None:
        """Remember ``folder`` as the prepared form of this set with these settings."""
        write_json(self._pointer(home), self.pointer(folder))

    def pointer(self, folder: Path) -> dict[str, Any]:
        """What is remembered of a prepared form of this set."""
        return {"format": FORMAT, "name": self.name, "folder": folder.name}

    def prepared_folder(self, home: Path) -> Path | None:
        """Folder of the prepared set, or ``None`` where there is none yet."""
        try:
            pointer = json.loads(self._pointer(home).read_text())
            folder = home / str(pointer["folder"])
            known = json.loads((folder / "source.json").read_text())["format"] == FORMAT
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return folder if known else None
