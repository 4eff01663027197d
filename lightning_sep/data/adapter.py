"""Sets that a user has as a folder with ``audio/``, ``metadata.csv`` and ``SHA256SUMS``."""

import csv
import json
import unicodedata
from abc import abstractmethod
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from lightning_sep.data.corpus import Corpus, Prepared
from lightning_sep.data.manifests import Entry, Origin, Progress, build, sweep_builds
from lightning_sep.data.names import shown
from lightning_sep.errors import ConfigError, DataError
from lightning_sep.fsio import sha256_file

Row: TypeAlias = dict[str, str]  # one line of metadata.csv by column

AUDIO, TABLE, CHECKSUMS = "audio", "metadata.csv", "SHA256SUMS"


class Adapter(Corpus):
    """A published set; subclasses say what its columns mean.

    Nothing about a certain copy is written in code: which files there are, their folds and
    speakers, and what their checksums have to be all come with the folder. So a further part of
    a set with the same columns is prepared the same way.
    """

    columns: ClassVar[tuple[str, ...]]  # of metadata.csv, beside `filename`
    credit: ClassVar[str]  # who made the set and under which licence, in one line

    @abstractmethod
    def entries(self, rows: list[Row], audio: Path) -> tuple[list[Entry], str]:
        """Labels and splits of the files that ``metadata.csv`` lists, and how these were made.

        Returns:
            The files, and the rule of the splits that was really used, in one line.
        """

    def settings(self) -> list[str]:
        """Settings besides the rate that change what is prepared; part of the key."""
        return []

    def common_speakers(self) -> frozenset[str]:
        """Splits that share their speakers on purpose; a speaker of any other is in one alone."""
        return frozenset()

    def key(self) -> str:
        """See :meth:`Corpus.key`."""
        kept = ["keep"] * self.keep + ["test"] * self.test_only
        return "-".join([self.name, str(self.sample_rate or "native"), *self.settings(), *kept])

    def prepare_from(
        self, source: Path | None, home: Path, progress: Progress | None = None
    ) -> Prepared:
        """See :meth:`Corpus.prepare_from`."""
        if source is None:
            raise ConfigError(
                f"which folder holds {self.name}? lightning-sep data prepare {self.name} "
                f"--source FOLDER, with {AUDIO}/, {TABLE} and {CHECKSUMS} in it"
            )
        with self._locked(home, progress):
            sweep_builds(home, self.name)
            self._refuse_another(source, home)
            folder = self._built(source, home, progress)
            self.point(home, folder)
        return Prepared(folder, cache_limit_mb=self.cache_limit_mb, progress=progress)

    def _refuse_another(self, source: Path, home: Path) -> None:
        """Two folders with different files do not share a name: one would replace the other.

        Raises:
            DataError: the set is prepared, in any form, from another folder with other files.
        """
        rows, listed = read_source(source, self.columns)
        files = {row["filename"]: listed[row["filename"]] for row in rows}
        for folder in prepared_folders(home, self.name):
            try:
                before = json.loads((folder / "source.json").read_text())
                known = {name: one["source_sha256"] for name, one in before["files"].items()}
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # damaged: whatever is prepared now mends it
            alike = known == files and before.get("table_sha256", listed[TABLE]) == listed[TABLE]
            if not alike and Path(before["source"]) != source.resolve():
                raise DataError(
                    f"{self.name} is prepared from {before['source']}, and {source} holds other "
                    f"files: what data={self.name} means would change. LIGHTNING_SEP_DATA=FOLDER "
                    f"prepares it in another data home; to replace it, remove {folder} first"
                )

    def make(self, home: Path, progress: Progress | None = None) -> Path:
        """Prepare from the folder that served before, for another rate or format.

        Raises:
            DataError: the set was never prepared, or its folder is gone.
        """
        command = f"lightning-sep data prepare {self.name} --source FOLDER"
        before = ""
        for folder in prepared_folders(home, self.name):
            source = Path(json.loads((folder / "source.json").read_text())["source"])
            if (source / TABLE).is_file():
                return self._built(source, home, progress)
            before = f" as {self.key()}, and {source}, which served before, is gone"
        raise DataError(f"{self.name} is not prepared in {home}{before}: {command}")

    def _built(self, source: Path, home: Path, progress: Progress | None) -> Path:
        rows, checksums = read_source(source, self.columns)
        licences = Counter(row["licence"] for row in rows if row.get("licence"))
        files = ", ".join(f"{count} {name}" for name, count in licences.most_common())
        entries, rule = self.entries(rows, source / AUDIO)
        origin = Origin(
            name=self.name,
            source=str(source.resolve()),
            licence=f"{self.credit}. Files: {files or 'not said'}",
            split_rule=rule,
            checksums=checksums,
            table_sha256=checksums[TABLE],
            common_speakers=self.common_speakers(),
        )
        return build(
            entries,
            origin,
            home=home,
            sample_rate=self.sample_rate,
            cache_limit_mb=self.cache_limit_mb,
            keep=self.keep,
            test_only=self.test_only,
            progress=progress,
        )


def prepared_folders(home: Path, name: str) -> list[Path]:
    """Folders of all prepared forms of a set that are whole, the newest first."""
    found = []
    for pointer in (home / "prepared").glob("*.json"):
        try:
            facts = json.loads(pointer.read_text())
            folder = home / str(facts["folder"])
            if facts["name"] == name and (folder / "source.json").is_file():
                found.append((pointer.stat().st_mtime, str(folder)))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a pointer that cannot be read is as good as none
    return list(dict.fromkeys(Path(folder) for _, folder in sorted(found, reverse=True)))


def read_source(source: Path, columns: tuple[str, ...]) -> tuple[list[Row], dict[str, str]]:
    """Rows of ``metadata.csv`` and checksums by file name.

    Args:
        source: folder with ``audio/``, ``metadata.csv`` and ``SHA256SUMS``.
        columns: that the table must have, beside ``filename``.

    Raises:
        DataError: something is missing or differs from its checksum.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder. --source names the folder that holds {TABLE}")
    for name in (TABLE, CHECKSUMS):
        if not (source / name).is_file():
            raise DataError(f"{source} has no {name}: --source names the folder that holds it")
    if not (source / AUDIO).is_dir():
        raise DataError(f"{source} has no folder {AUDIO}/: fetch the set again")
    checksums = {}
    for number, line in enumerate((source / CHECKSUMS).read_text().splitlines(), start=1):
        digest, _, name = line.partition(" ")
        name = name.lstrip(" *")  # sha256sum writes "  name" for text and " *name" for binary
        if len(digest) != 64 or not name:
            raise DataError(f"{source / CHECKSUMS}, line {number}: no checksum and file name")
        checksums[name] = digest
    if checksums.get(TABLE, "") != sha256_file(source / TABLE):
        raise DataError(
            f"{source / TABLE} differs from its line in {CHECKSUMS}: fetch the set again"
        )
    rows = read_table(source / TABLE, columns)
    listed = {name.removeprefix(f"{AUDIO}/"): digest for name, digest in checksums.items()}
    without = [row["filename"] for row in rows if row["filename"] not in listed]
    if without:
        raise DataError(
            f"{source / CHECKSUMS} has no line for {len(without)} files of {TABLE} "
            f"(first: {without[0]}): fetch the set again"
        )
    return rows, listed


def read_table(path: Path, columns: tuple[str, ...]) -> list[Row]:
    """Rows of a table with a column ``filename`` and the other ``columns``.

    Values but file names are in one Unicode form (NFC), so that one name is one name.

    Raises:
        DataError: the table cannot be read, lacks a column or has one twice, has a row of more
            values than columns, or names a file outside the folder.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            # A quote that is never closed would make one value of all the rows after it.
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or [])
            rows = [_row(path, number, row) for number, row in enumerate(reader, start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table ({error})") from error
    twice = sorted({name for name in header if name and header.count(name) > 1})
    if twice:
        raise DataError(f"{path} has several columns {', '.join(twice)}: which one counts?")
    lacking = [name for name in ("filename", *columns) if name not in header]
    if lacking:
        raise DataError(
            f"{path} has no column {', '.join(lacking)}: it has {', '.join(header) or 'none'}"
        )
    if not rows:
        raise DataError(f"{path} lists no file")
    for number, row in enumerate(rows, start=2):
        name = Path(row["filename"])
        if not row["filename"] or name.is_absolute() or ".." in name.parts:
            raise DataError(f"{path}, line {number}: '{row['filename']}' is no file of this folder")
    return rows


def _row(path: Path, number: int, row: dict[str | None, Any]) -> Row:
    """The values of a row by column.

    Raises:
        DataError: it has more values than there are columns.
    """
    beyond = [value for value in row.get(None) or () if value.strip()]
    if beyond:
        raise DataError(
            f"{path}, line {number}: '{shown(beyond[0])}' is in no column. A value with a comma "
            "in it stands in quotes"
        )
    values = {name: (value or "").strip() for name, value in row.items() if name}
    return {
        name: value if name == "filename" else unicodedata.normalize("NFC", value)
        for name, value in values.items()
    }
