"""A copy of a run frozen at any of its writes, taken over and woken again, changes no number."""

import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.harness import (
    PLUGIN,
    Lab,
    at,
    epochs,
    equal,
    invariants,
    same_run,
    write_sweep,
)

PATIENCE_S = 3.0
AT_A_TIME = 4
WHEN = ("trains", "tests", "has ended")


@dataclass(frozen=True)
class Point:
    """A file operation that changes something: which, on what, and the how manieth of that kind.

    Args:
        event: see ``at``.
        path: of the file within the home, as a regular expression: names of temporary files differ.
        when: from 1.
    """

    event: str
    path: str
    when: int

    def __str__(self) -> str:
        return f"{self.event} {self.path} {self.when}"


class Takeover:
    """A worker frozen at a point; another one takes its run over; then the first one wakes.

    Args:
        lab: a home of their own.
        sweep: a sweep of a single run.
        point: where the first worker is frozen.
        when: what the second one does when the first wakes.
        config_dir: see ``Lab.begin``.
    """

    def __init__(
        self, lab: Lab, sweep: Path, point: Point, when: str, config_dir: Path | None = None
    ) -> None:
        self.lab, self.sweep, self.when = lab, sweep, when
        lab.begin(sweep, patience_s=PATIENCE_S, config_dir=config_dir)
        freeze = at(point.event, point.path, point.when, signal=signal.SIGSTOP)
        self.first = lab.worker(sweep.stem, fault=freeze)

    def take_over(self) -> None:
        self.first.until(self.first.frozen)
        self.evaluated = self.lab.root / "evaluated"
        slowly = {"EVALUATED": str(self.evaluated), "SLOWLY": "1.5"}
        self.second = self.lab.worker(self.sweep.stem, **slowly)
        self.since_s = time.monotonic()

    def to_wake(self) -> bool:
        """Whether the second worker is that far, or waits for the first: it holds a lock, say."""
        if not self.second.running():
            return True
        if not self.evaluated.exists():
            return time.monotonic() - self.since_s > 10 * PATIENCE_S
        return self.when == "trains" or (self.when == "tests" and self.tests())

    def tests(self) -> bool:
        """Whether the second worker has evaluated something since the last epoch."""
        [run] = self.lab.runs()
        lines = [path.stat().st_mtime_ns for path in run.glob("metrics*")]
        return len(epochs(run)) == 4 and self.evaluated.stat().st_mtime_ns > max(lines)

    def end(self) -> None:
        self.second.end()
        self.first.wake()
        self.first.end()


def test_fault_26_and_4_a_copy_frozen_in_the_write_of_its_best_weights_changes_nothing(
    lab: Lab, undisturbed: Lab, one: Path
) -> None:
    """Of the first epoch; the second is the best of all. It wakes when another has done it all."""
    best = Point("write", r"/checkpoints/\.best[^/]*\.ckpt", 1)
    here = Takeover(lab, one, best, "has ended")
    here.take_over()
    here.end()
    same_run(lab, undisturbed, one)


@pytest.fixture(scope="module")
def faulty(sweeps: Path) -> Path:
    """A single run with the head that can be slow."""
    return write_sweep(sweeps / "frozen.py", "yield 'head=faulty'", finalists=0)


@pytest.fixture(scope="module")
def recorded(
    faulty: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Lab, list[Point]]]:
    """A worker to whom nothing happens, and all that it does to files of the home, in order."""
    lab = Lab(tmp_path_factory.mktemp("recorded"), data)
    plugged = lab.plug_in()
    lab.begin(faulty, patience_s=PATIENCE_S, config_dir=PLUGIN / "conf")
    told = lab.root / "operations.txt"
    lab.worker(faulty.stem, fault={"list": str(told), "path": re.escape(f"{lab.home}/")}).end()
    lab.conclude(faulty, *plugged)
    yield lab, points(told.read_text().splitlines(), lab.home)
    lab.close()


def points(lines: list[str], home: Path) -> list[Point]:
    """The operations of a list."""
    counts: Counter[tuple[str, str]] = Counter()
    found = []
    for line in lines:
        event, _, path = line.partition(" ")
        within = re.escape(path.removeprefix(str(home)))
        # Names of temporary files and of workers hold pids and random digits.
        pattern = re.sub(r"(aside\\-).*|[0-9a-f]{16,}.*", r"\g<1>", within)
        counts[event, pattern] += 1
        found.append(Point(event, pattern, counts[event, pattern]))
    return found


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("turn", range(len(WHEN)))
def test_fault_26_and_4_frozen_at_each_write_in_turn(
    turn: int,
    recorded: tuple[Lab, list[Point]],
    faulty: Path,
    data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Some at a time, since most of it is waiting; each wakes at another moment in each turn."""
    reference, found = recorded
    harmed = []
    for begin in range(0, len(found), AT_A_TIME):
        here: dict[Point, Takeover] = {}
        try:
            for number, point in enumerate(found[begin : begin + AT_A_TIME], begin):
                lab = Lab(tmp_path_factory.mktemp("each"), data)
                plugged = lab.plug_in()
                when = WHEN[(number + turn) % len(WHEN)]
                here[point] = Takeover(lab, faulty, point, when, PLUGIN / "conf")
            for each in here.values():
                each.take_over()
            asleep = list(here.values())
            while asleep:
                for each in list(asleep):
                    if each.to_wake():
                        each.first.wake()
                        asleep.remove(each)
                time.sleep(0.02)
            for point, each in here.items():
                try:
                    each.end()
                    each.lab.conclude(faulty, *plugged)
                    equal(reference.home, each.lab.home)
                    name = faulty.stem
                    assert each.lab.report_bytes(name) == reference.report_bytes(name)
                    invariants(each.lab, name)
                except AssertionError as error:
                    harmed.append(f"{point} ({each.when}): {str(error).splitlines()[0]}")
        finally:
            for each in here.values():
                each.lab.close()
    assert not harmed, "\n".join(harmed)
