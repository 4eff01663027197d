"""Reading one audio file into int16 at one rate, and saying what is wrong with it.

Files are read block by block, so that memory does not grow with their length, whatever a header
promises.
"""

import hashlib
import math
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from lightning_sep.data.mpeg import frames_of

Int16 = NDArray[np.int16]

SUFFIXES = (
    *(".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".au", ".snd"),
    *(".caf", ".w64", ".rf64", ".sph", ".nist", ".voc", ".8svx", ".iff", ".mp1", ".mp2"),
    *(".avr", ".pvf", ".paf", ".sf", ".xi", ".wve"),
)
FULL_SCALE = 32768.0  # int16 samples / FULL_SCALE are the float samples everywhere in this project
MONO_RULE = "mean of the channels"
MOST_CHANNELS = 8  # that a FLAC file holds
RESAMPLER_QUALITY = "HQ"
SILENCE_DBFS = -80.0  # rms below this is silence: no direction to project on, no level to set
SILENCE_RMS = 10.0 ** (SILENCE_DBFS / 20.0)
LOWEST_RATE, HIGHEST_RATE = 1000, 384_000  # Hz
CLIPPED_SHARE = 0.01  # of a file's samples; a sine that just reaches full scale has 0.0035
SIDE_OVER_MID = 10.0 ** (
    1.0 / 10.0
)  # 1 dB: channels that do not correlate are equally loud in both
BLOCK = 1 << 18  # samples read at once, over all channels

_OGG_PAGE = 27 + 255 + 255 * 255  # bytes of the longest page
_PIPE = 0xFFFFFF00  # sizes from here on are those of programs that could not know them
_CHUNKS = 64  # looked at before the audio; a header with more is not followed
UNKNOWN = 1 << 62  # libsndfile gives the largest number where a header does not say the length


class BadAudio(Exception):
    """One file that cannot be used; collected with others into one DataError.

    Args:
        reason: what is wrong and what to do.
        keepable: the file can be read: ``data.keep=true`` takes it as it is.
    """

    def __init__(self, reason: str, *, keepable: bool = False) -> None:
        super().__init__(reason)
        self.keepable = keepable


class AudioFile:
    """One file on its way into the cache.

    The facts below the arguments are complete once :meth:`blocks` has been read to its end.

    Args:
        path: any file that libsndfile reads.
        sample_rate: wanted rate in Hz; ``None`` keeps the file's own.
        wanted_channels: 1 takes the mean of the file's channels; of more, a file has to have as
            many, or one that is then in all of them alike.
        sha256: what the file's checksum has to be, where the set brings one. Such a file is as its
            publisher made it: samples that were recorded at full scale are no fault of the copy.
        keep: take the file even if it is clipped, cancels when mixed down, has a rate that no
            recording has, or an Ogg stream without its end.

    Attributes:
        as_is: the file itself holds exactly the samples wanted, in a lossless integer format, so
            it needs no copy. Known from the first block on.
        file_sha256: of the file as it was found.
        source_rate: its own sample rate in Hz.
        channels: its own number of channels.
        clipped: samples beyond full scale after averaging or resampling, now at full scale.
        kept: what is wrong with the file and was taken because of ``keep``.
    """

    def __init__(
        self,
        path: Path,
        *,
        sample_rate: int | None,
        wanted_channels: int = 1,
        sha256: str | None = None,
        keep: bool = False,
    ) -> None:
        self.path = path
        self.sample_rate = sample_rate
        self.wanted_channels = wanted_channels
        self.keep = keep
        self.as_is = False
        self.file_sha256 = ""
        self.source_rate = self.channels = self.clipped = 0
        self.kept: list[str] = []
        self._expected = sha256
        self._promised = 0  # samples of a channel
        self._levels = _Levels(averaged=wanted_channels == 1)

    def blocks(self) -> Iterator[Int16]:
        """``[time, channel]`` int16 samples at the wanted rate, one block after the other.

        Raises:
            BadAudio: the file is missing, cut off, empty, not finite, not what its checksum says,
                of other channels than are wanted, or (unless ``keep``) not at a level or rate that
                a recording has. Faults of the level are known, and raised, after the last block.
        """
        try:
            with self.path.open("rb", buffering=0) as file:
                yield from self._read(file)
        except FileNotFoundError:
            raise BadAudio("is not there, though the table lists it: fetch it again") from None
        except OSError as error:
            raise BadAudio(f"cannot be read ({error.strerror})") from None
        except (soundfile.LibsndfileError, RuntimeError) as error:
            reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
            raise BadAudio(
                f"cannot be decoded, it is cut off or no audio ({reason}): fetch it again or "
                "remove it"
            ) from None

    def _read(self, file: FileIO) -> Iterator[Int16]:
        self.file_sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if self._expected is not None and self.file_sha256 != self._expected:
            raise BadAudio("differs from its line in SHA256SUMS: fetch the file again")
        faults = _faults_of_the_end(file)
        with _opened(file) as sound:
            self.source_rate, self.channels = int(sound.samplerate), int(sound.channels)
            if self.wanted_channels > 1 and self.channels not in (1, self.wanted_channels):
                raise BadAudio(
                    f"has {self.channels} channels, others have {self.wanted_channels}: remove it, "
                    "or take the mean of all channels (data.channels=mean)"
                )
            if not LOWEST_RATE <= self.source_rate <= HIGHEST_RATE:
                faults.append(
                    f"its header says {self.source_rate} Hz, recordings have {LOWEST_RATE} to "
                    f"{HIGHEST_RATE}"
                )
            self._promised, unread = promised_frames(file, sound.format, sound.frames)
            faults += unread
            if faults and not self.keep:  # before hours of it are made of a wrong rate
                raise BadAudio("; ".join(faults), keepable=True)
            wanted = self.sample_rate or self.source_rate
            exact = sound.subtype == "PCM_16"
            alike = self.channels == self.wanted_channels and self.source_rate == wanted
            same = exact and alike
            self.as_is = same and sound.format in ("FLAC", "WAV") and sound.frames < UNKNOWN
            size = min(BLOCK, int(BLOCK * self.source_rate / wanted))  # of what is made of it, too
            native = self._native(sound, exact, max(size // self.channels, 1))
            if same:
                yield from native
            else:
                yield from self._converted(native, wanted, FULL_SCALE if exact else 1.0)
        faults += self._levels.faults(published=self._expected is not None)
        if faults and not self.keep:
            raise BadAudio("; ".join(faults), keepable=True)
        self.kept = faults

    def _native(
        self, sound: soundfile.SoundFile, exact: bool, frames: int
    ) -> Iterator[NDArray[Any]]:
        """``[frame, channel]`` blocks as the file holds them, and a look at each."""
        found = infinite = 0
        while True:
            with _quiet():
                block = sound.read(frames, dtype="int16" if exact else "float64", always_2d=True)
            if len(block) == 0:
                break
            found += len(block)
            if not exact:
                infinite += int(np.count_nonzero(~np.isfinite(block)))
            if not infinite:
                self._levels.add(block)
                yield block
        if infinite:
            raise BadAudio(f"holds {infinite} samples that are NaN or infinite: write it again")
        if found < self._promised < UNKNOWN:
            raise BadAudio(f"is cut off after {found} of {self._promised} samples: fetch it again")
        if found == 0:
            raise BadAudio("holds 0 samples: remove it")

    def _converted(
        self, blocks: Iterator[NDArray[Any]], wanted: int, scale: float
    ) -> Iterator[Int16]:
        """The wanted channels at the wanted rate."""
        one = self.wanted_channels == 1
        parts: Iterator[NDArray[np.float64]] = (
            (wide.mean(axis=1, keepdims=True) if one else wide) / scale
            for wide in (block.astype(np.float64) for block in blocks)
        )
        if self.source_rate != wanted:
            parts = _resampled(parts, self.source_rate, wanted)
        found = 0
        for part in parts:
            samples, clipped = to_int16(part)
            self.clipped += clipped
            found += len(samples)
            if samples.shape[1] != self.wanted_channels:
                samples = np.repeat(samples, self.wanted_channels, axis=1)
            yield samples
        if found == 0:
            raise BadAudio(f"is too short to resample to {wanted} Hz: remove it")


class _Levels:
    """What is loud in a file, as it was found; sums over blocks.

    Args:
        averaged: its channels are mixed down, and must not cancel.
    """

    def __init__(self, *, averaged: bool) -> None:
        self.averaged = averaged
        self.samples = self.full = self.beyond = 0
        self.mid = self.side = 0.0

    def add(self, block: NDArray[Any]) -> None:
        """Count one block, ``[frame, channel]``, int16 or float."""
        one = 32767 if block.dtype == np.int16 else 32766.5 / FULL_SCALE
        self.samples += block.size
        self.full += int(np.count_nonzero((block >= one) | (block <= -one)))
        if block.dtype != np.int16:
            # one step of int16 more than full scale: what was cut off, not rounded
            self.beyond += int(np.count_nonzero(np.abs(block) > 1.0 + 1.0 / FULL_SCALE))
        if self.averaged and block.shape[1] == 2:
            left, right = block[:, 0].astype(np.float64), block[:, 1].astype(np.float64)
            self.mid += float(np.square(left + right).sum())
            self.side += float(np.square(left - right).sum())

    def faults(self, *, published: bool) -> list[str]:
        """What no good recording has, one line each.

        Args:
            published: the set brings the file's checksum, so full scale is how it was recorded.
        """
        found = []
        if self.beyond > CLIPPED_SHARE * self.samples:
            share = self.beyond / self.samples
            found.append(f"{share:.1%} of its samples lie beyond full scale and would be clipped")
        elif self.full > CLIPPED_SHARE * self.samples and not published:
            found.append(f"{self.full / self.samples:.1%} of its samples are clipped")
        if self.side > SIDE_OVER_MID * self.mid:
            found.append("its channels cancel when averaged (side louder than mid)")
        return found


def _resampled(
    blocks: Iterator[NDArray[np.float64]], source_rate: int, wanted: int
) -> Iterator[NDArray[np.float64]]:
    """``[time, channel]`` blocks at another rate; bit for bit what soxr makes of all at once."""
    import soxr

    stream: soxr.ResampleStream | None = None
    waiting: NDArray[np.float64] | None = None
    for block in blocks:
        if stream is None:
            stream = soxr.ResampleStream(
                *(source_rate, wanted, block.shape[1]), dtype="float64", quality=RESAMPLER_QUALITY
            )
        if waiting is not None:
            yield stream.resample_chunk(waiting)
        waiting = block
    if stream is not None and waiting is not None:
        yield stream.resample_chunk(waiting, last=True)


class _Forward(soundfile.SoundFile):  # type: ignore[misc]
    """Reads straight on. soundfile would seek to where it already is after every block."""

    def seekable(self) -> bool:
        return False


def _opened(file: FileIO) -> _Forward:
    """The sound in an open file; by its handle, since names need not be valid text."""
    file.seek(0)
    with _quiet():
        return _Forward(file.fileno(), closefd=False)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep away what the MPEG decoder writes to the process's stderr; it has no switch for it."""
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed: nothing can be written there
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def header(path: Path) -> tuple[int, int] | None:
    """Sample rate in Hz and number of channels that a file's header gives; ``None`` where it
    cannot be read."""
    try:
        with path.open("rb", buffering=0) as file, _opened(file) as sound:
            return int(sound.samplerate), int(sound.channels)
    except (soundfile.LibsndfileError, RuntimeError, OSError):
        return None


def header_rate(path: Path) -> int | None:
    """Sample rate that a file's header gives, in Hz; ``None`` where it cannot be read."""
    found = header(path)
    return None if found is None else found[0]


def resampler() -> str:
    """Name, quality and version of the resampler: another one gives other samples."""
    import soxr

    return f"soxr {soxr.__version__} {RESAMPLER_QUALITY}"


def to_int16(samples: NDArray[Any]) -> tuple[Int16, int]:
    """Float samples as int16, and how many had to be clipped.

    Example:
        >>> to_int16(np.array([0.5, -1.0, 1.0]))[0].tolist()
        [16384, -32768, 32767]
    """
    scaled = np.rint(samples * FULL_SCALE)
    clipped = int(np.count_nonzero((scaled > 32767) | (scaled < -32768)))
    return np.clip(scaled, -32768, 32767).astype(np.int16), clipped


def read_int16(path: Path, start: int = 0, stop: int | None = None) -> Iterator[Int16]:
    """Samples ``[start, stop)`` of a 16-bit file in blocks, ``[time, channel]``.

    Raises:
        soundfile.LibsndfileError: the file cannot be read.
        OSError: the file cannot be opened.
    """
    with (
        path.open("rb", buffering=0) as file,
        soundfile.SoundFile(file.fileno(), closefd=False) as sound,
    ):
        sound.seek(start)
        left = (sound.frames if stop is None else stop) - start
        size = max(BLOCK // sound.channels, 1)
        while left > 0 and len(block := sound.read(min(size, left), dtype="int16", always_2d=True)):
            left -= len(block)
            yield block


class FlacWriter:
    """A 16-bit FLAC file that is written block by block; folders on the way are made.

    Use it as a context. What the disk refuses is raised as the :class:`OSError` it was, which
    libsndfile alone would hide in a message.
    """

    def __init__(self, path: Path, sample_rate: int, channels: int = 1) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = _Remembering(path)
        with self._file.named():
            self._sound = soundfile.SoundFile(
                *(self._file, "w", sample_rate, channels), format="FLAC", subtype="PCM_16"
            )

    def __enter__(self) -> "FlacWriter":
        return self

    def __exit__(self, *_: object) -> None:
        with self._file.named():
            self._sound.close()
        self._file.close()

    def write(self, samples: Int16) -> None:
        """Append int16 samples, ``[time, channel]``, or ``[time]`` of one channel.

        Raises:
            OSError: the disk refused.
        """
        with self._file.named():
            self._sound.write(samples)


class _Remembering:
    """A file for libsndfile's callbacks, which lose exceptions; the first is kept."""

    def __init__(self, path: Path) -> None:
        self._raw = path.open("wb", buffering=0)
        self._error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self._raw.write(data) or 0
        except OSError as error:
            self._error = self._error or error
            return 0

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._raw.seek(offset, whence)

    def tell(self) -> int:
        return self._raw.tell()

    def close(self) -> None:
        self._raw.close()

    @contextmanager
    def named(self) -> Iterator[None]:
        """Raise the disk's own error instead of libsndfile's."""
        try:
            yield
        except (soundfile.LibsndfileError, RuntimeError) as error:
            if self._error is None:
                raise
            raise self._error from error
        if self._error is not None:
            raise self._error


def write_flac(path: Path, samples: Int16, sample_rate: int) -> None:
    """Write int16 samples as 16-bit FLAC; folders on the way are made.

    Args:
        path: of the file.
        samples: ``[time, channel]``, or ``[time]`` of one channel.
        sample_rate: in Hz.

    Raises:
        OSError: the disk refused.
    """
    channels = samples.shape[1] if samples.ndim > 1 else 1
    with FlacWriter(path, sample_rate, channels) as writer:
        writer.write(samples)


def promised_frames(file: FileIO, form: str, frames: int) -> tuple[int, list[str]]:
    """Samples of a channel that can be read of an open file, and what to say where it holds more.

    Args:
        file: at any place, where it stays.
        form: as soundfile calls it.
        frames: how many libsndfile promises, which guesses those of some MP3 files.
    """
    found = frames_of(file) if form == "MP3" else None
    if found is None:
        return frames, []
    if found.told is not None:
        if found.count <= found.told + 1:
            return frames, []
        return frames, [
            f"goes on after the {found.told} frames of its header (several files joined?), and the "
            f"other {found.count - found.told} cannot be read: write it anew"
        ]
    whole = found.count * found.samples
    if whole - frames < found.samples:
        return min(frames, whole), []
    return frames, [
        f"does not say how long it is, so that {frames} of its {whole} samples can be read: write "
        "it anew (ffmpeg does it)"
    ]


def doubts_of_the_end(path: Path) -> list[str]:
    """What the size and the last bytes of a file say against it that can be overlooked.

    Raises:
        BadAudio: the file is empty or shorter than it says.
        OSError: it cannot be read.
    """
    with path.open("rb", buffering=0) as file:
        return _faults_of_the_end(file)


def _faults_of_the_end(file: IO[bytes]) -> list[str]:
    """What the size and the last bytes of a file say against it that can be overlooked.

    libsndfile reads most files that are shorter than they say without a word.

    Raises:
        BadAudio: the file is empty or shorter than it says.
    """
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        raise BadAudio("is an empty file: fetch it again or remove it")
    file.seek(0)
    head = file.read(1024)
    if size < _promised_size(head, file):
        raise BadAudio("is cut off, its end is missing: fetch it again or remove it")
    if head[:4] != b"OggS":
        return []
    file.seek(max(size - 2 * _OGG_PAGE, 0))
    tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(page) < 27 + page[26] + sum(segments):
        raise BadAudio("is cut off, its end is missing: fetch it again or remove it")
    if page[14:18] != head[14:18]:  # numbers of streams
        return ["it holds several Ogg streams, of which the first alone is read"]
    if page[5] & 4:  # the header type's flag for the last page of a stream
        return []
    return ["its last Ogg page does not end the stream, so the rest may be missing"]


def _promised_size(head: bytes, file: IO[bytes]) -> int:
    """Bytes that a file has to have by its header; 0 where the header does not say.

    Layouts: RIFF, RF64 (EBU Tech 3306), IFF and AIFF, Sony Wave64, Sun AU, Apple CAF, NIST SPHERE
    and Creative VOC.
    """

    def number(first: int, count: int, order: Literal["little", "big"]) -> int:
        return int.from_bytes(head[first : first + count], order)

    kind = head[:4]
    if kind == b"RIFF":
        # programs that write to a pipe do not know the size and leave 0 or the largest number
        whole = number(4, 4, "little")
        known = 8 + whole - 1 if 0 < whole < _PIPE else 0  # a pad byte may be missing
        return max(known, _end_of_data(file, first=12, width=4, order="little"))
    if kind == b"RF64":
        return 8 + number(20, 8, "little")
    if kind == b"FORM":
        return 8 + number(4, 4, "big") - 1
    if kind == b"riff":
        return number(16, 8, "little")
    if kind == b".snd":
        samples = number(8, 4, "big")
        return number(4, 4, "big") + samples if samples < _PIPE else 0
    if kind == b"caff":
        return _end_of_data(file, first=8, width=8, order="big")
    if kind == b"NIST":
        fields = dict(re.findall(rb"^(\w+) -i (\d+)", head, flags=re.MULTILINE))
        names = (b"sample_count", b"channel_count", b"sample_n_bytes")
        return 1024 + math.prod(int(fields.get(name, 0)) for name in names)
    if head.startswith(b"Creative Voice File"):
        return number(20, 2, "little") + 4 + number(number(20, 2, "little") + 1, 3, "little")
    return 0


def _end_of_data(
    file: IO[bytes], *, first: int, width: int, order: Literal["little", "big"]
) -> int:
    """Where a chunk named ``data`` ends by its own size; 0 where there is none or no size.

    Args:
        file: chunks follow one another in it.
        first: place of the first chunk.
        width: bytes of a size.
        order: of the bytes of a size.
    """
    for _ in range(_CHUNKS):
        file.seek(first)
        header = file.read(4 + width)
        if len(header) < 4 + width:
            return 0
        size = int.from_bytes(header[4:], order)
        end = first + 4 + width + size
        if header[:4] == b"data":
            return end if 0 < size < (_PIPE if width == 4 else 1 << 63) else 0
        first = end + (size % 2 if width == 4 else 0)
    return 0
