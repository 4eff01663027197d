"""Decoded audio for drawing from: one flat int16 file, or the FLAC files where that is too big.

A whole batch of segments is one call. Both readers give the same samples.
"""

import fcntl
import hashlib
import json
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from lightning_sep.data.audio_files import MONO_RULE, Int16, read_int16
from lightning_sep.data.names import shown
from lightning_sep.errors import DataError
from lightning_sep.fsio import sha256_file, storage_errors, write_aside_with, write_json

_DTYPE = np.dtype("<i2")
_LOOK_S = 0.2  # between two looks at a lock that another process holds
_SHARE_OF_DISK = 0.9  # of what is free; the rest is left to runs, logs and other programs


@contextmanager
def locked(path: Path, waiting: Callable[[], object] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on ``path``; others that want to build the same thing wait here.

    Args:
        path: of the lock.
        waiting: called again and again until the lock is had.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        while waiting is not None and not _taken(handle):
            waiting()
            time.sleep(_LOOK_S)
        fcntl.flock(handle, fcntl.LOCK_EX)  # released by the system when the holder is killed
        yield
    finally:
        os.close(handle)


@contextmanager
def locked_if_free(path: Path) -> Iterator[bool]:
    """Whether the exclusive lock on ``path`` could be had at once; held until the end."""
    with storage_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        yield _taken(handle)
    finally:
        os.close(handle)


def _taken(handle: int) -> bool:
    """Whether the exclusive lock could be had at once."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def room(folder: Path) -> int:
    """Bytes that decoded audio may take on the disk of ``folder``."""
    return int(_SHARE_OF_DISK * shutil.disk_usage(folder).free)


def cache_key(*, content: str, sample_rate: int, resampler: str) -> str:
    """What a decoded file depends on, as a short hash.

    Args:
        content: hash of the set.
        sample_rate: in Hz.
        resampler: what resampled it when it was prepared, with its version.
    """
    facts = [content, sample_rate, resampler, MONO_RULE]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


class CacheFile:
    """One flat int16 file with the recordings of a set one after the other.

    Args:
        folder: where the file, its offsets and its checksums lie.
        key: from :func:`cache_key`; part of the names.
        channels: of every recording; a frame holds a sample of each.
    """

    def __init__(self, folder: Path, key: str, channels: int = 1) -> None:
        self.samples_path = folder / f"{key}.int16"
        self.offsets_path = folder / f"{key}.offsets.npy"
        self.facts_path = folder / f"{key}.json"
        self.key = key
        self.frame_bytes = channels * _DTYPE.itemsize

    def write(self, recordings: Iterable[Iterable[Int16]], limit_bytes: int) -> bool:
        """Write all recordings aside, then rename; the facts come last and make it valid.

        Args:
            recordings: blocks of samples, ``[time, channel]``, of each recording. All of them are
                read, whether or not they fit.
            limit_bytes: nothing is kept beyond it.

        Returns:
            Whether the file was written.

        Raises:
            StorageError: the disk is full or may not be written.
        """
        ends = [0]
        digest = hashlib.sha256()

        def fill(file: Any) -> None:
            for blocks in recordings:
                end = ends[-1]
                for samples in blocks:
                    end += len(samples)
                    if end * self.frame_bytes > limit_bytes:
                        file.truncate(0)
                        continue
                    data = samples.astype(_DTYPE, copy=False).tobytes()
                    digest.update(data)
                    file.write(data)
                ends.append(end)

        self.facts_path.unlink(missing_ok=True)
        write_aside_with(self.samples_path, fill)
        if ends[-1] * self.frame_bytes > limit_bytes:
            self.samples_path.unlink()
            return False
        write_aside_with(self.offsets_path, lambda file: np.save(file, np.array(ends, np.int64)))
        facts = {
            "key": self.key,
            "samples": ends[-1],
            "recordings": len(ends) - 1,
            "sha256": digest.hexdigest(),
            "offsets_sha256": sha256_file(self.offsets_path),
        }
        write_json(self.facts_path, facts)
        return True

    def offsets(self, lengths: NDArray[np.int64]) -> NDArray[np.int64] | None:
        """``[recording + 1]`` offsets in frames, or ``None`` where the file is missing or wrong.

        This is the cheap check at opening: sizes and offsets, not every byte.

        Args:
            lengths: ``[recording]`` number of frames that the manifests give.
        """
        try:
            facts = json.loads(self.facts_path.read_text())
            offsets = np.load(self.offsets_path)
            size = self.samples_path.stat().st_size
        except (OSError, ValueError, EOFError):
            return None
        expected = np.concatenate([[0], np.cumsum(lengths)])
        fits = (
            facts.get("key") == self.key
            and offsets.dtype == np.int64
            and np.array_equal(offsets, expected)
            and size == int(offsets[-1]) * self.frame_bytes
        )
        return offsets if fits else None

    def problems(self) -> list[str]:
        """What is wrong with the file, reading every byte; empty where nothing is."""
        try:
            facts = json.loads(self.facts_path.read_text())
            found = sha256_file(self.samples_path), sha256_file(self.offsets_path)
        except (OSError, ValueError) as error:
            return [f"{self.samples_path}: cannot be checked ({error})"]
        if found != (facts.get("sha256"), facts.get("offsets_sha256")):
            return [
                f"{self.samples_path}: differs from its checksum. "
                "Delete it; it is built again when the set is next opened"
            ]
        return []


class Reader(ABC):
    """Segments of recordings, many at once. Places and lengths count samples of one channel."""

    channels: int
    """Of every recording."""

    @abstractmethod
    def whole(self, recording: int, start: int, count: int) -> Int16:
        """``[channel, count]`` samples that lie inside the recording."""

    def read(
        self,
        recording: NDArray[np.int64],
        start: NDArray[np.int64],
        available: NDArray[np.int64],
        offset: NDArray[np.int64],
        count: int,
        *,
        repeat: bool = False,
    ) -> Int16:
        """``[n, channel, count]`` samples, row by row from pieces ``[start, start + available)``.

        Args:
            recording: ``[n]`` number of the recording.
            start: ``[n]`` first sample of the piece within the recording.
            available: ``[n]`` samples of the piece; nothing beyond it is ever read.
            offset: ``[n]`` first sample of the segment within the piece. It may be negative or run
                past the end: what is missing is zero, or the piece over again with ``repeat``.
            count: samples of each segment.
            repeat: fill what is missing with the piece repeated, instead of with zeros.
        """
        inside = (offset >= 0) & (offset + count <= available)
        if inside.all():
            return self.inside(recording, start + offset, count)
        out = np.zeros((len(recording), self.channels, count), dtype=np.int16)
        if inside.any():
            out[inside] = self.inside(recording[inside], (start + offset)[inside], count)
        for row in np.flatnonzero(~inside):
            length, first = int(available[row]), int(offset[row])
            if repeat:
                piece = self.whole(int(recording[row]), int(start[row]), length)
                out[row] = piece[:, (first + np.arange(count)) % length]
            else:
                low, high = max(first, 0), min(first + count, length)
                if high > low:
                    out[row, :, low - first : high - first] = self.whole(
                        int(recording[row]), int(start[row]) + low, high - low
                    )
        return out

    def inside(self, recording: NDArray[np.int64], start: NDArray[np.int64], count: int) -> Int16:
        """``[n, channel, count]`` samples that lie inside their recordings."""
        rows = [self.whole(int(r), int(s), count) for r, s in zip(recording, start, strict=True)]
        return np.stack(rows)


class MappedReader(Reader):
    """Reads from the flat int16 file, memory-mapped; cheap to send to a worker process."""

    def __init__(self, path: Path, offsets: NDArray[np.int64], channels: int = 1) -> None:
        self.channels = channels
        self._path = path
        self._offsets = offsets
        self._frames: Int16 | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_frames": None}  # each process maps the file by itself

    def _samples(self) -> Int16:
        """``[frame, channel]`` of all recordings, one after the other."""
        if self._frames is None:
            if self._offsets[-1] == 0:
                raise DataError(f"{self._path} holds no samples: prepare the set again")
            flat = np.memmap(self._path, dtype=_DTYPE, mode="r")
            self._frames = flat.reshape(-1, self.channels)
        return self._frames

    def whole(self, recording: int, start: int, count: int) -> Int16:
        first = int(self._offsets[recording]) + start
        return np.asarray(self._samples()[first : first + count].T, dtype=np.int16)

    def inside(self, recording: NDArray[np.int64], start: NDArray[np.int64], count: int) -> Int16:
        windows = np.lib.stride_tricks.sliding_window_view(self._samples(), count, axis=0)
        segments = windows[self._offsets[recording] + start]
        return np.ascontiguousarray(segments, dtype=np.int16)


class StreamReader(Reader):
    """Reads each segment from its file: slower, for sets beyond the cache's bound.

    Args:
        paths: of the recordings, in the order of their numbers.
        channels: of each of them.
    """

    def __init__(self, paths: Sequence[Path], channels: int = 1) -> None:
        self.channels = channels
        self._paths = paths

    def whole(self, recording: int, start: int, count: int) -> Int16:
        path = self._paths[recording]
        try:
            blocks = list(read_int16(path, start, start + count))
        except (soundfile.LibsndfileError, RuntimeError, OSError) as error:
            raise DataError(
                f"{shown(path)} cannot be read any more ({type(error).__name__}): it was moved, "
                "changed or cut off since the set was prepared. Prepare the set again"
            ) from error
        samples = np.concatenate([np.zeros((0, self.channels), dtype=np.int16), *blocks])
        if len(samples) != count:
            raise DataError(f"{shown(path)}: {len(samples)} samples, not {count}")
        return samples.T


def times_slower(reader: StreamReader, lengths: NDArray[np.int64], sample_rate: int) -> float:
    """How many times longer than from a mapped file segments of a second take, measured now.

    Args:
        reader: what is measured: 16 segments spread over the recordings.
        lengths: ``[recording]`` number of samples.
        sample_rate: in Hz.
    """
    recording = np.unique(np.linspace(0, len(lengths) - 1, 16).astype(np.int64))
    count = min(sample_rate, int(lengths[recording].min()))
    starts = (lengths[recording] - count) // 2
    with TemporaryDirectory() as folder:
        kept = CacheFile(Path(folder), "sample", reader.channels)
        read = reader.read(recording, starts, lengths[recording], 0 * starts, count)
        kept.write(([segment.T] for segment in read), read.nbytes)
        ends = np.arange(len(read) + 1) * count
        mapped = MappedReader(kept.samples_path, ends, reader.channels)
        rows, zeros = np.arange(len(read)), np.zeros(len(read), dtype=np.int64)
        sizes = np.full(len(read), count)

        def both() -> tuple[float, float]:
            began_s = time.perf_counter()
            reader.read(recording, starts, lengths[recording], zeros, count)
            between_s = time.perf_counter()
            mapped.read(rows, zeros, sizes, zeros, count)
            return between_s - began_s, time.perf_counter() - between_s

        both()  # files and pages are opened for the first time
        slow_s, fast_s = map(min, zip(*(both() for _ in range(3)), strict=True))
    return float(slow_s / fast_s)
