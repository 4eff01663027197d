"""Miniatures of published sets of mixtures, whose samples tell where they are."""

from pathlib import Path

import numpy as np
import soundfile

RATE = 8000
STEMS = ("bass", "drums", "other", "vocals")
SONGS = {
    "train": ("Apple", "Birch", "Cedar", "Date", "Elm"),
    "test": ("Fig", "Grape"),
}
SPEAKERS = {"tr": ("011", "012", "013"), "cv": ("011", "013", "012"), "tt": ("22a", "22b", "22c")}
COUNTS = {"tr": 6, "cv": 3, "tt": 4}


def stem(song: int, number: int) -> np.ndarray:
    """``[time, 2]`` int16: one stem of a song. The lowest bits tell the place, as do those of no
    other sample within 1024; the value tells stem and song. The right channel is half of that
    ahead of the left."""
    place = np.arange(9000 + 500 * song)[:, None] + [0, 512]
    return (place % 1024 + 1024 * (number + 1) - 100 * song).astype(np.int16)


def songs(root: Path) -> Path:
    """Write all songs; stereo, under two seconds at 8 kHz."""
    song = 0
    for split, names in SONGS.items():
        for name in names:
            folder = root / split / name
            folder.mkdir(parents=True)
            stems = {one: stem(song, number) for number, one in enumerate(STEMS)}
            for one, samples in stems.items():
                soundfile.write(folder / f"{one}.wav", samples, RATE)
            total = np.sum(list(stems.values()), axis=0, dtype=np.int64).astype(np.int16)
            soundfile.write(folder / "mixture.wav", total, RATE)
            song += 1
    return root


def source(split: str, mixture: int, number: int) -> np.ndarray:
    """``[time]`` int16: one source of a mixture, of a length of its own."""
    seed = [sorted(COUNTS).index(split), mixture, number]
    noise = np.random.default_rng(seed).normal(size=6000 + 250 * mixture)
    return np.rint(2000 * noise).clip(-16000, 16000).astype(np.int16)


def name(split: str, mixture: int) -> str:
    """Name of a mixture: the utterances and their levels."""
    first, second = SPEAKERS[split][mixture % 3], SPEAKERS[split][(mixture + 1) % 3]
    level = 0.25 * mixture
    prefix = "abc"[["tr", "cv", "tt"].index(split)]
    return f"{first}{prefix}01{mixture:02d}_{level}_{second}{prefix}02{mixture:02d}_{-level}"


def mixtures(root: Path) -> Path:
    """Write all mixtures with their two sources."""
    for split, count in COUNTS.items():
        for mixture in range(count):
            sources = {f"s{n + 1}": source(split, mixture, n) for n in range(2)}
            total = np.sum(list(sources.values()), axis=0, dtype=np.int64).astype(np.int16)
            for folder, samples in {**sources, "mix": total}.items():
                path = root / split / folder / f"{name(split, mixture)}.wav"
                path.parent.mkdir(parents=True, exist_ok=True)
                soundfile.write(path, samples, RATE)
    return root
