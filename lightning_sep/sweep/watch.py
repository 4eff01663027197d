"""How sweeps are, shown anew every few seconds on a terminal; nothing is written to disk."""

import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from lightning_sep.sweep.display import Clock
from lightning_sep.sweep.singles import far
from lightning_sep.terminal import plain

EVERY_S = 2.0
_WORKERS = 12  # rows of what runs or waits, of each sweep
_COLOURS = {"running": "green", "done": "bold", "stopping": "yellow", "stopped": "yellow"}

Found = tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]


@dataclass(frozen=True)
class _Work:
    work_done: int
    work_total: int
    trials: dict[str, int]


def watch(look: Callable[[], Found]) -> None:
    """Show what `look` finds until somebody types ``q`` or Ctrl-C.

    Args:
        look: finds out anew how the sweeps are, and the single runs that are not done.
    """
    clocks: dict[str, Clock] = {}
    console = Console(file=sys.stdout)  # named, so that rich's own codes reach the terminal
    try:
        with _keys() as typed, Live(screen=True, auto_refresh=False, console=console) as live:
            while True:
                try:
                    shown = frame(*look(), clocks)
                except OSError as error:  # a disk that does not answer will do so again
                    shown = Text(plain(f"the disk does not answer: {error}"), "red")
                live.update(shown, refresh=True)
                until_s = time.monotonic() + EVERY_S
                while (left_s := until_s - time.monotonic()) > 0:
                    if typed(left_s) == "q":
                        return
    except KeyboardInterrupt:
        return


def frame(
    found: Sequence[dict[str, Any]],
    alone: Sequence[dict[str, Any]],
    clocks: dict[str, Clock],
) -> RenderableType:
    """What is shown at one time.

    Args:
        found: the state of each sweep, as ``status --json`` has it.
        alone: the single runs that are not done, the same way.
        clocks: what is known of the sweeps' speed; kept from one time to the next.
    """
    parts: list[RenderableType] = [Text(f"{time.strftime('%H:%M:%S')} · q ends", "dim")]
    if not found and not alone:
        parts.append(Text("no sweeps"))
    for one in found:
        parts += [Text(), *_sweep(one, clocks.setdefault(one["folder"], Clock()))]
    if alone:
        parts += [Text(), Text("single runs", "bold")]
        parts += _rows([(one["state"], one) for one in alone], "run")
    return Group(*parts)


def _sweep(one: dict[str, Any], clock: Clock) -> Iterator[RenderableType]:
    title = Text.assemble(
        (plain(one["sweep"]), "bold"),
        ": ",
        (one["state"], _COLOURS.get(one["state"], "")),
        plain(f" — {one['question']}") if one["question"] else "",
        no_wrap=True,
        overflow="ellipsis",
    )
    yield title
    bars = Table.grid(padding=(0, 1))
    for _ in range(4):
        bars.add_column(no_wrap=True, overflow="ellipsis")
    done, total = 0, 0
    for kind in ("trials", "finals"):
        counts = dict(one[kind])
        of = counts.pop("total")
        ended = sum(counts.get(state, 0) for state in ("finished", "pruned", "failed"))
        done, total = done + ended, total + of
        listed = ", ".join(f"{count} {state}" for state, count in counts.items())
        bar = ProgressBar(total=max(of, 1), completed=ended, width=24)
        bars.add_row(f"  {kind}", bar, f"{ended}/{of}", Text(listed, "dim"))
    yield bars
    left = clock.left([_Work(done, total, {"running": len(one["running"])})])
    if one["best"]:
        best = one["best"]
        said = f"  best {one['metric']} {best['value']:.4g} ({' '.join(best['overrides'])})"
        yield _line(f"{said} · {left}" if left else said)
    elif left:
        yield _line(f"  {left}")
    if jobs := one.get("jobs"):
        yield _line(f"  {jobs.get('unknown') or jobs['line'] or 'no job waits or runs'}", "cyan")
    rows = [(kind, entry) for kind in ("running", "waiting", "failed") for entry in one[kind]]
    yield from _rows(rows, "trial")


def _rows(rows: Sequence[tuple[str, dict[str, Any]]], name: str) -> Iterator[RenderableType]:
    """A table of what runs, waits or has failed, as long as it is not longer than a screen."""
    if not rows:
        return
    table = Table(box=None, padding=(0, 1), expand=True, header_style="dim")
    columns = (("", None), (name, None), ("setting", 3), ("how far", None), ("by, or why", 2))
    for title, ratio in columns:
        table.add_column(title, ratio=ratio, no_wrap=True, overflow="ellipsis")
    for kind, entry in rows[:_WORKERS]:
        seed = f" s{entry['seed']}" if "seed" in entry else ""
        why = entry.get("by") or entry.get("reason") or ""
        if entry.get("waits_for"):
            why = f"{why}, waits for {entry['waits_for']}"
        table.add_row(
            Text(f" {kind}", "red" if kind == "failed" else ""),
            f"{entry[name]}{seed}",
            Text(plain(" ".join(entry["overrides"]))),
            Text(plain(far(entry, named=False))),
            Text(plain(why)),
        )
    yield table
    if len(rows) > _WORKERS:
        yield _line(f"  and {len(rows) - _WORKERS} more", "dim")


def _line(text: str, style: str = "") -> Text:
    return Text(plain(text), style, no_wrap=True, overflow="ellipsis")


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Gives a function that waits for a key; it gets the seconds to wait, and returns the key."""
    if not sys.stdin.isatty():

        def wait(seconds: float) -> str:
            time.sleep(seconds)
            return ""

        yield wait
        return
    import termios
    import tty

    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)

    def key(seconds: float) -> str:
        ready, _, _ = select.select([number], [], [], seconds)
        return os.read(number, 1).decode(errors="replace") if ready else ""

    try:
        tty.setcbreak(number)
        yield key
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)
