"""Reading one audio file into int16 mono at one rate, and saying what is wrong with it."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

Int16 = NDArray[np.int16]

SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
FULL_SCALE = 32768.0  # int16 samples / FULL_SCALE are the float samples everywhere in this project
MONO_RULE = "mean of the channels"
RESAMPLER_QUALITY = "HQ"
SILENCE_DBFS = -80.0  # rms below this is silence: no direction to project on, no level to set
SILENCE_RMS = 10.0 ** (SILENCE_DBFS / 20.0)


class BadAudio(Exception):
    """One file that cannot be used; collected with others into one DataError."""


@dataclass(frozen=True)
class Decoded:
    """One file, ready for the cache.

    Args:
        samples: ``[time]`` int16, mono, at the wanted rate.
        file_sha256: of the file as it was found.
        source_rate: its own sample rate in Hz.
        channels: its own number of channels.
        clipped: samples beyond full scale after averaging or resampling, now at full scale.
        as_is: the file itself holds exactly ``samples`` in a lossless integer format, so it needs
            no copy.
    """

    samples: Int16
    file_sha256: str
    source_rate: int
    channels: int
    clipped: int
    as_is: bool


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


def write_flac(path: Path, samples: Int16, sample_rate: int) -> None:
    """Write int16 samples, ``[time]``, as 16-bit FLAC; folders on the way are made.

    Raises:
        OSError: the disk refused. libsndfile alone would hide the reason in a message.
    """
    encoded = io.BytesIO()
    soundfile.write(encoded, samples, sample_rate, format="FLAC", subtype="PCM_16")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded.getbuffer())


def _ends_too_soon(content: bytes) -> bool:
    """Whether a WAV or Ogg file is shorter than it says; libsndfile reads on without a word."""
    if content[:4] == b"RIFF":
        size = int.from_bytes(content[4:8], "little")
        # programs that write to a pipe do not know the size and leave 0 or the largest number
        return 0 < size < 0xFFFFFF00 and 8 + size > len(content) + 1  # a pad byte may be missing
    if content[:4] == b"OggS":
        page = content[content.rfind(b"OggS") :]
        segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
        return len(page) < 27 or len(page) < 27 + page[26] + sum(segments)
    return False


def decode(path: Path, *, sample_rate: int | None, sha256: str | None = None) -> Decoded:
    """Read ``path`` as int16 mono.

    Args:
        path: any file that libsndfile reads.
        sample_rate: wanted rate in Hz; ``None`` keeps the file's own.
        sha256: what the file's checksum has to be, where the set brings one.

    Raises:
        BadAudio: the file is missing, cut off, empty, not finite or not what its checksum says.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise BadAudio("is not there, though the table lists it: fetch it again") from None
    except OSError as error:
        raise BadAudio(f"cannot be read ({error.strerror})") from None
    found = hashlib.sha256(content).hexdigest()
    if sha256 is not None and found != sha256:
        raise BadAudio("differs from its line in SHA256SUMS: fetch the file again")
    if not content:
        raise BadAudio("is an empty file: fetch it again or remove it")
    if _ends_too_soon(content):
        raise BadAudio("is cut off, its end is missing: fetch it again or remove it")
    try:
        with soundfile.SoundFile(io.BytesIO(content)) as file:
            frames, rate, channels = file.frames, int(file.samplerate), int(file.channels)
            exact = file.subtype == "PCM_16"
            samples = file.read(dtype="int16" if exact else "float64", always_2d=True)
            lossless = exact and file.format in ("FLAC", "WAV")
    except (soundfile.LibsndfileError, RuntimeError) as error:
        reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
        raise BadAudio(
            f"cannot be decoded, it is cut off or no audio ({reason}): fetch it again or remove it"
        ) from None
    if len(samples) < frames:
        raise BadAudio(f"is cut off after {len(samples)} of {frames} samples: fetch it again")
    if len(samples) == 0:
        raise BadAudio("holds 0 samples: remove it")
    if not exact and not np.isfinite(samples).all():
        count = int(np.count_nonzero(~np.isfinite(samples)))
        raise BadAudio(f"holds {count} samples that are NaN or infinite: write it again")
    wanted = sample_rate or rate
    if exact and channels == 1 and rate == wanted:
        mono = np.ascontiguousarray(samples[:, 0])
        return Decoded(mono, found, rate, channels, clipped=0, as_is=lossless)
    scale = FULL_SCALE if exact else 1.0
    average = samples.astype(np.float64).mean(axis=1) / scale
    if rate != wanted:
        import soxr

        average = soxr.resample(average, rate, wanted, quality=RESAMPLER_QUALITY)
        if len(average) == 0:
            raise BadAudio(f"is too short to resample to {wanted} Hz: remove it")
    mono, clipped = to_int16(average)
    return Decoded(mono, found, rate, channels, clipped, as_is=False)
