"""What a sweep's own files ask for, read from ``sweep.json``; it may be another version's."""

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Asks:
    """What a sweep asks.

    Args:
        question: its sentence; may be empty.
        final_seeds: fresh seeds that each finalist is to finish.
    """

    question: str
    final_seeds: int


def asks_of(home: Path, sweep: str) -> Asks | None:
    """What a sweep asks for; None where there is no such sweep here, or its file does not say."""
    if Path(sweep).name != sweep:  # a record must not say where to read
        return None
    try:
        content = json.loads((home / "sweeps" / sweep / "sweep.json").read_text(encoding="utf-8"))
        asks = content["asks"]
        seeds, question = asks["final_seeds"], asks["question"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not isinstance(seeds, int) or isinstance(seeds, bool) or not isinstance(question, str):
        return None
    return Asks(question, seeds)
