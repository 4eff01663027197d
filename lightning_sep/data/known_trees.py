"""Folders laid out like published sets, which a plain reading of the folders would get wrong."""

import os
import re
from collections.abc import Iterable, Sequence

from lightning_sep.data.audio_files import SUFFIXES

_MIXTURES = {"mix", "mix_clean", "mix_both", "mix_single"}
_STEMS = {"bass", "drums", "other", "vocals"}

_SPEECH = (
    "write a metadata.csv with the columns filename, speaker and, for the published parts, split"
)
_MIXED = (
    "a mixture and its sources belong together, which data=folder does not know: use "
    "data=given_mixtures data.path={path} examples=given. Or write a metadata.csv with the columns "
    "filename, class, speaker and split"
)

_BY_NAME = (
    (
        "VoxCeleb",
        re.compile(r"(?:^|/)id1\d{4}/[\w-]{11}/\d{5}\.(?:wav|flac|m4a)$"),
        f"{_SPEECH} (the folder id1.... is the speaker, the one below it the session)",
    ),
    (
        "LibriSpeech",
        re.compile(r"(?:^|/)(\d+)/(\d+)/\1-\2-\d{4}\.(?:flac|wav)$"),
        "lightning-sep data prepare librispeech --source FOLDER takes a folder with audio/, "
        "metadata.csv (filename, part, speaker) and SHA256SUMS. Or "
        f"{_SPEECH} (the first folder of numbers is the speaker)",
    ),
    (
        "TIMIT",
        re.compile(
            r"(?:^|/)(?:train|test)/dr\d/[mf]\w{3}\d/s[aix]\d+\.(?:wav|sph|flac)$", re.IGNORECASE
        ),
        f"{_SPEECH} (the folder below DR1 to DR8 is the speaker)",
    ),
    (
        "ESC-50",
        re.compile(r"(?:^|/)[1-5]-\d+-[A-Z]-\d{1,2}\.(?:wav|ogg|flac)$"),
        "lightning-sep data prepare esc10 --source FOLDER takes a folder with audio/, metadata.csv "
        "(filename, fold, src_file, category) and SHA256SUMS. Or write a metadata.csv with the "
        "columns filename, class, source and split, from its meta/esc50.csv",
    ),
)


def known_tree(names: Sequence[str]) -> str:
    """Which published set the files look like, and what to do instead; empty where none.

    Args:
        names: of all files, relative to the folder, with ``/``.
    """
    folders = _children(name.rpartition("/")[0] for name in names)
    if any(name.lower().endswith(".stem.mp4") for name in names) or any(
        {name.rpartition(".")[0] for name in files} >= _STEMS for files in _files(names)
    ):
        return (
            "looks like MUSDB: the stems of a song belong together, which data=folder does not "
            "know: use data=songs data.path=FOLDER examples=stems task.sources=4 task.order=fixed. "
            "Or write a metadata.csv with the columns filename, class (the stem), source (the "
            "song) and split"
        )
    for parent, below in folders.items():
        if {"s1", "s2"} <= below and below & _MIXTURES:
            libri = re.search(r"train-\d{3}$|libri", parent, re.IGNORECASE)
            path = "/".join(filter(None, ["FOLDER", parent.rpartition("/")[0]]))
            return f"looks like {'LibriMix' if libri else 'WSJ0-mix'}: {_MIXED.format(path=path)}"
    sounds = [name for name in names if os.path.splitext(name)[1].lower() in (*SUFFIXES, ".m4a")]
    for title, pattern, instead in _BY_NAME:
        alike = sum(bool(pattern.search(name)) for name in sounds)
        if alike and 2 * alike >= len(sounds):
            return f"looks like {title}: {instead}"
    return ""


def _children(folders: Iterable[str]) -> dict[str, set[str]]:
    """Names of the folders in each folder."""
    found: dict[str, set[str]] = {}
    for folder in set(folders):
        while folder:
            parent, _, name = folder.rpartition("/")
            found.setdefault(parent, set()).add(name)
            folder = parent
    return found


def _files(names: Sequence[str]) -> Iterable[set[str]]:
    """Names of the files in each folder."""
    found: dict[str, set[str]] = {}
    for name in names:
        parent, _, file = name.rpartition("/")
        found.setdefault(parent, set()).add(file.lower())
    return found.values()
