"""A copy of a run frozen at any of its writes, taken over and woken again, changes no number."""

import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.faults.harness import Lab, at, equal, invariants, write_sweep

PATIENCE_S = 3.0


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


@pytest.fixture(scope="module")
def one(sweeps: Path) -> Path:
    """A sweep of a single run."""
    return write_sweep(sweeps / "one.py", "yield 'head=tanh'", finalists=0)


@pytest.fixture(scope="module")
def recorded(
    one: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Lab, list[Point]]]:
    """A worker to whom nothing happens, and all that it does to files of the home, in order."""
    lab = Lab(tmp_path_factory.mktemp("recorded"), data)
    lab.begin(one, patience_s=PATIENCE_S)
    told = lab.root / "operations.txt"
    lab.worker("one", fault={"list": str(told), "path": re.escape(f"{lab.home}/")}).end()
    lab.conclude(one)
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


def chosen(found: list[Point]) -> dict[str, Point]:
    """Four writes of different kinds, each after its guard has been asked."""

    def first(part: str, nth: int = 0) -> Point:
        return [p for p in found if part in p.path and p.event in ("write", "link")][nth]

    bests = [p for p in found if "/checkpoints/" in p.path and "best" in p.path]
    writes = [p for p in bests if p.event == "write" and "ckpt" in p.path]
    return {
        "best checkpoint": writes[0],  # of the first epoch; the second is the best of all
        "history": first("/metrics", 2),
        "record": first("record"),
        "journal": first("/journal", -1),
    }


WHILE = {"best checkpoint": False, "history": True, "record": False, "journal": True}


class Takeover:
    """A worker frozen at a point; another one takes its run over; then the first one wakes.

    Args:
        lab: a home of their own.
        sweep: a sweep of a single run.
        point: where the first worker is frozen.
        meanwhile: wake it when the second has begun; else when that one has ended.
    """

    def __init__(self, lab: Lab, sweep: Path, point: Point, meanwhile: bool) -> None:
        self.lab, self.sweep, self.point, self.meanwhile = lab, sweep, point, meanwhile
        lab.begin(sweep, patience_s=PATIENCE_S)
        freeze = at(point.event, point.path, point.when, signal=signal.SIGSTOP)
        self.first = lab.worker(sweep.stem, fault=freeze)

    def attempts(self) -> int:
        lines = [path / "attempts.jsonl" for path in self.lab.runs()]
        return sum(len(path.read_text().splitlines()) for path in lines if path.exists())

    def take_over(self) -> None:
        self.first.until(self.first.frozen)
        self.before = self.attempts()
        self.second = self.lab.worker(self.sweep.stem)

    def wake(self) -> None:
        # Whoever was frozen with a lock in its hand is waited for: only its waking ends that.
        end_s = time.monotonic() + 6 * PATIENCE_S
        while self.second.running() and time.monotonic() < end_s:
            if self.meanwhile and self.attempts() > self.before:
                break
            time.sleep(0.01)
        self.first.wake()

    def end(self) -> None:
        self.second.end()
        self.first.end()
        self.lab.conclude(self.sweep)


@pytest.fixture(scope="module")
def taken_over(
    recorded: tuple[Lab, list[Point]],
    one: Path,
    data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Takeover]]:
    """The four of them at the same time: most of it is waiting."""
    made = {
        name: Takeover(
            Lab(tmp_path_factory.mktemp(name.replace(" ", "_")), data),
            one,
            point,
            WHILE[name],
        )
        for name, point in chosen(recorded[1]).items()
    }
    try:
        for each in made.values():
            each.take_over()
        for each in made.values():
            each.wake()
        yield made
    finally:
        for each in made.values():
            each.lab.close()


@pytest.mark.parametrize("before", WHILE)
def test_fault_26_a_copy_frozen_before_a_write_and_woken_later_changes_nothing(
    before: str, taken_over: dict[str, Takeover], recorded: tuple[Lab, list[Point]]
) -> None:
    here = taken_over[before]
    here.end()
    equal(recorded[0].home, here.lab.home)
    assert here.lab.report_bytes("one") == recorded[0].report_bytes("one")
    invariants(here.lab, "one")


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_fault_26_and_4_frozen_at_each_write_in_turn(
    recorded: tuple[Lab, list[Point]],
    one: Path,
    data: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    reference, found = recorded
    harmed = []
    for number, point in enumerate(found):
        lab = Lab(tmp_path_factory.mktemp("each"), data)
        try:
            here = Takeover(lab, one, point, meanwhile=number % 2 == 0)
            here.take_over()
            here.wake()
            here.end()
            equal(reference.home, lab.home)
            assert lab.report_bytes("one") == reference.report_bytes("one")
            invariants(lab, "one")
        except AssertionError as error:
            harmed.append(f"{point}: {str(error).splitlines()[0]}")
        finally:
            lab.close()
    assert not harmed, "\n".join(harmed)
