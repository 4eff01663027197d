"""How far sweeps are, as people watch it: bars on a terminal, now and then a line elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from lightning_sep.sweep.report import Progress
from lightning_sep.sweep.study import SweepStudy
from lightning_sep.terminal import duration, plain

LINE_S = 5.0


def tell(line: str) -> None:
    """A line for whoever watches; stdout carries results."""
    print(plain(line), file=sys.stderr, flush=True)  # rich's bars take what is printed


class Work(Protocol):
    """Something that is counted."""

    @property
    def work_done(self) -> int: ...

    @property
    def work_total(self) -> int: ...

    @property
    def trials(self) -> Mapping[str, int]: ...


def _running(states: Sequence[Work]) -> int:
    return sum(state.trials.get("running", 0) for state in states)


class Clock:
    """Time left, from the work done since each of those that work side by side has done a piece.

    That first piece takes longer than others: libraries and data are loaded. Until each has done a
    second one, what the first took is all that is known, and said as a bound.
    """

    def __init__(self) -> None:
        self.began_s = time.monotonic()
        self.first: int | None = None
        self.workers = 1
        self.cold_s: float | None = None  # of a piece, when all were the first

    def left(self, states: Sequence[Work]) -> str:
        """``up to 2 min left``, later ``about 40 s left``; empty where there is nothing to say."""
        done = sum(state.work_done for state in states)
        total = sum(state.work_total for state in states)
        running = _running(states)
        now_s = time.monotonic()
        self.workers = max(self.workers, running)
        if self.first is None:
            self.first = done
        if done == self.first and not running and self.cold_s is None:  # nobody has started
            self.began_s = now_s
        if self.cold_s is None and done - self.first >= self.workers:
            self.cold_s = (now_s - self.began_s) / (done - self.first)
            self.began_s, self.first = now_s, done
        if self.cold_s is None or done >= total:
            return ""
        if done - self.first < self.workers:
            return f"up to {duration(self.cold_s * (total - done))} left"
        left_s = (now_s - self.began_s) / (done - self.first) * (total - done)
        return f"about {duration(left_s)} left"


@contextmanager
def display(
    studies: Sequence[SweepStudy],
) -> Iterator[Callable[[Sequence[Progress]], None]]:
    """Shows how far all sweeps are: live bars on a terminal, now and then a line elsewhere."""
    clock = Clock()
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
        from rich.progress import Progress as Bars
        from rich.table import Column

        cut = Column(ratio=1, no_wrap=True, overflow="ellipsis")  # what is too long for the line
        columns = (
            TextColumn("{task.fields[name]}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            SpinnerColumn("line", finished_text=""),
            TextColumn("{task.fields[left]}", markup=False),
            TextColumn("{task.description}", markup=False, table_column=cut),
        )
        with Bars(*columns, console=Console(file=sys.stderr), expand=True) as bars:
            names = [study.definition.name for study in studies]
            rows = [bars.add_task("", name=name, left="", total=None) for name in names]

            def draw(states: Sequence[Progress]) -> None:
                running = _running(states)
                left = clock.left(states) or (f"{running} running" if running else "")
                for row, state in zip(rows, states, strict=True):
                    text = state.line().removeprefix(f"{state.name}: ")
                    bars.update(
                        row,
                        completed=state.work_done,
                        total=state.work_total,
                        description=plain(text),
                        left="" if state.done else left,
                    )

            yield draw
        return
    shown: dict[str, str] = {}
    at_s = 0.0

    def write(states: Sequence[Progress]) -> None:
        nonlocal at_s
        ended = all(state.done for state in states)
        if not ended and time.monotonic() - at_s < LINE_S:
            return
        left = clock.left(states)
        for state in states:
            if shown.get(state.name) != state.line() and (state.work_done or not shown):
                shown[state.name] = state.line()
                tell(state.line() + ("" if state.done or not left else f", {left}"))
                at_s = time.monotonic()

    yield write
