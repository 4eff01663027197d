"""Arabic Speech Commands: single words by many speakers."""

from pathlib import Path

from lightning_sep.data.adapter import Adapter, Row
from lightning_sep.data.manifests import Entry
from lightning_sep.data.splits import SPLITS, split_held_out, whole


class ArabicCommands(Adapter):
    """Single spoken words of 1 s, the same for each speaker (Ghandoura, Hjabo, Al Dakkak, 2021).

    Most likely a speaker is also a room and a microphone here: an embedding can tell speakers
    apart by those.
    """

    name = "arabic_commands"
    columns = ("speaker", "word", "split")
    credit = "Arabic Speech Commands by Ghandoura, Hjabo and Al Dakkak, CC BY 4.0"

    def entries(self, rows: list[Row], audio: Path) -> tuple[list[Entry], str]:
        """See :meth:`Adapter.entries`."""
        upstream = [row["split"] for row in rows]
        if set(upstream) == set(SPLITS):
            splits, rule = upstream, "by speaker: as published"
        else:
            splits, kept = split_held_out(
                [row["speaker"] for row in rows],
                {row["speaker"]: row["split"] == "train" for row in rows},
                groups=2,  # two speakers at least, or there is no pair of different ones
            )
            rule = (
                "by speaker: those published for training train, the others are halved for val and "
                "test"
                if kept
                else "by speaker, drawn: the published splits leave too few for val and test"
            )
        made = [
            Entry(
                id=row["filename"],
                path=audio / row["filename"],
                class_name="speech",
                group="speech",
                speaker=row["speaker"],
                text=row["word"],
                pieces=whole(split),
            )
            for row, split in zip(rows, splits, strict=True)
        ]
        return made, rule
