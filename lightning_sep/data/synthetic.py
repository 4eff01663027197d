"""A set made on the spot: for a first run, for tests, for machines without a network."""

import hashlib
import json
import shutil
from pathlib import Path
from uuid import uuid4
from zlib import crc32

import numpy as np

from lightning_sep.checks import whole_number
from lightning_sep.data import synthesis
from lightning_sep.data.audio_files import resampler, to_int16, write_flac
from lightning_sep.data.corpus import Corpus
from lightning_sep.data.manifests import BUILDING, Entry, Origin, Progress, build
from lightning_sep.data.splits import whole
from lightning_sep.fsio import storage_errors

_VERSION = 1  # raised when the sounds change, so that no old set is taken for a new one
_UTTERANCES, _UTTERANCE_S = 4, 2.4
_CLIPS = {"train": 6, "val": 3, "test": 3}  # of each noise
_CLIP_S = 3.0
_MELODIES = {"train": 6, "val": 2, "test": 2}
_MELODY_S = 10.0
_KEPT = ("train", "train", "val", "train", "test", "train")  # speakers in turn, low to high voice


class Synthetic(Corpus):
    """Voices, noises and melodies made from a seed in seconds; no download.

    Classes: ``speech`` (group speech), five noises (group noise) and ``melody`` (group music).
    Speakers differ in pitch, vocal tract and timbre; those of validation and test are never heard
    in training.

    Args:
        seed: another seed gives other speakers, noises and tunes.
        speakers: how many voices; two thirds train, a sixth validates, a sixth tests.
        sample_rate: in Hz; made at 8000 and resampled if another is asked for.
        cache_limit_mb: bound of the decoded cache in MiB.
        keep: no file of this set needs it.
    """

    name = "synthetic"

    def __init__(
        self,
        seed: int = 0,
        speakers: int = 24,
        sample_rate: int | None = None,
        cache_limit_mb: float | None = None,
        keep: bool = False,
    ) -> None:
        super().__init__(sample_rate, cache_limit_mb, keep)
        self.seed = whole_number("seed", seed, at_least=0)
        self.speakers = whole_number(
            "speakers", speakers, at_least=12, meaning="validation and test have two each"
        )

    def key(self) -> str:
        """See :meth:`Corpus.key`."""
        settings: list[object] = [_VERSION, self.seed, self.speakers, self.sample_rate, resampler()]
        settings += self.further()
        return f"{self.name}-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]}"

    def further(self) -> list[float]:
        """Settings of a subclass that change the sounds; part of the key."""
        return []

    def recorded(self, signal: synthesis.Signal, identity: str) -> synthesis.Signal:
        """What a recording of ``signal`` holds; ``identity`` is the recording's own."""
        return signal

    def make(self, home: Path, progress: Progress | None = None) -> Path:
        """See :meth:`Corpus.make`."""
        folder = home / f"{BUILDING}{self.name}-made-{uuid4().hex[:8]}"
        try:
            with storage_errors(folder):
                entries = self._write(folder, progress)
                return build(
                    entries,
                    Origin(
                        name=self.name,
                        source=f"made here: seed {self.seed}, {self.speakers} speakers",
                        licence="none needed: made by this program",
                        split_rule="speakers and clips of one split are in no other",
                    ),
                    home=home,
                    sample_rate=self.sample_rate or synthesis.SAMPLE_RATE,
                    cache_limit_mb=self.cache_limit_mb,
                    store_all=True,
                    keep=self.keep,
                    progress=progress,
                )
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _write(self, folder: Path, progress: Progress | None) -> list[Entry]:
        """FLAC files of all sounds, below ``folder``."""
        entries: list[Entry] = []

        def add(
            signal: synthesis.Signal, split: str, class_name: str, group: str, name: str, who: str
        ) -> None:
            identity = f"{class_name}/{name}.flac"
            path = folder / identity
            recorded = self.recorded(signal, identity)
            write_flac(path, to_int16(recorded)[0], synthesis.SAMPLE_RATE)
            entries.append(Entry(identity, path, class_name, group, who, pieces=whole(split)))

        for number in range(self.speakers):
            if progress is not None:
                progress(number, self.speakers, f"{self.name}: voices")
            who, split = f"speaker{number:03d}", _KEPT[number % len(_KEPT)]
            voice = synthesis.voice(number, self.speakers, self._generator("voice", number))
            for take in range(_UTTERANCES):
                signal = synthesis.speech(
                    voice, _UTTERANCE_S, self._generator("speech", number, take)
                )
                add(signal, split, "speech", "speech", f"{who}-{take}", who)
        for class_name, make in synthesis.NOISES.items():
            for split, count in _CLIPS.items():
                for take in range(count):
                    signal = make(_CLIP_S, self._generator(f"{class_name}-{split}", take))
                    add(signal, split, class_name, "noise", f"{split}-{take}", "")
        for split, count in _MELODIES.items():
            for take in range(count):
                signal = synthesis.melody(_MELODY_S, self._generator(f"melody-{split}", take))
                add(signal, split, "melody", "music", f"{split}-{take}", "")
        return entries

    def _generator(self, purpose: str, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, crc32(purpose.encode()), *numbers])
