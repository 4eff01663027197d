"""What lhotse reads of a prepared set."""

from pathlib import Path
from typing import Any


def load_cuts(folder: Path, split: str) -> Any:
    """lhotse ``CutSet`` of one split of a prepared set, with paths that can be opened."""
    from lhotse import CutSet

    cuts = CutSet.from_file(folder / f"{split}_cuts.jsonl.gz").to_eager()
    return cuts.with_recording_path_prefix(folder)
