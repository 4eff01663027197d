"""A lock between processes on any shared disk: taken by making a symbolic link.

filelock's SoftFileLease, which tells here who lives, does not serve as this lock: it is taken over
from a holder that stands still for its duration, although that holder lives on this very machine.
Here nobody breaks a lock whose holder lives.
"""

import fcntl
import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from lightning_sep.errors import Interrupted, LeaseLost
from lightning_sep.fsio import PATIENCE, storage_errors
from lightning_sep.leases.process import Owner, this_process

GRACE_S = 60.0
_STOP_S = 10.0  # a process that is asked to end waits no longer than this for a lock


class FileLock:
    """Held by whoever made the link ``path``; the link's text says who that is.

    Making a link is atomic on network disks too, where other locks are often switched off. A lock
    whose holder died is taken over at once when the holder ran on this machine, never while it
    lives there, and after ``grace_s`` without a change when it ran where one cannot look. Two that
    take over at the same time exclude each other. What was frozen for longer than that, far away,
    finds out by `check` before it writes.

    The thread that holds it may take it again.
    """

    def __init__(self, path: Path, *, grace_s: float = GRACE_S) -> None:
        self.path = path
        self.grace_s = grace_s
        self.taken_over = False
        """Whether some holder was broken since somebody last looked; it may still be writing."""
        self._thread = threading.RLock()
        self._depth = 0
        self._token = ""
        self._since_s = 0.0

    def acquire(self) -> bool:
        """Wait until the lock is ours.

        Raises:
            StorageError: the folder may not be written or its disk is full.
            Interrupted: this process is asked to end, and the holder does not let go.
        """
        self._thread.acquire()
        try:
            if not self._depth:
                with storage_errors(self.path):
                    self._token = self._wait()
                self._since_s = time.monotonic()
            self._depth += 1
        except BaseException:
            self._thread.release()
            raise
        return True

    def release(self) -> None:
        """Give the lock back; one that was taken over in the meantime is left to its new holder."""
        self._depth -= 1
        try:
            if not self._depth:
                token, self._token = self._token, ""
                held_long = time.monotonic() - self._since_s > self.grace_s / 2
                with storage_errors(self.path):
                    PATIENCE.until_back(lambda: self._remove(token, alone=held_long))
        finally:
            self._thread.release()

    def check(self) -> None:
        """See that a lock that is held here is still ours; nothing when it is not held.

        Raises:
            LeaseLost: this process stood still for so long that another one has broken it.
        """
        if self._depth and PATIENCE.until_back(self.holder) != self._token:
            raise LeaseLost(f"{self.path.name} was taken over while this process stood still")

    def holder(self) -> str:
        """The text of the link; empty when nobody holds the lock."""
        try:
            return os.readlink(self.path)
        except FileNotFoundError:
            if PATIENCE.away():
                raise
            return ""

    def _wait(self) -> str:
        owner = this_process()
        token = f"{owner.world}|{owner.pid}|{owner.start}|{owner.host}|{uuid4().hex}"
        began_s = since_s = time.monotonic()
        seen, pause_s = "", 0.001
        while True:
            if PATIENCE.until_back(lambda: self._link(token)):
                return token
            holder = PATIENCE.until_back(self.holder)
            if holder == token:  # a network disk made the link, but its answer was lost
                return token
            if holder != seen:
                seen, since_s = holder, time.monotonic()
            alive = _alive(holder)
            if holder and (
                alive is False or (alive is None and time.monotonic() - since_s > self.grace_s)
            ):
                self.taken_over |= PATIENCE.until_back(partial(self._break, holder))
                continue
            if PATIENCE.stop() and time.monotonic() - began_s > _STOP_S:
                raise Interrupted(f"{self.path.name} is held by {_named(holder)}")
            PATIENCE.pulse()
            time.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(2 * pause_s, 0.1)

    def _link(self, token: str) -> bool:
        """Make the link; False when there is one."""
        try:
            os.symlink(token, self.path)
        except FileExistsError:
            return False
        return True

    def _break(self, token: str) -> bool:
        """Take the link of a holder that is gone away; whether it was there."""
        return self._remove(token, alone=True)

    def _remove(self, token: str, *, alone: bool) -> bool:
        with _alone(self.path.parent) if alone else nullcontext(True) as ours:
            if ours and self.holder() == token:
                self.path.unlink(missing_ok=True)
                return True
        return False

    def __enter__(self) -> "FileLock":
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def _alive(token: str) -> bool | None:
    """Whether the holder that a link names lives; None where that cannot be seen from here."""
    owner = _owner(token)
    return None if owner is None else owner.alive()


def _named(token: str) -> str:
    owner = _owner(token)
    return "somebody" if owner is None else str(owner)


def _owner(token: str) -> Owner | None:
    parts = token.split("|")
    if len(parts) != 5 or not parts[1].isdigit():
        return None
    world, pid, start, host, _ = parts
    return Owner(host, world, int(pid), start)


@contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    """True for one process at a time; the kernel frees it when that process dies."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        except OSError:
            # A disk without such locks cannot keep takers apart; the link still keeps holders so.
            yield True
        else:
            yield True
    finally:
        os.close(handle)
