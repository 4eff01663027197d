"""Any folder of audio files."""

import hashlib
import json
from pathlib import Path

from lightning_sep.checks import refusal, whole_number
from lightning_sep.data.adapter import AUDIO, TABLE, Row, read_table
from lightning_sep.data.audio_files import SUFFIXES, resampler
from lightning_sep.data.corpus import Corpus, Prepared
from lightning_sep.data.manifests import Entry, Origin, Progress, build
from lightning_sep.data.splits import IN_TIME, SPLITS, split_by_key, whole
from lightning_sep.errors import ConfigError, DataError


class Folder(Corpus):
    """A folder of wav, flac, ogg or mp3 files, used as it lies; prepared when first opened.

    ``metadata.csv`` in the folder may say more, with these columns (only ``filename`` is needed):

    ========= ====================================================================
    filename  relative to the folder or to its ``audio/``
    class     what it sounds like; without it the name of the uppermost subfolder
    speaker   who speaks
    split     ``train``, ``val`` or ``test``
    group     ``speech``, ``noise``, ``music`` or any word; without it ``speech``
              where there is a speaker, ``sound`` elsewhere
    source    what must not be in two splits, where that is not the speaker
    text      what is said
    ========= ====================================================================

    Without a column ``split``, 15 % of the sources each validate and test: of the speakers where
    they are known, of the files otherwise, class by class, in an order seeded by ``seed``. Fewer
    than three files are split in time (80, 10, 10 %).

    Args:
        path: the folder.
        seed: another seed gives another split.
        sample_rate: in Hz; ``None`` takes the rate that most files have.
        cache_limit_mb: bound of the decoded cache in MiB.
    """

    name = "folder"

    def __init__(
        self,
        path: str | None = None,
        seed: int = 0,
        sample_rate: int | None = None,
        cache_limit_mb: int = 2048,
    ) -> None:
        super().__init__(sample_rate, cache_limit_mb)
        if path is not None and (not isinstance(path, str | Path) or not str(path)):
            raise refusal("path", path, "the path of a folder is needed")
        self.path = path
        self.seed = whole_number("seed", seed, at_least=None)

    def root(self) -> Path:
        """The folder.

        Raises:
            ConfigError: no folder was named.
            DataError: it is not there.
        """
        if self.path is None:
            raise ConfigError("data=folder needs data.path=FOLDER, a folder of audio files")
        root = Path(self.path).expanduser()
        if not root.is_dir():
            raise DataError(f"{root}: no such folder. data.path names a folder of audio files")
        return root

    def files(self) -> list[Path]:
        """Audio files below the folder, sorted; hidden ones left out.

        Raises:
            DataError: there are none.
        """
        root = self.root()
        found = sorted(
            path
            for path in root.rglob("*")
            if path.suffix.lower() in SUFFIXES
            and path.is_file()
            and not any(part.startswith(".") for part in path.relative_to(root).parts)
        )
        if not found:
            raise DataError(f"{root} holds no audio file ({', '.join(SUFFIXES)})")
        return found

    def key(self) -> str:
        """See :meth:`Corpus.key`: a changed file, size or time makes it another set."""
        root = self.root()
        table = root / TABLE
        seen = [*self.files(), *([table] if table.is_file() else [])]
        facts = [
            [str(path.relative_to(root)), stat.st_size, stat.st_mtime_ns]
            for path in seen
            for stat in [path.stat()]
        ]
        settings = [str(root.resolve()), self.seed, self.sample_rate, resampler(), facts]
        return f"folder-{hashlib.sha256(json.dumps(settings).encode()).hexdigest()[:12]}"

    def prepare_from(
        self, source: Path | None, home: Path, progress: Progress | None = None
    ) -> Prepared:
        """See :meth:`Corpus.prepare_from`."""
        if source is not None:
            self.path = str(source)
        return super().prepare_from(None, home, progress)

    def make(self, home: Path, progress: Progress | None = None) -> Path:
        """See :meth:`Corpus.make`."""
        root = self.root()
        entries, rule = self._entries(root)
        return build(
            entries,
            Origin(
                name=self.name, source=str(root.resolve()), licence="the user's", split_rule=rule
            ),
            home=home,
            sample_rate=self.sample_rate,
            cache_limit_bytes=int(self.cache_limit_mb * (1 << 20)),
            progress=progress,
        )

    def _entries(self, root: Path) -> tuple[list[Entry], str]:
        table = root / TABLE
        if table.is_file():
            rows = read_table(table, ())
            base = root / AUDIO if (root / AUDIO / rows[0]["filename"]).exists() else root
        else:
            rows = [{"filename": path.relative_to(root).as_posix()} for path in self.files()]
            base = root
        classes = [row.get("class") or _class_of(row["filename"]) for row in rows]
        pieces, rule = self._pieces(rows, classes, table)
        entries = [
            Entry(
                id=row["filename"],
                path=base / row["filename"],
                class_name=class_name,
                group=row.get("group") or ("speech" if row.get("speaker") else "sound"),
                speaker=row.get("speaker", ""),
                text=row.get("text", ""),
                pieces=piece,
            )
            for row, class_name, piece in zip(rows, classes, pieces, strict=True)
        ]
        return entries, rule

    def _pieces(
        self, rows: list[Row], classes: list[str], table: Path
    ) -> tuple[list[tuple[tuple[str, float, float], ...]], str]:
        """Pieces of each file, and the rule that made them."""
        given = [row.get("split", "") for row in rows]
        if any(given):
            for number, split in enumerate(given, start=2):
                if split not in SPLITS:
                    raise DataError(
                        f"{table}, line {number}: split '{split}' is none of {', '.join(SPLITS)}"
                    )
            return [whole(split) for split in given], "the column 'split' of metadata.csv"
        names = [row["filename"] for row in rows]
        keys = [
            row.get("source") or row.get("speaker") or name
            for row, name in zip(rows, names, strict=True)
        ]
        if len(set(keys)) >= 3:
            rule = "by source, speaker or file, whichever is known, in a seeded order"
        elif len(names) >= 3:
            keys, rule = names, f"by file: {len(set(keys))} sources or speakers are too few"
        else:
            rule = "in time: the first 80 % of each file train, 10 % validate, the last 10 % test"
            return [IN_TIME for _ in rows], rule
        return [whole(s) for s in split_by_key(keys, seed=self.seed, strata=classes)], rule


def _class_of(filename: str) -> str:
    """Name of the uppermost subfolder, or ``sound``."""
    parts = Path(filename).parts
    return parts[0] if len(parts) > 1 else "sound"
