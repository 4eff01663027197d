"""Adapters of sets that are alike: pieces of music, and clips in folds."""

from collections.abc import Iterable
from pathlib import Path
from typing import ClassVar

from lightning_sep.data.adapter import Adapter, Row
from lightning_sep.data.manifests import Entry
from lightning_sep.data.splits import IN_TIME, split_by_fold, whole
from lightning_sep.errors import DataError


def _few(names: Iterable[str], most: int = 4) -> str:
    listed = sorted(names)
    left = len(listed) - most
    return ", ".join(listed[:most]) + (f" and {left} more classes" if left > 0 else "")


class Music(Adapter):
    """Pieces of music, each split in time.

    All three parts have all pieces, rooms and players, and share no second.
    """

    columns = ("piece",)

    def entries(self, rows: list[Row], audio: Path) -> tuple[list[Entry], str]:
        """See :meth:`Adapter.entries`."""
        made = [
            Entry(
                id=row["filename"],
                path=audio / row["filename"],
                class_name=self.name,
                group="music",
                text=row["piece"],
                pieces=IN_TIME,
            )
            for row in rows
        ]
        return (
            made,
            "in time: the first 80 % of each piece train, 10 % validate, the last 10 % test",
        )


class Folds(Adapter):
    """Clips of noises in classes, split by the folds that the set brings.

    Clips hold much digital silence, so a drawn segment may be silent: it is marked, not left out.
    """

    source_column: ClassVar[str]  # what must not be on both sides of a split
    classes: ClassVar[frozenset[str]]  # of the set as it was published

    def entries(self, rows: list[Row], audio: Path) -> tuple[list[Entry], str]:
        """See :meth:`Adapter.entries`.

        Raises:
            DataError: none of the classes is the set's: it is another one.
        """
        found = sorted({row["category"] for row in rows})
        if self.classes.isdisjoint(found):
            raise DataError(
                f"--source {audio.parent} is not {self.name}, which has {_few(self.classes)}: "
                f"it has {_few(found)}. `lightning-sep data list` names the sets"
            )
        splits, rule = split_by_fold(
            [row["fold"] for row in rows],
            [row[self.source_column] for row in rows],
            [row["category"] for row in rows],
        )
        made = [
            Entry(
                id=row["filename"],
                path=audio / row["filename"],
                class_name=row["category"],
                group="noise",
                source=row[self.source_column],
                pieces=whole(split),
            )
            for row, split in zip(rows, splits, strict=True)
        ]
        return made, rule
