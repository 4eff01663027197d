"""How far preparing is, for people: a line that moves on a terminal, few plain lines in a log."""

import sys
import time
from collections.abc import Callable
from typing import TextIO

from lightning_sep.terminal import plain, with_codes

_QUIET_S = 2.0  # what is done sooner is not spoken of in a log
_EVERY_S = 30.0  # between two lines of a log


class ProgressLine:
    """Called as ``line(done, total, text)``; writes to stderr, since stdout carries results.

    A terminal has one line that is written over. Anything else gets a line when the work takes
    more than two seconds, one every half minute and one at its end.

    Args:
        stream: where to write; ``None`` is stderr as it is when something is said.
        clock_s: tells the time in seconds.
    """

    def __init__(
        self, stream: TextIO | None = None, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._stream = stream
        self._clock_s = clock_s
        self._next_s: float | None = None  # when a log hears of it again
        self._spoken = False

    def __call__(self, done: int, total: int, text: str) -> None:
        """Say that ``done`` of ``total`` are done and what is being done."""
        stream = self._stream or sys.stderr
        ended = done >= total
        if stream.isatty():
            line = f"\r\033[K{done}/{total} {plain(text)}"
            print(line, end="\n" if ended else "", file=with_codes(stream))
        else:
            self._log(f"{done}/{total} {text}", ended, stream)
        stream.flush()

    def _log(self, line: str, ended: bool, stream: TextIO) -> None:
        now_s = self._clock_s()
        if self._next_s is None:
            self._next_s = now_s + _QUIET_S
        if (ended and self._spoken) or now_s >= self._next_s:
            print(line, file=stream)
            self._next_s, self._spoken = now_s + _EVERY_S, not ended
