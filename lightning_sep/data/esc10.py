"""ESC-10: ten kinds of environmental sounds."""

from pathlib import Path

from lightning_sep.data.adapter import Adapter, Row
from lightning_sep.data.manifests import Entry
from lightning_sep.data.splits import split_by_fold, whole


class Esc10(Adapter):
    """Environmental sounds in ten classes, clips of 5 s (Piczak, ACM Multimedia 2015).

    Clips hold much digital silence, so a drawn segment may be silent: it is marked, not left out.
    """

    name = "esc10"
    columns = ("fold", "src_file", "category")
    credit = "ESC-10 by Karol J. Piczak, CC BY 3.0"
    split_rule = "the last fold tests, the one before validates; a single fold is split by source"

    def entries(self, rows: list[Row], audio: Path) -> list[Entry]:
        """See :meth:`Adapter.entries`."""
        splits = split_by_fold(
            [row["fold"] for row in rows],
            [row["src_file"] for row in rows],  # takes of one recording stay together
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
