"""The files of a run's folder, and which of them count.

What an attempt writes carries its generation (``step-000000120.3.ckpt``): a copy that was frozen,
taken over and woken can only write files of a generation that is past. Files without one are of
runs that were made before generations.
"""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_sep.fsio import PATIENCE, link_over, read_lines

HISTORY = "metrics.jsonl"
LEASE = "lease.json"
ATTEMPTS = "attempts.jsonl"
LOG = "log.txt"  # a line each: the time, and what was noted
FAILED = "failed: "  # begins a note of what ended an attempt
_STEP = re.compile(r"step-(\d+)(?:\.(\d+))?\.ckpt")
_BEST = re.compile(r"best(?:\.(\d+))?\.ckpt")
_HISTORY = re.compile(r"metrics\.(\d+)\.jsonl")
_EXAMPLES = re.compile(r"test_examples\.(\d+)\.json")


@dataclass(frozen=True, order=True)
class StepFile:
    """A checkpoint to go on from; the greater, the newer."""

    generation: int
    step: int
    path: Path


class RunFolder:
    """A run's folder.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"

    def steps(self) -> list[StepFile]:
        """All checkpoints to go on from, the newest first."""
        found = (
            StepFile(int(match[2] or 0), int(match[1]), self.checkpoints / match[0])
            for match in _matches(self.checkpoints, _STEP)
        )
        return sorted(found, reverse=True)

    def bests(self) -> list[Path]:
        """All checkpoints of a best epoch, the newest generation's first."""
        found = [
            (int(match[1] or 0), self.checkpoints / match[0])
            for match in _matches(self.checkpoints, _BEST)
        ]
        return [path for _, path in sorted(found, reverse=True)]

    def generation(self) -> int:
        """The highest generation that any file carries; 0 without one."""
        found = [step.generation for step in self.steps()]
        found += [int(match[1] or 0) for match in _matches(self.checkpoints, _BEST)]
        for pattern in (_HISTORY, _EXAMPLES):
            found += [int(match[1]) for match in _matches(self.path, pattern)]
        return max(found, default=0)

    def step(self, step: int, generation: int) -> Path:
        """A checkpoint's file."""
        return self.checkpoints / f"step-{step:09d}.{generation}.ckpt"

    def best(self, generation: int) -> Path:
        """The best epoch's file."""
        return self.checkpoints / f"best.{generation}.ckpt"

    def examples(self, generation: int) -> Path:
        """The values of the test examples."""
        return self.path / f"test_examples.{generation}.json"

    def history(self, generation: int) -> Path:
        """The history as one attempt knows it; that of generation 0 is ``metrics.jsonl`` itself."""
        return self.path / (f"metrics.{generation}.jsonl" if generation else HISTORY)

    def histories(self) -> list[int]:
        """The generations that have a history, the newest first."""
        return sorted((int(match[1]) for match in _matches(self.path, _HISTORY)), reverse=True)

    def rows(self, generation: int | None = None) -> list[dict[str, Any]]:
        """The lines of the history: of one generation, or of the newest."""
        if generation is None:
            generation = next(iter(self.histories()), 0)
        return read_lines(self.history(generation))

    def attempts(self) -> list[dict[str, Any]]:
        """What each attempt has noted of itself, the first one first; a damaged line is none."""
        noted = read_lines(self.path / ATTEMPTS)
        return [one for one in noted if {"started", "overrides"} <= one.keys()]

    def publish(self) -> None:
        """Let ``metrics.jsonl`` be the newest history, whoever wrote that name last.

        Asked again afterwards: of two that publish at the same time, the later sees the newer.
        """
        while True:
            newest = next(iter(self.histories()), None)
            if newest is None or _same(self.history(newest), self.path / HISTORY):
                return
            link_over(self.history(newest), self.path / HISTORY)

    def forget(self, *, below: int) -> None:
        """Remove the histories of generations below one: checkpoints hold their lines."""
        for generation in self.histories():
            if generation < below:
                with suppress(FileNotFoundError):
                    self.history(generation).unlink()


def _matches(folder: Path, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    try:
        names = PATIENCE.until_back(lambda: os.listdir(folder))
    except FileNotFoundError:
        return
    for name in names:
        match = pattern.fullmatch(name)
        if match is not None:
            yield match


def _same(one: Path, other: Path) -> bool:
    try:
        return PATIENCE.until_back(lambda: os.path.samefile(one, other))
    except FileNotFoundError:
        return False
