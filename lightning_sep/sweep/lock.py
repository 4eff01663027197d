"""A lock between processes on any shared disk: taken by making a symbolic link."""

import errno
import fcntl
import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from uuid import uuid4

from lightning_sep.fsio import storage_errors
from lightning_sep.sweep.process import Owner, this_process

GRACE_S = 30.0


class FileLock:
    """Held by whoever made the link ``path``; the link's text says who that is.

    Making a link is atomic on network disks too, where other locks are often switched off. A lock
    whose holder died is taken over at once when the holder ran on this machine, otherwise after
    ``grace_s`` without a new holder on this process's own clock. Two that take over at the same
    time exclude each other, so a fresh holder's link is never removed.
    """

    def __init__(self, path: Path, *, grace_s: float = GRACE_S) -> None:
        self.path = path
        self.grace_s = grace_s
        self._token = ""
        self._since_s = 0.0

    def acquire(self) -> bool:
        """Wait until the lock is ours.

        Raises:
            StorageError: the folder may not be written or its disk is full.
        """
        owner = this_process()
        token = f"{owner.world}|{owner.pid}|{owner.start}|{owner.host}|{uuid4().hex}"
        seen, since_s, pause_s = "", time.monotonic(), 0.001
        while True:
            if self._link(token):
                break
            holder = self.holder()
            if holder == token:  # a network disk made the link, but its answer was lost
                break
            if holder != seen:
                seen, since_s = holder, time.monotonic()
            if holder and (_dead(holder) or time.monotonic() - since_s > self.grace_s):
                self._break(holder)
                continue
            time.sleep(pause_s * random.uniform(0.5, 1.5))
            pause_s = min(2 * pause_s, 0.05)
        self._token, self._since_s = token, time.monotonic()
        return True

    def _link(self, token: str) -> bool:
        """Make the link; False when there is one, or when the disk does not answer."""
        with storage_errors(self.path):
            try:
                os.symlink(token, self.path)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno != errno.ESTALE:
                    raise
                return False
        return True

    def release(self) -> None:
        """Give the lock back; one that was taken over in the meantime is left to its new holder."""
        token, self._token = self._token, ""
        if time.monotonic() - self._since_s < self.grace_s / 2:
            if self.holder() == token:
                self.path.unlink(missing_ok=True)
        else:  # somebody may be taking it over just now
            self._break(token)

    def holder(self) -> str:
        """The text of the link; empty when nobody holds the lock."""
        try:
            return os.readlink(self.path)
        except OSError:
            return ""

    def _break(self, token: str) -> None:
        with _alone(self.path.with_name(self.path.name + ".takeover")) as alone:
            if alone and self.holder() == token:
                self.path.unlink(missing_ok=True)

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


def _dead(token: str) -> bool:
    world, pid, start, host, _ = token.split("|")
    return Owner(host, world, int(pid), start).alive() is False


@contextmanager
def _alone(path: Path) -> Iterator[bool]:
    """True for one process at a time; the kernel frees it when that process dies."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # A disk without such locks cannot keep takers apart; the link still keeps holders so.
            yield error.errno in (errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK)
        else:
            yield True
    finally:
        os.close(handle)
