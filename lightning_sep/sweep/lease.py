"""Leases: who works on what, and how others notice that its worker is gone.

A worker shows that it lives by a counter in a file of its own, which it raises every two seconds.
A reader judges by whether that counter moves, on its own clock: clocks of two machines are never
compared. A lease names its worker and a token; whoever takes it over writes another token, and the
former owner finds that out before its next write.
"""

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from lightning_sep.errors import ConfigError, LeaseLost
from lightning_sep.fsio import write_json
from lightning_sep.sweep.lock import FileLock
from lightning_sep.sweep.process import Owner, this_process

REFRESH_S = 2.0
STALE_S = 15.0


def stale_s() -> float:
    """Seconds without a sign of life after which a lease is free; LIGHTNING_SEP_LEASE_S sets it.

    Raises:
        ConfigError: the variable holds no positive number.
    """
    text = os.environ.get("LIGHTNING_SEP_LEASE_S", "")
    try:
        value = float(text) if text else STALE_S
    except ValueError:
        value = 0.0
    if not value > 0:
        raise ConfigError(
            f"LIGHTNING_SEP_LEASE_S = {text!r}: a positive number of seconds is needed"
        )
    return value


class Reader(Protocol):
    """Reads a file's bytes; tests put a bad disk here."""

    def __call__(self, path: Path) -> bytes: ...


def read_bytes(path: Path) -> bytes:
    """The bytes of a file."""
    return path.read_bytes()


class Pulse:
    """This worker's sign of life: a counter, raised by a thread until `stop`."""

    def __init__(self, folder: Path, *, refresh_s: float | None = None) -> None:
        self.worker = uuid4().hex[:16]
        self.path = folder / f"{self.worker}.json"
        self.owner = this_process()
        self.refresh_s = min(REFRESH_S, stale_s() / 5) if refresh_s is None else refresh_s
        self._counter = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat_on, name="pulse", daemon=True)

    def start(self) -> "Pulse":
        """Begin to beat; the first beat is on the disk when this returns."""
        write_json(self.path, self._content())
        self._thread.start()
        return self

    def stop(self) -> None:
        """End: the file is removed."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        self.path.unlink(missing_ok=True)

    def _content(self) -> dict[str, Any]:
        return {"counter": self._counter, "owner": self.owner.as_json()}

    def _beat_on(self) -> None:
        aside = self.path.with_name(f".{self.path.name}.aside-{os.getpid()}")
        while not self._ended.wait(self.refresh_s):
            self._counter += 1
            text = json.dumps(self._content())
            try:
                aside.write_text(text)
                os.replace(aside, self.path)
            except OSError:  # a full disk must not look like a dead worker: write in place
                with suppress(OSError):
                    self.path.write_text(text)


@dataclass
class _Look:
    counter: int | None
    at_s: float
    still_s: float = 0.0


class Watcher:
    """Judges whether the workers behind leases are gone.

    Args:
        folder: where workers keep their counters.
        patience_s: how long a counter must stand still.
        read: reads a file.
        clock: a monotonic clock, in seconds.
    """

    def __init__(
        self,
        folder: Path,
        *,
        patience_s: float | None = None,
        read: Reader = read_bytes,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.patience_s = stale_s() if patience_s is None else patience_s
        self._read = read
        self._clock = clock
        self._looks: dict[str, _Look] = {}

    def gone(self, worker: str, owner: Owner) -> bool:
        """Whether a worker has died or stood still for too long."""
        if owner.alive() is False:
            return True
        now_s = self._clock()
        try:
            counter: int | None = int(
                json.loads(self._read(self.folder / f"{worker}.json"))["counter"]
            )
        except FileNotFoundError:
            counter = None
        except (OSError, ValueError, KeyError, TypeError):
            self._looks.pop(worker, None)  # a disk that does not answer says nothing about a worker
            return False
        look = self._looks.get(worker)
        if look is None or look.counter != counter:
            self._looks[worker] = _Look(counter, now_s)
            return False
        # A reader that was itself frozen for a while must not count that time in full.
        look.still_s += min(now_s - look.at_s, self.patience_s / 2)
        look.at_s = now_s
        return look.still_s > self.patience_s


class Leases:
    """The leases in one folder, one file per key.

    Args:
        folder: where the leases lie.
        pulse: the worker that claims.
        watcher: judges the other workers.
    """

    def __init__(self, folder: Path, pulse: Pulse, watcher: Watcher) -> None:
        self.folder = folder
        self.pulse = pulse
        self.watcher = watcher
        folder.mkdir(parents=True, exist_ok=True)

    def claim(self, key: str) -> "Lease | None":
        """Take ``key`` when it is free or its worker is gone; None when somebody works on it."""
        path = self.folder / f"{key}.json"
        with self.lock(key):
            record = read_record(path) or {}
            crashes, mark = int(record.get("crashes", 0)), record.get("mark")
            if record.get("token"):
                if not self.watcher.gone(record["worker"], Owner(**record["owner"])):
                    return None
                crashes, mark = self._after_crash(key, crashes, mark)
            token = f"{self.pulse.worker}-{uuid4().hex[:8]}"
            lease = Lease(self, key, token, crashes, mark)
            lease.write(token)
            return lease

    def tidy(self) -> None:
        """Remove leases of processes that died on this machine."""
        for path in self.folder.glob("*.json"):
            record = read_record(path)
            if record and record.get("token") and Owner(**record["owner"]).alive() is False:
                lease = self.claim(path.stem)
                if lease is not None:
                    lease.finish()

    def lock(self, key: str) -> FileLock:
        """The lock that serialises all changes of one lease."""
        return FileLock(self.folder / f"{key}.lock")

    def _after_crash(self, key: str, crashes: int, mark: list[int] | None) -> tuple[int, Any]:
        """One crash more, or the first one since the work last got further."""
        reached = read_record(self.folder / f"{key}.mark")
        if reached is not None and (mark is None or reached["mark"] > mark):
            return 1, reached["mark"]
        return crashes + 1, mark


@dataclass
class Lease:
    """A claim on one piece of work, good until another worker takes it over."""

    leases: Leases
    key: str
    token: str
    crashes: int
    """How often in a row a worker died on it without getting further."""
    mark: list[int] | None = field(default=None)

    @property
    def path(self) -> Path:
        """The lease's file."""
        return self.leases.folder / f"{self.key}.json"

    def guard(self) -> None:
        """Called before every durable write.

        Raises:
            LeaseLost: another worker has taken over, or the disk does not say that none has.
        """
        for wait_s in (0.05, 0.2, 1.0, 0.0):
            try:
                record = json.loads(self.leases.watcher._read(self.path))
            except FileNotFoundError:
                break
            except (OSError, ValueError):
                time.sleep(wait_s)
                continue
            if record.get("token") == self.token:
                return
            break
        raise LeaseLost(f"{self.key}: another worker has taken over; this copy stops")

    def reached(self, *mark: int) -> None:
        """Note how far the work has got; a crash after that counts as a first one."""
        self.guard()
        write_json(self.leases.folder / f"{self.key}.mark", {"mark": list(mark)})

    def release(self, *, crashed: bool = False) -> None:
        """Give the work back unfinished; with ``crashed`` its failure is counted."""
        with self.leases.lock(self.key), suppress(LeaseLost):
            self.guard()
            if crashed:
                self.crashes, self.mark = self.leases._after_crash(
                    self.key, self.crashes, self.mark
                )
            self.write("")

    def finish(self) -> None:
        """The work is done: nothing of the lease is left."""
        with self.leases.lock(self.key), suppress(LeaseLost):
            self.guard()
            self.path.unlink(missing_ok=True)
            (self.leases.folder / f"{self.key}.mark").unlink(missing_ok=True)

    def write(self, token: str) -> None:
        """Write the lease with ``token``; only under its lock."""
        pulse = self.leases.pulse
        write_json(
            self.path,
            {
                "token": token,
                "worker": pulse.worker,
                "owner": pulse.owner.as_json(),
                "crashes": self.crashes,
                "mark": self.mark,
            },
        )


def read_record(path: Path) -> dict[str, Any] | None:
    """A JSON object from a file; None when there is none."""
    try:
        value = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def holders(folder: Path) -> dict[str, Owner]:
    """Who holds the leases of a folder, by key."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        record = read_record(path)
        if record and record.get("token"):
            found[path.stem] = Owner(**record["owner"])
    return found


def forget_crashes(folder: Path) -> None:
    """Start counting anew: whoever gives the command again wants the work tried again.

    A machine that goes down takes all workers along, and a launcher that is killed stops its own:
    that says nothing about what they worked on.
    """
    for path in folder.glob("*.json"):
        with FileLock(path.with_suffix(".lock")):
            record = read_record(path)
            if record is None:
                continue
            record["crashes"] = 0
            if record.get("token") and Owner(**record["owner"]).alive() is False:
                record["token"] = ""
            write_json(path, record)


def remove_dead(folder: Path, *, keep: Sequence[str] = ()) -> None:
    """Remove the counters of workers of this machine that are gone."""
    for path in folder.glob("*.json"):
        record = read_record(path)
        if record and path.stem not in keep and Owner(**record["owner"]).alive() is False:
            path.unlink(missing_ok=True)
