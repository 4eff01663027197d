"""Signs of life: how workers see that another one is gone, on whichever machine it was.

A worker's sign is a filelock ``SoftFileLease``: a marker that a thread touches, and that others may
take when they have seen no touch for as long as the marker itself says, on their own clock; clocks
of two machines are never compared. That a marker was taken is a hint, no fence: what fences is the
generation of a lease (:mod:`lightning_sep.leases.lease`).
"""

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import LeaseSettingsMismatch, SoftFileLease, Timeout

from lightning_sep.errors import ConfigError
from lightning_sep.fsio import PATIENCE, make_folder, storage_errors
from lightning_sep.leases.process import Owner, this_process

PATIENCE_S = 15.0
_ALIVE = ".alive"


def patience_s(usual: float | None = None) -> float:
    """Seconds without a sign of life after which work is free; LIGHTNING_SEP_LEASE_S sets it.

    Args:
        usual: where the variable says nothing.

    Raises:
        ConfigError: the variable holds no positive number.
    """
    return positive_seconds("LIGHTNING_SEP_LEASE_S", PATIENCE_S if usual is None else usual)


def positive_seconds(variable: str, default: float) -> float:
    """A number of seconds from the environment.

    Raises:
        ConfigError: the variable holds no positive number.
    """
    text = os.environ.get(variable, "")
    try:
        value = float(text) if text else default
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise ConfigError(f"{variable} = {text!r}: a positive number of seconds is needed")
    return value


class Presence:
    """This process's sign of life, and what it works on, until `stop`.

    Args:
        folder: where all workers of a home show that they live.
        patience_s: how long the sign may stand still before others take this process's work.

    Attributes:
        chores: called by the thread now and then, for whoever looks after others.
    """

    def __init__(self, folder: Path, *, patience_s: float) -> None:
        self.folder = folder
        self.worker = uuid4().hex[:16]
        self.owner = this_process()
        self.patience_s = patience_s
        self.chores: list[Callable[[], object]] = []
        self.note = folder / f"{self.worker}.json"
        self._sign = _sign(folder, self.worker, patience_s)
        self._tokens: set[str] = set()
        self._waits_for: str | None = None
        self._changing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._stay, name="presence", daemon=True)

    def start(self) -> "Presence":
        """Show up; others see it when this returns."""
        with storage_errors(self.note):
            PATIENCE.until_back(lambda: make_folder(self.folder))
            self._write()
            PATIENCE.until_back(lambda: self._sign.acquire(blocking=False))
        self._thread.start()
        return self

    def stop(self) -> None:
        """Leave: nothing of it stays on the disk."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)
        with suppress(OSError):
            self._sign.release(force=True)
        with suppress(OSError):
            self.note.unlink(missing_ok=True)

    def hold(self, token: str) -> None:
        """Say that this process works on a claim; said before the claim is on the disk."""
        with self._changing:
            self._tokens.add(token)
        self._write()

    def drop(self, token: str) -> None:
        """This process works on a claim no longer: it is free, whatever its lease says."""
        with self._changing:
            self._tokens.discard(token)
        self._write()

    def holds(self, token: str) -> bool:
        """Whether this process works on a claim."""
        return token in self._tokens

    def waits_for(self, what: str | None) -> None:
        """Say what keeps this process waiting; ``None`` when it goes on."""
        self._waits_for = what
        with suppress(OSError):  # the very disk may be what it waits for
            self._replace()

    def __enter__(self) -> "Presence":
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _write(self) -> None:
        with storage_errors(self.note):
            PATIENCE.until_back(self._replace)

    def _replace(self) -> None:
        with self._changing:
            content = {
                "owner": self.owner.as_json(),
                "tokens": sorted(self._tokens),
                "waits_for": self._waits_for,
            }
            aside = self.note.with_name(f".{self.note.name}.aside-{os.getpid()}")
            try:
                aside.write_text(json.dumps(content))
                os.replace(aside, self.note)
            finally:
                aside.unlink(missing_ok=True)

    def _stay(self) -> None:
        """Show up again after others took this process for gone, and look after the others."""
        while not self._ended.wait(min(2.0, self.patience_s / 4)):
            with suppress(OSError, Timeout):
                if self._sign.compromise is not None:
                    self._sign.release(force=True)
                    self._sign.acquire(blocking=False)
                    self._replace()
            for chore in self.chores:
                with suppress(OSError):
                    chore()


class Peers:
    """Judges whether other workers of a home are gone.

    Args:
        folder: where they show that they live.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._probes: dict[str, SoftFileLease] = {}
        self._touches: dict[str, tuple[int, float]] = {}  # when a touch was first seen, by us
        self._probing = threading.Lock()

    def shown(self) -> set[str] | None:
        """The workers with a sign of life; ``None`` when the disk does not say."""
        try:
            names = os.listdir(self.folder)
        except FileNotFoundError:
            return None if PATIENCE.away() else set()
        except OSError:
            return None
        return {name.removesuffix(_ALIVE) for name in names if name.endswith(_ALIVE)}

    def gone(self, worker: str, owner: Owner | None, shown: set[str] | None = None) -> bool:
        """Whether a worker has died, or stood still for as long as its own patience.

        Args:
            worker: its name.
            owner: its process.
            shown: the workers with a sign of life, where the caller has just looked.
        """
        if owner is not None and owner.alive() is False:
            return True
        shown = self.shown() if shown is None else shown
        if shown is None:
            return False
        return worker not in shown or self.probe(worker)

    def shows_life(self, worker: str, owner: Owner) -> bool:
        """Whether a worker lives, as far as one look tells that takes and writes nothing."""
        alive = owner.alive()
        if alive is not None:
            return alive
        try:
            sign = (self.folder / f"{worker}{_ALIVE}").stat()
            patience_s = _sign(self.folder, worker, PATIENCE_S).owner
            now_s = max(one.stat().st_mtime for one in self.folder.glob(f"*{_ALIVE}"))
        except (OSError, ValueError):
            return False
        duration_s = PATIENCE_S if patience_s is None else patience_s.lease_duration or PATIENCE_S
        return max(now_s, time.time()) - sign.st_mtime < 2 * duration_s

    def probe(self, worker: str) -> bool:
        """Look at one sign of life; whether it has stood still for too long, and is removed now.

        filelock looks closely, a dozen file operations; a sign that was touched since the last
        look, or a moment ago, needs one.
        """
        with self._probing:
            try:
                probe = self._probes.get(worker)
                if probe is not None and self._just_touched(probe):
                    return False
                if probe is None:
                    seen = _sign(self.folder, worker, PATIENCE_S).owner
                    if seen is None or seen.lease_duration is None:
                        return False  # just being written, or gone: the next look tells
                    probe = _sign(self.folder, worker, seen.lease_duration)
                    self._probes[worker] = probe
                probe.acquire(blocking=False)
            except (Timeout, OSError):
                return False
            except LeaseSettingsMismatch:
                del self._probes[worker]
                return False
            self._touches.pop(probe.lock_file, None)
            self._probes.pop(worker).release(force=True)
            (self.folder / f"{worker}.json").unlink(missing_ok=True)
            return True

    def _just_touched(self, probe: SoftFileLease) -> bool:
        touched_ns, now_s = Path(probe.lock_file).stat().st_mtime_ns, time.monotonic()
        before = self._touches.get(probe.lock_file)
        if before is None or before[0] != touched_ns:
            self._touches[probe.lock_file] = touched_ns, now_s
            return before is not None
        return now_s - before[1] < probe.lease_duration / 4

    def works_on(self, worker: str, token: str) -> bool:
        """Whether a living worker works on a claim, as it says itself."""
        note = self.read(worker)
        return note is None or token in note.get("tokens", [])

    def read(self, worker: str) -> dict[str, Any] | None:
        """What a worker says of itself; ``None`` when that cannot be read just now."""
        try:
            note = json.loads((self.folder / f"{worker}.json").read_text())
        except (OSError, ValueError):
            return None
        return note if isinstance(note, dict) and isinstance(note.get("tokens"), list) else None

    def look_after(self, presence: Presence) -> None:
        """Look at the next worker after this one, in a ring: somebody looks at each of them."""
        shown = self.shown()
        if not shown or shown == {presence.worker}:
            return
        ring = sorted(shown | {presence.worker})
        after = ring[(ring.index(presence.worker) + 1) % len(ring)]
        if after != presence.worker:
            self.probe(after)

    def tidy(self) -> None:
        """Remove what workers of this machine left behind that are gone."""
        for path in self.folder.glob("*.json"):
            note = self.read(path.stem)
            owner = None if note is None else Owner.read(note.get("owner"))
            if owner is not None and owner.alive() is False and not self.probe(path.stem):
                path.unlink(missing_ok=True)


def _sign(folder: Path, worker: str, patience_s: float) -> SoftFileLease:
    return SoftFileLease(
        folder / f"{worker}{_ALIVE}",
        lease_duration=patience_s,
        heartbeat_interval=patience_s / 5,
        thread_local=False,
    )
