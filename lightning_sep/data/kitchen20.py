"""Kitchen20: twenty kinds of sounds from kitchens."""

from pathlib import Path

from lightning_sep.data.adapter import Adapter, Row
from lightning_sep.data.manifests import Entry
from lightning_sep.data.splits import split_by_fold, whole


class Kitchen20(Adapter):
    """Kitchen sounds in twenty classes, clips of 5 s (Moreaux and contributors)."""

    name = "kitchen20"
    columns = ("fold", "source_group", "category")
    credit = "Kitchen20 by Marc Moreaux and contributors, treat as non-commercial"
    split_rule = "the last fold tests, the one before validates; a single fold is split by author"

    def entries(self, rows: list[Row], audio: Path) -> list[Entry]:
        """See :meth:`Adapter.entries`."""
        splits = split_by_fold(
            [row["fold"] for row in rows],
            [row["source_group"] for row in rows],
            [row["category"] for row in rows],
        )
        return [
            Entry(
                id=row["filename"],
                path=audio / row["filename"],
                class_name=row["category"],
                group="noise",
                pieces=whole(split),
            )
            for row, split in zip(rows, splits, strict=True)
        ]
