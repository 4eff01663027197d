"""What lhotse reads of a prepared set."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning_sep.data.splits import SPLITS


def load_recordings(folder: Path) -> Iterator[Any]:
    """lhotse recordings of all splits of a prepared set, with paths that can be opened."""
    from lhotse import RecordingSet

    for split in SPLITS:
        yield from RecordingSet.from_file(folder / f"{split}_recordings.jsonl.gz").with_path_prefix(
            folder  # files that were left where they lie have absolute paths, and keep them
        )


def load_cuts(folder: Path, split: str) -> Any:
    """lhotse ``CutSet`` of one split of a prepared set, with paths that can be opened."""
    from lhotse import CutSet

    cuts = CutSet.from_file(folder / f"{split}_cuts.jsonl.gz").to_eager()
    return cuts.with_recording_path_prefix(folder)
