"""Free Spoken Digit Dataset: single digits by few speakers."""

from pathlib import Path

from lightning_sep.checks import one_of
from lightning_sep.data.adapter import Adapter, Row
from lightning_sep.data.draws import shuffled_order
from lightning_sep.data.manifests import Entry
from lightning_sep.data.splits import split_by_key, whole


class Fsdd(Adapter):
    """Spoken English digits of about half a second (Jackson and contributors).

    Args:
        held_out: ``separate`` gives validation and test speakers of their own. With fewer than
            six speakers that is one each, too few to compare speakers; ``shared`` gives both the
            same speakers, unheard in training, with other recordings of them.
        sample_rate: in Hz; ``None`` keeps that of the files.
        cache_limit_mb: bound of the decoded cache in MiB.
        keep: see :class:`~lightning_sep.data.corpus.Corpus`.
        test_only: see :class:`~lightning_sep.data.corpus.Corpus`.
    """

    name = "fsdd"
    columns = ("speaker", "digit")
    credit = "Free Spoken Digit Dataset by Zohar Jackson and contributors, CC BY-SA 4.0"

    def __init__(
        self,
        held_out: str = "separate",
        sample_rate: int | None = None,
        cache_limit_mb: float | None = None,
        keep: bool = False,
        test_only: bool = False,
    ) -> None:
        super().__init__(sample_rate, cache_limit_mb, keep, test_only)
        self.held_out = one_of("held_out", held_out, ("separate", "shared"))

    def settings(self) -> list[str]:
        """See :meth:`Adapter.settings`."""
        return [self.held_out]

    def common_speakers(self) -> frozenset[str]:
        """See :meth:`Adapter.common_speakers`."""
        return frozenset(("val", "test")) if self.held_out == "shared" else frozenset()

    def entries(self, rows: list[Row], audio: Path) -> tuple[list[Entry], str]:
        """See :meth:`Adapter.entries`."""
        splits = split_by_key([row["speaker"] for row in rows])
        rule = "by speaker, drawn; data.held_out=shared gives val and test the same"
        if self.held_out == "shared":
            held = [row for row, split in zip(rows, splits, strict=True) if split != "train"]
            half: dict[str, str] = {}
            for speaker in sorted({row["speaker"] for row in held}):
                files = shuffled_order(
                    [row["filename"] for row in held if row["speaker"] == speaker], seed=0
                )
                half |= dict.fromkeys(files[::2], "val") | dict.fromkeys(files[1::2], "test")
            rule = "by speaker, drawn; val and test share theirs (data.held_out=shared)"
            splits = [
                half.get(row["filename"], split) for row, split in zip(rows, splits, strict=True)
            ]
        made = [
            Entry(
                id=row["filename"],
                path=audio / row["filename"],
                class_name="speech",
                group="speech",
                speaker=row["speaker"],
                text=row["digit"],
                pieces=whole(split),
            )
            for row, split in zip(rows, splits, strict=True)
        ]
        return made, rule
