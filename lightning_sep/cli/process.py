"""What a process is made of before torch is imported, and the signals that end it in order."""

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from lightning_sep.cli.command import PROGRAM
from lightning_sep.cli.output import fail
from lightning_sep.errors import Interrupted
from lightning_sep.memory import keep_freed_memory


def threads_in(settings: Sequence[str], config_dir: Path | None = None) -> str:
    """The number of threads that a command's settings ask for; wrong ones are refused later."""
    from lightning_sep.settings import peek

    asked = peek(settings, config_dir).get("trainer", {}).get("threads")
    return str(asked) if type(asked) is int and asked > 0 else "1"


def ready_process(threads: str = "1") -> None:
    """What must be set before torch is imported, which reads it once.

    The number of threads changes the last bits of a result, so it is what the settings say, never
    what the environment happens to hold.
    """
    os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = threads
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # waiting threads must not take the core
    keep_freed_memory()


class Stop:
    """Whether a signal has asked to stop, and which."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        return self.signal is not None

    def receive(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = number
        print(f"{PROGRAM}: saving, then stopping (Ctrl-C again: at once)", file=sys.stderr)


def told_stopped(stop: Stop, error: BaseException) -> int:
    """Say that a run was stopped and how it goes on, and return the exit code.

    Args:
        stop: what was asked to stop.
        error: ``Interrupted``, or the ``SystemExit`` by which Lightning leaves a loop on SIGTERM.
    """
    said = str(error) if isinstance(error, Interrupted) else "stopped on request"
    code = 130 if stop.signal == signal.SIGINT else 1
    return fail(f"{said}; the same command goes on from the last checkpoint", code)


@contextmanager
def stopped_by_signals() -> Iterator[Stop]:
    """Let Ctrl-C, SIGTERM and SIGUSR1 ask for a checkpoint and an orderly end."""
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop  # Python hands signals to the main thread alone
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    held = {number: signal.signal(number, stop.receive) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in held.items():
            signal.signal(number, handler)
