"""LibriSpeech: read English by many speakers."""

from pathlib import Path

from lightning_sep.data.adapter import Adapter, Row
from lightning_sep.data.manifests import Entry
from lightning_sep.data.splits import split_held_out, whole


class Librispeech(Adapter):
    """Read English speech (Panayotov, Chen, Povey, Khudanpur, ICASSP 2015).

    Speakers of the parts named ``train-...`` train; those of the other parts, of whom there are
    several utterances, are halved into validation and test.
    """

    name = "librispeech"
    columns = ("part", "speaker")
    credit = "LibriSpeech (c) 2014 by Vassil Panayotov, CC BY 4.0"

    def entries(self, rows: list[Row], audio: Path) -> tuple[list[Entry], str]:
        """See :meth:`Adapter.entries`."""
        splits, kept = split_held_out(
            [row["speaker"] for row in rows],
            {row["speaker"]: row["part"].startswith("train") for row in rows},
            groups=2,  # two speakers at least, or there is no pair of different ones
        )
        rule = (
            "by speaker: those of the train parts train, those of the others validate or test"
            if kept
            else "by speaker, drawn over all parts: outside the train parts are too few"
        )
        made = [
            Entry(
                id=row["filename"],
                path=audio / row["filename"],
                class_name="speech",
                group="speech",
                speaker=row["speaker"],
                session=row.get("chapter", ""),
                pieces=whole(split),
            )
            for row, split in zip(rows, splits, strict=True)
        ]
        return made, rule
