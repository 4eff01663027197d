"""Which files lie in a folder; none is passed over without a reason."""

import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lightning_sep.data.audio_files import SUFFIXES
from lightning_sep.data.names import is_text, shown, some
from lightning_sep.errors import DataError

# What systems put beside the files: zips of macOS, waste baskets of Windows, disks of Synology.
_SYSTEM = ("__MACOSX", "$RECYCLE.BIN", "System Volume Information", "@eaDir")
_STAMPED = 1000  # folders and files, each, that a stamp looks at

Stamp = dict[str, list[list[Any]]]


@dataclass(frozen=True)
class Found:
    """What lies below a folder.

    Args:
        files: name relative to the folder, with ``/``, and why it is no audio; empty for audio.
        folders: names of all folders that were listed; the folder itself is ``.``.
    """

    files: dict[str, str]
    folders: list[str]

    def audio(self) -> list[str]:
        """Names of the audio files, sorted."""
        return sorted(name for name, reason in self.files.items() if not reason)

    def left_out(self, used: set[str], reason: str = "") -> dict[str, list[str]]:
        """Names of the files that are not ``used``, by reason.

        Args:
            used: names of files that are prepared.
            reason: of audio files that are not.
        """
        names = defaultdict(list)
        for name, why in self.files.items():
            if name not in used:
                names[why or reason].append(name)
        return dict(names)


def scan(root: Path, passed_over: str, apart: Path) -> Found:
    """All files below ``root``; links to folders and files are followed.

    Args:
        root: the folder.
        passed_over: name of a file on top that is no candidate (the table).
        apart: a folder that is not looked into, should it lie below (the data home).

    Raises:
        DataError: a folder cannot be listed, a link to audio leads nowhere, or a name is no text.
    """
    files: dict[str, str] = {}
    folders: list[str] = []
    nowhere: list[str] = []
    home = _identity(apart) if apart.exists() else None
    waiting = [(PurePosixPath("."), "", frozenset({_identity(root)}))]
    while waiting:
        where, reason, above = waiting.pop()
        folders.append(str(where))
        for entry in _listed(root / where, needed=not reason):
            name = where / entry.name
            kind = _kind(entry)
            why = reason or _reason(entry.name, kind)
            if kind == "folder":
                identity = _identity(Path(entry.path))
                if identity in above:
                    files[str(name)] = why or "link back to a folder above"
                elif identity != home:
                    waiting.append((name, why, above | {identity}))
            elif str(name) == passed_over:
                continue
            elif kind == "file":
                files[str(name)] = why
            elif kind == "nowhere" and not why:
                nowhere.append(shown(root / name))
            else:
                files[str(name)] = why or "no regular file"
    if nowhere:
        raise DataError(
            f"{len(nowhere)} links to audio lead nowhere: {some(sorted(nowhere))}. Mend or remove "
            "them"
        )
    unwritable = sorted(shown(name) for name, why in files.items() if not why and not is_text(name))
    if unwritable:
        raise DataError(
            f"{shown(root)}: {len(unwritable)} names of files are not UTF-8: {some(unwritable)}. "
            "Rename them (convmv does it)"
        )
    return Found(files, sorted(folders))


def _listed(folder: Path, *, needed: bool) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        if not needed:
            return []
        raise DataError(
            f"{shown(folder)} cannot be listed ({error.strerror}): change its permissions, or move "
            "it away"
        ) from error


def _identity(folder: Path) -> tuple[int, int]:
    stat = folder.stat()
    return stat.st_dev, stat.st_ino


def _kind(entry: os.DirEntry[str]) -> str:
    try:
        if entry.is_dir():
            return "folder"
        if entry.is_file():
            return "file"
    except OSError:  # a link to itself
        return "nowhere"
    return "nowhere" if entry.is_symlink() and not os.path.exists(entry.path) else "other"


def _reason(name: str, kind: str) -> str:
    """Why a file is no audio, or no file of a folder is; empty where they may be."""
    if name.startswith("."):
        return "hidden"
    if kind == "folder":
        return name if name in _SYSTEM else ""
    suffix = os.path.splitext(name)[1].lower()
    return "" if suffix in SUFFIXES else shown(suffix) or "no suffix"


def stamp(root: Path, found: Found, table: str) -> Stamp:
    """What tells cheaply whether a folder is as it was: times of some of its folders and files.

    Up to 1000 folders and 1000 files, evenly spaced over all, so that opening a set costs the same
    however large it is. Files that are added, removed or renamed change the time of their folder.
    """
    files = [name for name in (table, *found.audio()) if (root / name).is_file()]
    return {
        "folders": [_facts(root, name)[:2] for name in _evenly(found.folders)],
        "files": [_facts(root, name) for name in _evenly(files)],
    }


def holds(root: Path, before: Stamp) -> bool:
    """Whether all that a stamp looked at is as it was."""
    try:
        folders = all(_facts(root, str(facts[0]))[:2] == facts for facts in before["folders"])
        return folders and all(_facts(root, str(facts[0])) == facts for facts in before["files"])
    except (OSError, KeyError, TypeError, IndexError):
        return False


def listing(root: Path, found: Found, table: str) -> list[list[Any]]:
    """Name, size and time of all audio files and of the table."""
    names = [name for name in (table, *found.audio()) if (root / name).is_file()]
    return [_facts(root, name) for name in names]


def _facts(root: Path, name: str) -> list[Any]:
    stat = os.stat(root / name)
    return [name, stat.st_mtime_ns, stat.st_size]


def _evenly(names: list[str]) -> list[str]:
    count = min(len(names), _STAMPED)
    return [names[number * len(names) // count] for number in range(count)]
