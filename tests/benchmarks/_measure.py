"""What all benchmarks share: two ways in turn, CPU time of a process, one line each.

A figure alone says little on a machine that does other things besides. So every line is a ratio of
two things that were run in turn (A B A B ...), and a round gives one ratio.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

PROGRAM = [sys.executable, "-m", "lightning_sep"]
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Line:
    """One comparison; ``ours`` and ``peer`` hold a figure a round.

    Args:
        subject: what kind of thing is compared.
        what: what is measured.
        peer_name: what it is measured against.
        ours: figure of each round.
        peer: figure of each round, in turn with ``ours``.
        unit: of the figures.
    """

    subject: str
    what: str
    peer_name: str
    ours: list[float]
    peer: list[float]
    unit: str = "CPU s"

    @property
    def ratios(self) -> list[float]:
        """Ours over the peer's, round by round."""
        return [one / other for one, other in zip(self.ours, self.peer, strict=True)]

    @property
    def difference(self) -> float:
        """Ours less the peer's, median over the rounds."""
        return median(one - other for one, other in zip(self.ours, self.peer, strict=True))

    def as_json(self) -> dict[str, Any]:
        """The line with its medians and every round."""
        return {
            "subject": self.subject,
            "what": self.what,
            "against": self.peer_name,
            "ratio": median(self.ratios),
            "ratios": self.ratios,
            "difference": self.difference,
            "ours": median(self.ours),
            "peer": median(self.peer),
            "ours_rounds": self.ours,
            "peer_rounds": self.peer,
            "unit": self.unit,
        }


def table(lines: Sequence[Line]) -> str:
    """All lines below each other: median ratio, its least and greatest, both medians, and how much
    more ours takes."""
    rows = [
        ("subject", "what", "against", "ratio", "least to greatest", "ours", "peer", "more", "")
    ]
    for line in lines:
        ratios = line.ratios
        rows.append(
            (
                line.subject,
                line.what,
                line.peer_name,
                f"{median(ratios):.3g}",
                f"{min(ratios):.3g} to {max(ratios):.3g}",
                f"{median(line.ours):.3g}",
                f"{median(line.peer):.3g}",
                f"{line.difference:+.3g}",
                line.unit,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def in_turn(
    rounds: int, ours: Callable[[], float], peer: Callable[[], float]
) -> tuple[list[float], list[float]]:
    """The figures of both, taken in turn."""
    pairs = [(ours(), peer()) for _ in range(rounds)]
    return [one for one, _ in pairs], [other for _, other in pairs]


def environment(**more: str | Path) -> dict[str, str]:
    """One thread, no network, this checkout."""
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "passive",
        "WANDB_MODE": "offline",
        **{name: str(value) for name, value in more.items()},
    }


def run(command: Sequence[str | Path], env: dict[str, str]) -> str:
    """The output of a command.

    Raises:
        SystemExit: it failed; its own words are shown.
    """
    done = subprocess.run([*map(str, command)], env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr or done.stdout}")
    return done.stdout


def cpu_s(command: Sequence[str | Path], env: dict[str, str]) -> float:
    """Seconds of CPU, user and system, of a command and its children.

    Raises:
        SystemExit: it failed.
    """
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [*map(str, command)], env=env, stdout=subprocess.DEVNULL, stderr=said
        )
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise SystemExit(f"{' '.join(map(str, command))}: {said.read()}")
    return used.ru_utime + used.ru_stime


def told(command: Sequence[str | Path], env: dict[str, str]) -> Any:
    """What a command prints as JSON in its last line."""
    return json.loads(run(command, env).splitlines()[-1])
