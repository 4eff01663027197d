"""Solo piano: preludes and fugues by Bach, played by Kimiko Ishizaka."""

from pathlib import Path

from lightning_sep.data.adapter import Adapter, Row
from lightning_sep.data.manifests import Entry
from lightning_sep.data.splits import IN_TIME


class Piano(Adapter):
    """Solo piano: preludes and fugues by Bach, played by Kimiko Ishizaka.

    Every piece is split in time, so all three parts have all pieces, rooms and players, and share
    no second.
    """

    name = "piano"
    columns = ("piece",)
    credit = "Kimiko Ishizaka (Open Well-Tempered Clavier, Open Goldberg Variations), CC0 1.0"
    split_rule = "in time: the first 80 % of each piece train, 10 % validate, the last 10 % test"

    def entries(self, rows: list[Row], audio: Path) -> list[Entry]:
        """See :meth:`Adapter.entries`."""
        return [
            Entry(
                id=row["filename"],
                path=audio / row["filename"],
                class_name="piano",
                group="music",
                text=row["piece"],
                pieces=IN_TIME,
            )
            for row in rows
        ]
