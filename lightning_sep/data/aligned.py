"""Folders of mixtures with the parts that they are made of, aligned to the sample."""

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile

from lightning_sep.data.audio_files import BLOCK
from lightning_sep.data.folder import InPlace, refuse_empty
from lightning_sep.data.manifests import Entry, Origin, Progress, build
from lightning_sep.data.names import shown, some
from lightning_sep.data.scan import Found, scan
from lightning_sep.data.splits import SPLITS
from lightning_sep.errors import DataError

_STEP = {"PCM_U8": 2.0**-7, "PCM_S8": 2.0**-7, "PCM_16": 2.0**-15}  # what rounding may take away
_FINE_STEP = 2.0**-20  # of all other formats; far above that of 24 bits, and -120 dBFS


@dataclass(frozen=True)
class Mixed:
    """One song or recorded mixture.

    Args:
        name: unique within the folder.
        source: what must not be in two splits.
        split: that it belongs to.
        entries: its files that are prepared, each with its stem.
        parts: names of the files that it is the sum of.
        recorded: name of the file of the mixture itself; empty where there is none, or where its
            parts are not all known.
    """

    name: str
    source: str
    split: str
    entries: Sequence[Entry]
    parts: Sequence[str]
    recorded: str = ""


@dataclass(frozen=True)
class Layout:
    """What a folder of mixtures holds.

    Args:
        mixtures: all of them.
        rule: how the splits were made, in one line.
        unused: why audio files are not prepared, by name.
        common_speakers: splits that share their speakers on purpose.
        notes: what else a user should know, a line each.
    """

    mixtures: Sequence[Mixed]
    rule: str
    unused: Mapping[str, str]
    common_speakers: frozenset[str] = frozenset()
    notes: Sequence[str] = field(default_factory=list)


class Aligned(InPlace):
    """A folder of mixtures and their parts; subclasses say which file is what.

    The files of a mixture have one length, rate and number of channels, and a recorded mixture is
    the sum of its parts, but for a rounding step of each file.
    """

    @abstractmethod
    def layout(self, root: Path, found: Found) -> Layout:
        """Which files belong together.

        Raises:
            DataError: files are missing, or the folder is laid out otherwise.
        """

    def found(self, home: Path) -> Found:
        """See :meth:`InPlace.found`; no table is looked for."""
        return scan(self.root(), "", apart=home)

    def make(self, home: Path, progress: Progress | None = None) -> Path:
        """See :meth:`Corpus.make`."""
        root = self.root()
        found = self.found(home)
        self.note(found)
        if not found.audio():
            refuse_empty(root, found)
        layout = self.layout(root, found)
        notes = [*layout.notes, *self._checked(root, layout.mixtures, progress)]
        entries = [entry for one in layout.mixtures for entry in one.entries]
        left_out = found.left_out({entry.id for entry in entries}, "")
        for name in left_out.pop("", ()):
            left_out.setdefault(layout.unused[name], []).append(name)
        return build(
            entries,
            Origin(
                name=self.name,
                source=str(root.resolve()),
                licence="the user's",
                split_rule=layout.rule,
                left_out=left_out,
                notes=notes,
                common_speakers=layout.common_speakers,
            ),
            home=home,
            sample_rate=self.sample_rate,
            cache_limit_mb=self.cache_limit_mb,
            keep_channels=self.channels == "keep",
            keep=self.keep,
            test_only=self.test_only,
            progress=progress,
        )

    def _checked(
        self, root: Path, mixtures: Sequence[Mixed], progress: Progress | None
    ) -> list[str]:
        """What was found wrong and kept, a line each.

        Raises:
            DataError: files of one mixture differ in length, or it is not the sum of its parts.
        """
        unequal, unlike = [], []
        for number, one in enumerate(mixtures):
            if progress is not None:
                progress(number, len(mixtures), f"{self.name}: compare {shown(one.name)}")
            files = [*one.parts, *([one.recorded] if one.recorded else [])]
            files += [entry.id for entry in one.entries if entry.id not in files]
            if told := _lengths(root, files):
                unequal.append(f"{shown(one.name)} ({told})")
            elif one.recorded and (told := _difference(root, one.recorded, one.parts)):
                unlike.append(f"{shown(one.name)} ({told})")
        if unequal:
            raise DataError(
                f"{shown(root)}: files of {len(unequal)} of {len(mixtures)} mixtures are not "
                f"aligned: {some(unequal)}. Fetch or cut them again"
            )
        if unlike and not self.keep:
            raise DataError(
                f"{shown(root)}: {len(unlike)} of {len(mixtures)} mixtures are not the sum of "
                f"their parts: {some(unlike)}. {self.remedy()}data.keep=true (`data prepare` has "
                "--keep) takes them as they are"
            )
        return [f"{len(unlike)} mixtures are not the sum of their parts: {some(unlike)}"] * bool(
            unlike
        )

    def remedy(self) -> str:
        """What may help where a mixture is not the sum of its parts, with a space at the end."""
        return ""


def drawn_or_named(splits: Mapping[str, str], drawn: Mapping[str, str]) -> dict[str, str]:
    """``splits``, with the ``val`` of ``drawn`` where a folder names train and test alone."""
    named = set(splits.values())
    if "val" in named or "train" not in named:
        return dict(splits)
    return {
        name: "val" if split == "train" and drawn[name] == "val" else split
        for name, split in splits.items()
    }


def counted(splits: Mapping[str, str]) -> str:
    """How many mixtures each split has, in words."""
    counts = Counter(splits.values())
    return ", ".join(f"{counts[split]} {split}" for split in SPLITS if counts[split])


def _lengths(root: Path, files: Sequence[str]) -> str:
    """How the files differ in length, rate or channels; empty where they do not."""
    known: dict[tuple[str, int], str] = {}
    for name in files:
        try:
            about = soundfile.info(root / name)
        except (soundfile.LibsndfileError, RuntimeError, OSError):
            continue  # named with all other bad files when these are read
        values = {
            "samples": about.frames,
            "Hz": about.samplerate,
            "channels": about.channels,
        }
        for what, value in values.items():
            known.setdefault((what, value), name)
    for what in ("Hz", "channels", "samples"):
        found = [(value, name) for (kind, value), name in known.items() if kind == what]
        if len(found) > 1:
            return ", ".join(f"{Path(name).name}: {value} {what}" for value, name in found)
    return ""


def _difference(root: Path, recorded: str, parts: Sequence[str]) -> str:
    """How far a mixture is from the sum of its parts; empty where that is rounding."""
    worst, place, rate = 0.0, 0, 1
    try:
        with ExitStack() as opened:
            sounds = [
                opened.enter_context(soundfile.SoundFile(root / name))
                for name in (recorded, *parts)
            ]
            rate = sounds[0].samplerate
            allowed = sum(_STEP.get(sound.subtype, _FINE_STEP) for sound in sounds)
            frames = max(BLOCK // (len(sounds) * sounds[0].channels), 1)
            done = 0
            while len(mixture := sounds[0].read(frames, dtype="float64")):
                total = np.zeros_like(mixture)
                for sound in sounds[1:]:
                    total += sound.read(frames, dtype="float64")
                # a mixture that was recorded too loud is its sum, clipped
                beyond = np.abs(mixture - np.clip(total, -1.0, 1.0))
                if beyond.max() > worst:
                    worst = float(beyond.max())
                    place = done + int(beyond.reshape(len(beyond), -1).max(axis=1).argmax())
                done += len(mixture)
    except (soundfile.LibsndfileError, RuntimeError, OSError, ValueError):
        return ""  # a file that cannot be read to its end; named when all are read
    if worst <= allowed:
        return ""
    return f"{20 * math.log10(worst):.0f} dBFS off at {place / rate:.2f} s"
