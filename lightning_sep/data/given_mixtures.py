"""Recorded mixtures with their sources."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lightning_sep.checks import refusal
from lightning_sep.data.aligned import Aligned, Layout, Mixed, counted
from lightning_sep.data.manifests import MIXTURE, NOISE, Entry
from lightning_sep.data.names import shown, some
from lightning_sep.data.scan import Found
from lightning_sep.data.splits import split_named, whole
from lightning_sep.errors import ConfigError, DataError

REST = "rest"  # what the sources leave of a mixture
_MIXTURES = ("mix", "mixture", "mix_clean", "mix_both", "mix_single")
_SOURCE = re.compile(r"s\d+")
_WSJ = re.compile(r"([0-9a-z]{3})[0-9a-z]{5}_-?\d+(?:\.\d+)?")
_LIBRI = re.compile(r"(\d+)-\d+-\d+")


class GivenMixtures(Aligned):
    """Folders of mixtures and of their sources, as WSJ0-2mix, WHAM and LibriMix are generated.

    ``{tr,cv,tt}/{mix,s1,s2}/NAME.wav``: a folder for each split, in it one for the mixtures and one
    for each source, with files of the same names in all of them. Speakers are known where names
    are made of those of WSJ0 or LibriSpeech; WSJ0-2mix shares them between training and validation.

    A mixture has to be the sum of its sources, or of its sources and ``noise``, a part that is not
    to be estimated and not scored.

    Args:
        path: the folder that holds those of the splits (``wav8k/min``).
        mixture: folder of the mixtures; ``None`` takes the one there is.
        sources: folders of the sources; ``None`` takes ``s1``, ``s2`` and so on.
        noise: folder of a further part that is no source. ``rest``: what the sources leave of a
            mixture is such a part, and nothing is compared.
        channels: ``mean`` of each file's, or ``keep``; see
            :class:`~lightning_sep.data.folder.InPlace`.
        sample_rate: in Hz; ``None`` takes the rate that most files have.
        cache_limit_mb: bound of the decoded cache in MiB.
        keep: see :class:`~lightning_sep.data.corpus.Corpus`; takes mixtures that are not the sum of
            their parts, too.
        test_only: see :class:`~lightning_sep.data.corpus.Corpus`; ``{mix,s1,s2}/NAME.wav`` will do.

    Raises:
        ConfigError: a setting cannot be used.
    """

    name = "given_mixtures"

    def __init__(
        self,
        path: str | None = None,
        mixture: str | None = None,
        sources: Sequence[str] | None = None,
        noise: str | None = None,
        channels: str = "mean",
        sample_rate: int | None = None,
        cache_limit_mb: float | None = None,
        keep: bool = False,
        test_only: bool = False,
    ) -> None:
        super().__init__(path, 0, channels, sample_rate, cache_limit_mb, keep, test_only)
        for name, value in (("mixture", mixture), ("noise", noise)):
            if value is not None and (not isinstance(value, str) or not value):
                raise refusal(name, value, "the name of a folder is needed, or null")
        if sources is not None and (
            isinstance(sources, str)
            or not all(isinstance(one, str) and one for one in sources)
            or not 1 <= len(set(sources)) == len(sources)
            or {MIXTURE, NOISE} & set(sources)
        ):
            raise refusal("sources", sources, "a list of names of folders is needed, or null")
        self.mixture, self.noise = mixture, noise
        self.sources = None if sources is None else list(sources)

    def further(self) -> list[Any]:
        """See :meth:`InPlace.further`."""
        return [self.mixture, self.sources, self.noise]

    def layout(self, root: Path, found: Found) -> Layout:
        """See :meth:`Aligned.layout`."""
        splits, files = self._parts(root, found)
        present = sorted({part for _, part in files})
        mixture = self._mixture(root, present)
        sources = self.sources or [part for part in present if _SOURCE.fullmatch(part)]
        stems = {one: one for one in sources}  # by the folder
        if self.noise not in (None, REST):
            stems[str(self.noise)] = NOISE
        lacking = [part for part in (mixture, *stems) if part not in present]
        if lacking or not sources:
            raise ConfigError(
                f"{shown(root)} has folders {', '.join(map(shown, present))}, and none called "
                f"{', '.join(map(shown, lacking)) or 's1, s2'}: name those there are in "
                "data.mixture, data.sources and data.noise"
            )
        _refuse_unpaired(root, [mixture, *stems], files)
        used: set[str] = set()
        made = []
        for top, split in splits.items():
            for name in sorted(files[top, mixture]):
                speakers = _speakers(name, sources)
                id_ = f"{top}/{name}" if top else name
                parts = {stems[part]: files[top, part][name] for part in stems}
                recorded = files[top, mixture][name]
                entries = [
                    _entry(root, file, stem, speakers.get(stem, ""), id_, split)
                    for stem, file in [*parts.items(), (MIXTURE, recorded)]
                ]
                used |= {entry.id for entry in entries}
                made.append(
                    Mixed(
                        name=id_,
                        source=name,
                        split=split,
                        entries=entries,
                        parts=list(parts.values()),
                        recorded="" if self.noise == REST else recorded,
                    )
                )
        unused = {name: "in no folder that is used" for name in found.audio() if name not in used}
        wsj = all(_WSJ.match(one.source) for one in made)
        notes = []
        if self.noise == REST:
            notes.append("what the sources leave of a mixture is not scored (data.noise=rest)")
        rule = counted({one.name: one.split for one in made})
        return Layout(
            made,
            f"the folders {', '.join(filter(None, splits)) or shown(root)}: {rule}",
            unused,
            frozenset({"train", "val"}) if wsj else frozenset(),
            notes,
        )

    def _parts(
        self, root: Path, found: Found
    ) -> tuple[dict[str, str], dict[tuple[str, str], dict[str, str]]]:
        """The split of each folder on top, and files by it, the folder below, and their names.

        Raises:
            DataError: the folder is laid out otherwise.
        """
        splits: dict[str, str] = {}
        files: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        others = []
        inner = set()
        for file in found.audio():
            folders = PurePosixPath(file).parent.parts
            name = PurePosixPath(file).stem
            split = _split(folders[0]) if len(folders) == 2 else ""
            if split:
                splits[folders[0]] = split
                files[folders[0], folders[1]][name] = file
            elif len(folders) == 1 and self.test_only:
                splits[""] = "test"
                files["", folders[0]][name] = file
            else:
                others.append(shown(file))
                depth = [n for n, one in enumerate(folders[:-1]) if n and _split(one)]
                inner |= {"/".join(folders[:n]) for n in depth[:1]}
        if inner and not splits:
            choices = " or ".join(f"data.path={shown(root / one)}" for one in sorted(inner))
            raise DataError(f"{shown(root)} holds several sets of mixtures: choose {choices}")
        if others or not splits:
            raise DataError(
                f"{shown(root)} is not laid out as {{tr,cv,tt}}/{{mix,s1,s2}}/NAME.wav: "
                f"{some(others)}. data.test_only=true takes {{mix,s1,s2}}/NAME.wav, for testing"
            )
        return splits, files

    def _mixture(self, root: Path, present: Sequence[str]) -> str:
        """Name of the folder of the mixtures."""
        if self.mixture is not None:
            return self.mixture
        known = [part for part in _MIXTURES if part in present]
        if len(known) != 1:
            raise ConfigError(
                f"{shown(root)} has {', '.join(known) or 'no folder of mixtures'}: "
                "data.mixture=FOLDER says which are to be separated"
            )
        return known[0]

    def remedy(self) -> str:
        """See :meth:`Aligned.remedy`."""
        return (
            "If a part is missing that is no source, data.noise=FOLDER names it, and "
            f"data.noise={REST} leaves unscored what the sources leave. "
        )


def _split(folder: str) -> str:
    """The split that a folder is, by its name; ``train-100`` is one of train."""
    return split_named(folder) or split_named(folder.partition("-")[0])


def _refuse_unpaired(
    root: Path, parts: Sequence[str], files: dict[tuple[str, str], dict[str, str]]
) -> None:
    problems = []
    for top in sorted({top for top, _ in files}):
        names = {part: set(files[top, part]) for part in parts}
        whole_set = set().union(*names.values())
        for part in parts:
            missing = sorted(whole_set - names[part])
            if missing:
                folder = shown(str(PurePosixPath(top) / part))
                problems.append(
                    f"{folder} lacks {len(missing)} of {len(whole_set)} "
                    f"({some([shown(one) for one in missing])})"
                )
    if problems:
        raise DataError(
            f"{shown(root)}: each mixture needs a file of its name in each folder: "
            f"{'; '.join(problems)}. Fetch or make them again"
        )


def _speakers(name: str, sources: Sequence[str]) -> dict[str, str]:
    """Who speaks in each source, where the mixture's name says it.

    Example:
        >>> _speakers("011a0101_1.8_22ba0105_-1.8", ["s1", "s2"])
        {'s1': '011', 's2': '22b'}
        >>> _speakers("1034-121119-0049_1995-1836-0012", ["s1", "s2"])
        {'s1': '1034', 's2': '1995'}
    """
    for pattern in (_WSJ, _LIBRI):
        if re.fullmatch(rf"{pattern.pattern}(?:_{pattern.pattern})*", name):
            found = [match[1] for match in pattern.finditer(name)]
            return dict(zip(sources, found, strict=True)) if len(found) == len(sources) else {}
    return {}


def _entry(root: Path, file: str, stem: str, speaker: str, mixture: str, split: str) -> Entry:
    known = "speech" if speaker else "sound"
    return Entry(
        id=file,
        path=root / file,
        class_name=known if _SOURCE.fullmatch(stem) else stem,
        group=stem if stem == NOISE else known,
        speaker=speaker,
        source=PurePosixPath(file).stem,
        mixture=mixture,
        stem=stem,
        pieces=whole(split),
    )
