"""Ends a process that makes no step any more, with the stacks of all its threads in its log."""

import faulthandler
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightning_sep.fsio import PATIENCE

_AGAIN_S = 1.0  # arming the watchdog takes a system call or two: not at every step


@contextmanager
def watched(hang_s: float | None) -> Iterator[Callable[[], None]]:
    """Within this, whoever does not call what it yields for ``hang_s`` ends with its process.

    The clock runs in a thread of faulthandler's own, which needs nothing of Python: a loop in C
    that holds the interpreter is ended as well. The process leaves with exit code 1, so its work
    counts as interrupted by a crash.

    Args:
        hang_s: seconds; ``None`` watches nothing.
    """
    if hang_s is None:
        yield lambda: None
        return
    armed_s = -_AGAIN_S

    def alive() -> None:
        nonlocal armed_s
        now_s = time.monotonic()
        if now_s - armed_s >= min(_AGAIN_S, hang_s / 10):
            armed_s = now_s
            faulthandler.dump_traceback_later(hang_s, exit=True, file=sys.stderr)

    before = PATIENCE.pulse
    PATIENCE.pulse = alive  # whoever waits for the disk does not hang
    alive()
    try:
        yield alive
    finally:
        faulthandler.cancel_dump_traceback_later()
        PATIENCE.pulse = before
