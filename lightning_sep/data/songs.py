"""Songs with a file for each of their stems."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lightning_sep.checks import refusal
from lightning_sep.data.aligned import Aligned, Layout, Mixed, counted, drawn_or_named
from lightning_sep.data.manifests import Entry
from lightning_sep.data.names import shown, some
from lightning_sep.data.scan import Found
from lightning_sep.data.splits import split_by_key, split_named, whole
from lightning_sep.errors import DataError

_MIXTURES = ("mixture", "mix")


class Songs(Aligned):
    """A folder for each song with a file for each stem, as MUSDB18-HQ and CCMixter are published.

    ``<song>/{mixture,drums,bass,other,vocals}.wav``, best below ``train/``, ``val/`` and ``test/``:
    these folders are the splits. Where train and test are given alone, ``val`` names songs of train
    that validate; without it 15 % of them are drawn, by an order seeded by ``seed``. Where no
    folder is a split, 15 % of the songs each validate and test. All stems of a song are in one.

    ``mixture.wav`` or ``mix.wav``, where there is one, has to be the sum of the stems; it is left
    out, since the stems make it.

    Args:
        path: the folder.
        val: names of songs of train that validate.
        seed: another seed gives another split.
        channels: ``keep``, or ``mean`` of each file's; see
            :class:`~lightning_sep.data.folder.InPlace`.
        sample_rate: in Hz; ``None`` takes the rate that most files have.
        cache_limit_mb: bound of the decoded cache in MiB.
        keep: see :class:`~lightning_sep.data.corpus.Corpus`; takes songs that are not the sum of
            their stems, too.
        test_only: see :class:`~lightning_sep.data.corpus.Corpus`.

    Raises:
        ConfigError: a setting cannot be used.
    """

    name = "songs"

    def __init__(
        self,
        path: str | None = None,
        val: Sequence[str] | None = None,
        seed: int = 0,
        channels: str = "keep",
        sample_rate: int | None = None,
        cache_limit_mb: float | None = None,
        keep: bool = False,
        test_only: bool = False,
    ) -> None:
        super().__init__(path, seed, channels, sample_rate, cache_limit_mb, keep, test_only)
        if val is not None and (
            isinstance(val, str) or not all(isinstance(name, str) for name in val) or not val
        ):
            raise refusal("val", val, "a list of names of songs is needed, or null")
        self.val = None if val is None else list(val)

    def further(self) -> list[Any]:
        """See :meth:`InPlace.further`."""
        return [self.val]

    def layout(self, root: Path, found: Found) -> Layout:
        """See :meth:`Aligned.layout`."""
        packed = [name for name in found.files if name.lower().endswith(".stem.mp4")]
        if packed:
            raise DataError(
                f"{shown(root)} holds {len(packed)} .stem.mp4 ({some(packed)}), which libsndfile "
                "cannot read: MUSDB18-HQ has the same songs as WAV, and musdbconvert of the "
                "package musdb makes them"
            )
        songs: dict[str, dict[str, str]] = defaultdict(dict)
        for name in found.audio():
            path = PurePosixPath(name)
            if path.stem in songs[str(path.parent)]:
                raise DataError(f"{shown(root / path.parent)} has two files '{shown(path.stem)}'")
            songs[str(path.parent)][path.stem] = name
        mixtures = {
            song: next((files.pop(name) for name in _MIXTURES if name in files), "")
            for song, files in songs.items()
        }
        _refuse_other_stems(root, songs)
        splits, rule = self._splits(root, list(songs))
        made = [
            Mixed(
                name=song,
                source=_title(song),
                split=splits[song],
                entries=[
                    Entry(
                        id=name,
                        path=root / name,
                        class_name=stem,
                        group="music",
                        source=_title(song),
                        mixture=song,
                        stem=stem,
                        pieces=whole(splits[song]),
                    )
                    for stem, name in files.items()
                ],
                parts=list(files.values()),
                recorded=mixtures[song],
            )
            for song, files in songs.items()
        ]
        unused = dict.fromkeys(filter(None, mixtures.values()), "mixture, the sum of its stems")
        return Layout(made, rule, unused)

    def _splits(self, root: Path, songs: Sequence[str]) -> tuple[dict[str, str], str]:
        """The split of each song, and how they were made.

        Raises:
            DataError: some folders are splits and others are not, or ``val`` names no song.
        """
        tops = {song: split_named(song.partition("/")[0]) for song in songs}
        drawn = self._drawn([song for song, split in tops.items() if split in ("train", "")])
        if not any(tops.values()):
            return drawn, f"by song, in an order seeded by {self.seed}: {counted(drawn)}"
        loose = sorted(shown(song) for song, split in tops.items() if not split)
        if loose:
            raise DataError(
                f"{shown(root)}: beside folders that are splits there are {some(loose)}. Put all "
                "songs into train/, val/ or test/"
            )
        splits = drawn_or_named(tops, drawn)
        how = "" if splits == tops else "; val is taken from train"
        return splits, f"the folders train, val and test{how}: {counted(splits)}"

    def _drawn(self, songs: Sequence[str]) -> dict[str, str]:
        if self.val is None:
            return dict(zip(songs, split_by_key(songs, seed=self.seed), strict=True))
        titles = {_title(song) for song in songs}
        missing = [shown(name) for name in self.val if name not in titles]
        if missing:
            raise DataError(f"data.val: no song of train is called {some(missing)}")
        return {song: "val" if _title(song) in self.val else "train" for song in songs}


def _title(song: str) -> str:
    """A song's name without the folder of its split."""
    top, _, rest = song.partition("/")
    return rest if rest and split_named(top) else song


def _refuse_other_stems(root: Path, songs: Mapping[str, Mapping[str, str]]) -> None:
    usual = Counter(frozenset(files) for files in songs.values()).most_common(1)[0][0]
    others = [
        f"{shown(song)} ({', '.join(sorted(map(shown, files))) or 'none'})"
        for song, files in sorted(songs.items())
        if set(files) != usual
    ]
    if others or len(usual) < 2:
        others = others or [f"{shown(root)} ({', '.join(sorted(usual)) or 'none'})"]
        raise DataError(
            f"{shown(root)}: a song is a folder with a file for each stem, the same in all songs "
            f"and two or more. Most have {', '.join(sorted(map(shown, usual))) or 'none'}; others: "
            f"{some(others)}"
        )
