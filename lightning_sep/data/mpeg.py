"""How much an MPEG audio file (MP3 and its elders) holds, counted frame by frame.

Only a first frame called Xing, Info or VBRI tells the length. Without one libsndfile guesses it
from the first frames' bit rate and reads no further, and with one it stops there, though another
file may have been joined on.
"""

import mmap
import re
from dataclasses import dataclass
from typing import IO

# Thousands of bits per second by their number in a header, and samples of a frame, by layer: of
# MPEG-1 (ISO/IEC 11172-3), then of MPEG-2 and 2.5 (ISO/IEC 13818-3).
_LOW = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_BIT_RATES = (
    (
        (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
        (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
        (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    ),
    ((32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256), _LOW, _LOW),
)
_SAMPLES = ((384, 1152, 1152), (384, 1152, 576))
_RATES = (44100, 48000, 32000)  # Hz, of MPEG-1; MPEG-2 has half of it, MPEG-2.5 a quarter
_BEGINS = re.compile(rb"\xff[\xe2-\xff]|ID3")  # a frame or a tag
_ID3 = 10  # bytes of the header of such a tag


@dataclass(frozen=True)
class Frames:
    """The frames of a file.

    Args:
        count: how many whole ones hold sound.
        samples: of a channel in each.
        told: how many the first one promises; ``None`` where nothing is said.
    """

    count: int
    samples: int
    told: int | None


def frames_of(file: IO[bytes]) -> Frames | None:
    """Count the frames of an open file; ``None`` where there is none."""
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        place, first, count = _next(data, 0), None, 0
        while place >= 0:
            size, samples = _frame(data, place) or (0, 0)
            if place + size > len(data):
                break
            if first is None:
                first = (samples, *_promise(data[place : place + size]))
            count += 1
            place += size
            if _frame(data, place) is None:
                place = _next(data, place)
        if first is None:
            return None
        samples, no_sound, told = first
        return Frames(count - no_sound, samples, told)


def _frame(data: mmap.mmap, place: int) -> tuple[int, int] | None:
    """Bytes and samples of the frame whose header lies at ``place``; ``None`` where none does."""
    header = int.from_bytes(data[place : place + 4], "big")
    if header >> 21 != 0x7FF or place + 4 > len(data):
        return None
    version, layer = header >> 19 & 3, 3 - (header >> 17 & 3)
    bits, rate, padding = header >> 12 & 15, header >> 10 & 3, header >> 9 & 1
    if version == 1 or layer == 3 or bits in (0, 15) or rate == 3:
        return None
    later = int(version != 3)
    hertz = _RATES[rate] // (1, 2, 4)[(3 - version + later) // 2]
    samples = _SAMPLES[later][layer]
    slot = 4 if layer == 0 else 1  # bytes that a frame grows by
    bytes_per_slot = samples // 8 // slot * _BIT_RATES[later][layer][bits - 1] * 1000
    return (bytes_per_slot // hertz + padding) * slot, samples


def _next(data: mmap.mmap, place: int) -> int:
    """Where the next two frames begin that follow each other, past tags; -1 without any."""
    while True:
        if data[place : place + 3] == b"ID3":
            size = data[place + 6 : place + _ID3]
            place += _ID3 + sum((byte & 127) << 7 * (3 - n) for n, byte in enumerate(size))
        frame = _frame(data, place)
        if frame is not None and _frame(data, place + frame[0]) is not None:
            return place
        begins = _BEGINS.search(data, place + 1)
        if begins is None:
            return -1
        place = begins.start()


def _promise(frame: bytes) -> tuple[bool, int | None]:
    """Whether the first frame tells of the others instead of sounding, and how many it says."""
    told = frame.find(b"VBRI", 4, 44)
    if told >= 0:
        return True, int.from_bytes(frame[told + 14 : told + 18], "big")
    told = max(frame.find(b"Xing", 4, 44), frame.find(b"Info", 4, 44))
    if told < 0:
        return False, None
    says = frame[told + 7 : told + 8] >= b"\1" and frame[told + 7] & 1
    return True, int.from_bytes(frame[told + 8 : told + 12], "big") if says else None
