"""Any folder of audio files."""

import difflib
import hashlib
import json
import os
import posixpath
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from lightning_sep.checks import one_of, refusal, whole_number
from lightning_sep.data.adapter import AUDIO, TABLE, Row, read_table
from lightning_sep.data.audio_files import SUFFIXES, resampler
from lightning_sep.data.corpus import Corpus, Prepared
from lightning_sep.data.known_trees import known_tree
from lightning_sep.data.manifests import Entry, Origin, Pieces, Progress, build
from lightning_sep.data.names import shown, some
from lightning_sep.data.scan import Found, holds, listing, scan, stamp
from lightning_sep.data.splits import IN_TIME, SPLITS, joined, split_by_key, split_named, whole
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.fsio import write_json

COLUMNS = ("filename", "class", "speaker", "split", "group", "source", "session", "text")


class InPlace(Corpus):
    """A folder of audio, used as it lies; prepared when first opened, and again when it changes.

    Args:
        path: the folder.
        seed: another seed gives another split.
        channels: ``mean`` takes the mean of each file's channels; ``keep`` keeps them. Files of
            one channel then are in all of them alike, and any other number but the largest is
            refused.
        sample_rate: in Hz; ``None`` takes the rate that most files have.
        cache_limit_mb: bound of the decoded cache in MiB.
        keep: see :class:`~lightning_sep.data.corpus.Corpus`.
        test_only: see :class:`~lightning_sep.data.corpus.Corpus`.
    """

    def __init__(
        self,
        path: str | None,
        seed: int,
        channels: str,
        sample_rate: int | None,
        cache_limit_mb: float | None,
        keep: bool,
        test_only: bool,
    ) -> None:
        super().__init__(sample_rate, cache_limit_mb, keep, test_only)
        if path is not None and (not isinstance(path, str | Path) or not str(path)):
            raise refusal("path", path, "the path of a folder is needed")
        self.path = path
        self.seed = whole_number("seed", seed, at_least=None)
        self.channels = one_of("channels", channels, ("mean", "keep"))
        self._seen: dict[str, Any] = {}  # of the folder, when it was last prepared

    def further(self) -> list[Any]:
        """Settings of a set's own that change what is prepared, as JSON types."""
        return []

    def root(self) -> Path:
        """The folder.

        Raises:
            ConfigError: no folder was named.
            DataError: it is not there.
        """
        if self.path is None:
            raise ConfigError(f"data={self.name} needs data.path=FOLDER, a folder of audio files")
        root = Path(self.path).expanduser()
        try:
            there = root.is_dir()
        except OSError as error:
            raise DataError(
                f"{shown(root)} cannot be read ({error.strerror}). data.path names a folder of "
                "audio files"
            ) from error
        if not there:
            what = "is a file" if root.exists() else "no such folder"
            raise DataError(f"{shown(root)}: {what}. data.path names a folder of audio files")
        return root

    def found(self, home: Path) -> Found:
        """What lies in the folder, besides the data home.

        Raises:
            DataError: it cannot be listed, or names of files cannot be used.
        """
        return scan(self.root(), TABLE, apart=home)

    def key(self) -> str:
        """See :meth:`Corpus.key`."""
        settings = [str(self.root().resolve()), self.seed, self.sample_rate, resampler()]
        kept = ["keep"] * self.keep + ["test"] * self.test_only
        kept += ["channels"] * (self.channels == "keep")
        facts = [*settings, *kept, *self.further()]
        return f"{self.name}-{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]}"

    def prepared_folder(self, home: Path) -> Path | None:
        """See :meth:`Corpus.prepared_folder`: a changed file, size or time makes it another set.

        Of large folders a stamp is looked at (:func:`~lightning_sep.data.scan.stamp`), so a file
        that was overwritten in place may go unseen until ``lightning-sep data prepare``.
        """
        folder = super().prepared_folder(home)
        if folder is None:
            return None
        path = self._pointer(home)
        before = json.loads(path.read_text())
        if holds(self.root(), before.get("stamp", {})):
            return folder
        now = self._look(self.found(home))
        if now["listing"] != before.get("listing"):
            return None
        if os.access(path.parent, os.W_OK):  # else every open lists the folder
            write_json(path, self.pointer(folder) | now)
        return folder

    def point(self, home: Path, folder: Path) -> None:
        """See :meth:`Corpus.point`."""
        write_json(self._pointer(home), self.pointer(folder) | self._seen)

    def _look(self, found: Found) -> dict[str, Any]:
        """What tells later whether the folder is as it is now."""
        root = self.root()
        facts = json.dumps(listing(root, found, TABLE))
        return {
            "listing": hashlib.sha256(facts.encode()).hexdigest(),
            "stamp": stamp(root, found, TABLE),
        }

    def note(self, found: Found) -> None:
        """Called before files are read, so that what changes later is noticed."""
        self._seen = self._look(found)

    def prepare_from(
        self, source: Path | None, home: Path, progress: Progress | None = None
    ) -> Prepared:
        """See :meth:`Corpus.prepare_from`."""
        if source is not None:
            self.path = str(source)
        return super().prepare_from(None, home, progress)


class Folder(InPlace):
    """A folder of audio files, used as it lies; prepared when first opened.

    Every file that libsndfile may read is taken, by its suffix; links are followed. What is left
    out is counted and named by its reason. Folders on top that are called like splits (``train``,
    ``valid``, ``dev``, ``test``, ``eval``, ``tr``, ``cv``, ``tt`` and the like) are the splits.

    ``metadata.csv`` in the folder may say more, with these columns (only ``filename`` is needed):

    ========= ====================================================================
    filename  relative to the folder or to its ``audio/``
    class     what it sounds like; without it the name of the uppermost subfolder
    speaker   who speaks
    split     ``train``, ``val`` or ``test``, or what others call them
    group     ``speech``, ``noise``, ``music`` or any word; without it ``speech``
              where there is a speaker, ``sound`` elsewhere
    source    what must not be in two splits, where that is not the speaker
    session   in which sitting, call or video it was recorded: two recordings of one
              are no trial of speaker verification
    text      what is said
    ========= ====================================================================

    Where nothing says the splits, 15 % of the sources each validate and test: of the speakers
    where they are known, of the files otherwise, class by class, in an order seeded by ``seed``.
    Files of one speaker or source stay together, and so do copies. Fewer than three files are
    split in time (80, 10, 10 %). Where train and test are given alone, val is taken from train.

    Args:
        path: the folder.
        seed: another seed gives another split.
        channels: ``mean`` takes the mean of each file's channels; ``keep`` keeps them. Files of
            one channel then are in all of them alike, and any other number but the largest is
            refused.
        sample_rate: in Hz; ``None`` takes the rate that most files have.
        cache_limit_mb: bound of the decoded cache in MiB.
        keep: see :class:`~lightning_sep.data.corpus.Corpus`.
        test_only: see :class:`~lightning_sep.data.corpus.Corpus`.
    """

    name = "folder"

    def __init__(
        self,
        path: str | None = None,
        seed: int = 0,
        channels: str = "mean",
        sample_rate: int | None = None,
        cache_limit_mb: float | None = None,
        keep: bool = False,
        test_only: bool = False,
    ) -> None:
        super().__init__(path, seed, channels, sample_rate, cache_limit_mb, keep, test_only)

    def make(self, home: Path, progress: Progress | None = None) -> Path:
        """See :meth:`Corpus.make`."""
        root = self.root()
        found = self.found(home)
        self.note(found)
        listed = _has_table(root, found)
        table = _Table.read(root, found) if listed else _Table.of_names(found)
        if not listed and (known := known_tree(sorted(found.files))):
            raise DataError(f"{shown(root)} {known}")
        if not table.rows:
            refuse_empty(root, found)
        split = FolderSplit(root, table.rows, self.seed)
        return build(
            [
                Entry(
                    id=row["filename"],
                    path=root / table.place[row["filename"]],
                    class_name=row.get("class") or class_name,
                    group=row.get("group") or ("speech" if row.get("speaker") else "sound"),
                    speaker=row.get("speaker", ""),
                    text=row.get("text", ""),
                    source=row.get("source", ""),
                    session=row.get("session", ""),
                )
                for row, class_name in zip(table.rows, split.classes, strict=True)
            ],
            Origin(
                name=self.name,
                source=str(root.resolve()),
                licence="the user's",
                split_rule="",
                left_out=found.left_out(set(table.place.values()), f"not in {TABLE}"),
                notes=table.notes,
            ),
            home=home,
            sample_rate=self.sample_rate,
            cache_limit_mb=self.cache_limit_mb,
            keep=self.keep,
            keep_channels=self.channels == "keep",
            splitter=split.pieces,
            test_only=self.test_only,
            progress=progress,
        )


def refuse_empty(root: Path, found: Found) -> None:
    others = [f"{len(names)} {reason}" for reason, names in sorted(found.left_out(set()).items())]
    there = f"; it holds {', '.join(others)}" if others else ""
    raise DataError(f"{shown(root)} holds no audio file ({', '.join(SUFFIXES)}){there}")


def _has_table(root: Path, found: Found) -> bool:
    """Whether there is a table.

    Raises:
        DataError: there is one that would be passed over, and with it all that it says.
    """
    alike = [name for name in found.files if name.lower() == TABLE]
    if alike:
        raise DataError(f"{shown(root / alike[0])}: call it {TABLE}, or it is not read")
    if os.path.lexists(root / TABLE) and not (root / TABLE).is_file():
        raise DataError(f"{shown(root / TABLE)} is no file, or a link that leads nowhere")
    return (root / TABLE).is_file()


@dataclass(frozen=True)
class _Table:
    """The files to prepare and what is said about them.

    Args:
        rows: by column; ``filename`` is the id.
        place: where each file lies, relative to the folder.
        notes: what of the table was not taken as it stands.
    """

    rows: list[Row]
    place: dict[str, str]
    notes: list[str]

    @classmethod
    def of_names(cls, found: Found) -> "_Table":
        """Every audio file, with nothing said about it."""
        names = found.audio()
        return cls([{"filename": name} for name in names], {name: name for name in names}, [])

    @classmethod
    def read(cls, root: Path, found: Found) -> "_Table":
        """What ``metadata.csv`` says.

        Raises:
            DataError: the table cannot be used, or a column's name is misspelt.
        """
        rows = read_table(root / TABLE, ())
        notes = _unused_columns(root / TABLE, rows[0])
        rows = [row | {"filename": posixpath.normpath(row["filename"])} for row in rows]
        first = rows[0]["filename"]
        base = f"{AUDIO}/" if (root / AUDIO / first).exists() else ""
        alike = {unicodedata.normalize("NFC", name): name for name in found.files}
        if not base and unicodedata.normalize("NFC", f"{AUDIO}/{first}") in alike:
            base = f"{AUDIO}/"
        place, other = {}, []
        for row in rows:
            name = f"{base}{row['filename']}"
            lies = name
            if name not in found.files:
                lies = alike.get(unicodedata.normalize("NFC", name), name)
            if lies != name:
                other.append(shown(row["filename"]))
            place[row["filename"]] = lies
        if other:
            notes.append(
                f"{len(other)} names of {TABLE} are written with other Unicode characters than "
                f"their files (NFC, NFD), and were taken as the same: {some(other)}"
            )
        return cls(rows, place, notes)


def _unused_columns(table: Path, row: Row) -> list[str]:
    """A line that names the columns that mean nothing here, if there are any.

    Raises:
        DataError: such a name is nearly one that does.
    """
    unknown = [name for name in row if name not in COLUMNS]
    for name in unknown:
        near = difflib.get_close_matches(name.lower(), COLUMNS, n=1, cutoff=0.75)
        if near and near[0] not in row:
            raise DataError(
                f"{shown(table)} has a column '{shown(name)}': did you mean '{near[0]}'? Rename "
                f"it, or remove it. Known are {', '.join(COLUMNS)}"
            )
    named = ", ".join(f"'{shown(name)}'" for name in unknown)
    return [f"columns of {TABLE} that are not used: {named}"] if unknown else []


class FolderSplit:
    """Classes and splits of the files, by the table, by the folders they lie in, or drawn.

    Raises:
        DataError: what the folders or the table say cannot be a split.
    """

    def __init__(self, root: Path, rows: list[Row], seed: int) -> None:
        self.root = root
        self.seed = seed
        self.names = [row["filename"] for row in rows]
        self.keys = {
            row["filename"]: row.get("source") or row.get("speaker") or row["filename"]
            for row in rows
        }
        self.known = sorted(
            {column for column in ("speaker", "source") for row in rows if row.get(column)}
        )
        self.given: dict[str, str] = {}
        self.rule = ""
        depth = 0
        column = [row.get("split", "") for row in rows]
        if any(column):
            self.rule = f"the column 'split' of {TABLE}"
            for number, (name, said) in enumerate(zip(self.names, column, strict=True), start=2):
                self.given[name] = split_named(said)
                if not self.given[name]:
                    raise DataError(
                        f"{shown(root / TABLE)}, line {number}: split '{shown(said)}' is none of "
                        f"{', '.join(SPLITS)}"
                    )
        elif tops := self._split_folders():
            depth = 1
            self.rule = f"the folders {', '.join(sorted(tops))}"
            self.given = {name: split_named(_parts(name)[0]) for name in self.names}
        self.classes = [
            unicodedata.normalize("NFC", parts[depth])
            if len(parts := _parts(name)) > depth + 1
            else "sound"
            for name in self.names
        ]

    def _split_folders(self) -> set[str]:
        """The folders on top, where they are splits."""
        tops = {parts[0] for name in self.names if len(parts := _parts(name)) > 1}
        loose = [name for name in self.names if len(_parts(name)) == 1]
        named = {top for top in tops if split_named(top)}
        if len({split_named(top) for top in named}) >= 2:
            others = sorted(tops - named) + loose
            if others:
                raise DataError(
                    f"{shown(self.root)} has folders {', '.join(sorted(named))}, which are splits, "
                    f"and beside them {some([shown(other) for other in others])}: put all files "
                    f"into the splits, or write a {TABLE} with the columns filename, class, split"
                )
            return named
        deepest = max((len(_parts(name)) - 1 for name in self.names), default=0)
        for depth in range(1, deepest):
            below = [parts[depth] for name in self.names if len(parts := _parts(name)) > depth + 1]
            inner = [name for name in below if split_named(name)]
            if 2 * len(inner) >= len(self.names) and len(set(map(split_named, inner))) >= 2:
                raise DataError(
                    f"{shown(self.root)}: the folders {', '.join(sorted(set(inner)))}, which are "
                    f"splits, lie within others ({some(sorted(map(shown, tops)))}). data.path must "
                    f"be the folder that holds them, or a {TABLE} with the columns filename, class "
                    "and split must say what is what"
                )
        return set()

    def pieces(self, entries: Sequence[Entry], heard: Sequence[str]) -> tuple[list[Pieces], str]:
        """See :data:`~lightning_sep.data.manifests.Splitter`."""
        if not self.given:
            return self._drawn(entries, heard)
        if "val" in self.given.values() or "train" not in self.given.values():
            return [whole(self.given[entry.id]) for entry in entries], self.rule
        training = [number for number, e in enumerate(entries) if self.given[e.id] == "train"]
        keys, how = self._groups([entries[n] for n in training], [heard[n] for n in training])
        drawn = split_by_key(keys, seed=self.seed, strata=[entries[n].class_name for n in training])
        held = {n for n, split in zip(training, drawn, strict=True) if split == "val"}
        splits = ["val" if n in held else self.given[e.id] for n, e in enumerate(entries)]
        rule = f"{self.rule}; val is drawn from train, {how}, in an order seeded by {self.seed}"
        return [whole(split) for split in splits], rule

    def _drawn(self, entries: Sequence[Entry], heard: Sequence[str]) -> tuple[list[Pieces], str]:
        if len(entries) < 3:
            rule = "in time: the first 80 % of each file train, 10 % validate, the last 10 % test"
            return [IN_TIME for _ in entries], rule
        keys, how = self._groups(entries, heard)
        number = len(set(keys))
        if number < 3:
            what = " or ".join(self.known) or "sound"
            columns = " and ".join(f"'{column}'" for column in self.known)
            raise DataError(
                f"{shown(self.root)}: train, val and test need a {what} each that no other has, "
                f"but the {len(entries)} files have {number}. Add files of others"
                + (f", or remove the column {columns}: then files are split" if columns else "")
            )
        splits = split_by_key(keys, seed=self.seed, strata=[e.class_name for e in entries])
        return [whole(split) for split in splits], f"{how}, in an order seeded by {self.seed}"

    def _groups(self, entries: Sequence[Entry], heard: Sequence[str]) -> tuple[list[str], str]:
        """What must stay together, as a key for each file, and what that goes by."""
        labels = [
            [
                *([f"speaker {entry.speaker}"] if entry.speaker else []),
                *([f"source {entry.source}"] if entry.source else []),
                *([f"sound {sound}"] if sound else []),
            ]
            for entry, sound in zip(entries, heard, strict=True)
        ]
        groups = joined(labels)
        keys = [self.keys[entry.id] for entry in entries]
        names: dict[int, str] = {}
        for group, key in zip(groups, keys, strict=True):
            names[group] = min(key, names.get(group, key))
        sounds = [sound for sound in heard if sound]
        copies = len(sounds) - len(set(sounds))
        alone = any(key == entry.id for key, entry in zip(keys, entries, strict=True))
        by = [*self.known, *(["file"] if alone else [])]
        together = f"; {copies} copies stay with what they are copies of" if copies else ""
        return [names[group] for group in groups], f"by {' and '.join(by)}{together}"


def _parts(name: str) -> tuple[str, ...]:
    return PurePosixPath(name).parts
