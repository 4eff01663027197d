"""What lhotse reads of a prepared set."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any


def load_cuts(folder: Path, split: str, paths: Mapping[str, str]) -> Any:
    """lhotse ``CutSet`` of one split of a prepared set, wherever the set lies now.

    Args:
        folder: the prepared set.
        split: "train", "val" or "test".
        paths: by recording, absolute or from the folder.
    """
    from lhotse import CutSet

    cuts = CutSet.from_file(folder / f"{split}_cuts.jsonl.gz").to_eager()
    for cut in cuts:
        [source] = cut.recording.sources
        source.source = str(folder / paths[cut.recording.id])
    return cuts
