"""What a sweep's own files ask for and say; they may be another version's."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Dropped:
    """Why a race went on without a setting.

    Args:
        after: how many fresh seeds it had finished.
        leader: the trial that it was behind.
        behind: by how much, in what the sweep judges by.
    """

    after: int
    leader: int
    behind: float


@dataclass(frozen=True)
class Asks:
    """What a sweep asks.

    Args:
        question: its sentence; may be empty.
        final_seeds: fresh seeds that each finalist is to finish.
        dropped: the finalists that its race went on without, by trial.
    """

    question: str
    final_seeds: int
    dropped: Mapping[int, Dropped] = field(default_factory=dict)


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
    return Asks(question, seeds, _dropped(home / "sweeps" / sweep / "trials.json"))


def _dropped(path: Path) -> dict[int, Dropped]:
    """What the report of a sweep says of its race; nothing where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["finalists"]
        said: list[tuple[int, Any]] = [(int(one["trial"]), one.get("dropped")) for one in found]
        return {
            trial: Dropped(int(one["after"]), int(one["leader"]), float(one["behind"]))
            for trial, one in said
            if one is not None
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
