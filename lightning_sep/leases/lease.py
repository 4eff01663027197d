"""Leases: a claim on one piece of work, and the generation by which a lost claim is fenced off.

Each claim raises the lease's generation. Who claims writes only files that carry its generation, or
that nobody can write twice; so whatever a copy writes that was frozen and taken over, nobody reads
it. Whether the worker behind a claim is gone is judged by :mod:`lightning_sep.leases.presence`.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

from lightning_sep.errors import LeaseLost
from lightning_sep.fsio import PATIENCE, write_json
from lightning_sep.leases.lock import FileLock
from lightning_sep.leases.presence import Peers, Presence
from lightning_sep.leases.process import Owner

Mark = list[int]


@dataclass(frozen=True)
class Content:
    """What the file of a lease says.

    Args:
        generation: number of the latest claim.
        token: of the claim; empty when nobody holds it.
        worker: who claimed.
        owner: its process.
        crashes: how often in a row a worker died on it without getting further.
        mark: how far the work had got at the last crash.
        about: what is worked on, for `status` and for the next mark.
    """

    generation: int = 0
    token: str = ""
    worker: str = ""
    owner: Owner | None = None
    crashes: int = 0
    mark: Mark | None = None
    about: dict[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON types."""
        owner = None if self.owner is None else self.owner.as_json()
        return {**self.__dict__, "owner": owner}

    @classmethod
    def read(cls, path: Path) -> "Content | None":
        """A lease's file; None where there is none, or none that says what it must.

        Raises:
            OSError: the disk does not answer.
        """
        try:
            record = json.loads(path.read_text())
        except FileNotFoundError:
            if PATIENCE.away():
                raise
            return None
        except ValueError:
            return None
        try:
            mark = record.get("mark")
            return cls(
                generation=int(record["generation"]),
                token=str(record["token"]),
                worker=str(record["worker"]),
                owner=Owner.read(record["owner"]),
                crashes=int(record["crashes"]),
                mark=None if mark is None else [int(part) for part in mark],
                about=dict(record.get("about") or {}),
            )
        except (AttributeError, KeyError, TypeError, ValueError):
            return None


def _no_progress(about: dict[str, Any]) -> Mark | None:
    return None


class Leases:
    """The leases of one kind of work, a file each.

    Args:
        presence: the worker that claims.
        peers: judges the other workers.
        path: the file of a key's lease.
        lock: what serialises all changes of a key's lease.
        progress: how far a piece of work has got, from what its lease says it is about: a crash
            after it got further counts as a first one.
    """

    def __init__(
        self,
        presence: Presence,
        peers: Peers,
        *,
        path: Callable[[str], Path],
        lock: Callable[[str], AbstractContextManager[object]] | None = None,
        progress: Callable[[dict[str, Any]], Mark | None] = _no_progress,
    ) -> None:
        self.presence = presence
        self.peers = peers
        self.path = path
        self.lock = lock or self._own_lock
        self._seen: dict[str, Content | None] = {}
        self._free_keys: set[str] = set()
        self._turn = 0
        self._locks: dict[str, FileLock] = {}
        self.progress = progress

    def any_free(self, keys: Sequence[str]) -> bool:
        """Whether some of these keys may be free, at the cost of a few looks however many they are.

        A lease is read when it is new here, or when its worker shows no sign of life any more; of
        the others one at a time, in turn, since a living worker may have dropped its work. Which
        keys these are is kept for `maybe_free`.
        """
        self._free_keys = set()
        if not keys:
            return False
        shown = self.peers.shown()
        if shown is None:  # the disk does not say
            return False
        self._turn += 1
        turn = keys[self._turn % len(keys)]
        for key in keys:
            seen = self._seen.get(key)
            if key == turn or seen is None or not seen.token or seen.worker not in shown:
                seen = PATIENCE.until_back(lambda key=key: Content.read(self.path(key)))  # type: ignore[misc]
                self._seen[key] = seen
            if self.presence.worker in failed_by(seen):
                continue
            if seen is None or not seen.token or seen.worker not in shown:
                free = True
            else:
                mine = seen.worker == self.presence.worker
                free = (key == turn or mine) and self._free(seen, shown)
            if free:
                self._free_keys.add(key)
        return bool(self._free_keys)

    def maybe_free(self, key: str) -> bool:
        """Whether the last `any_free` took a key for free; only `claim` decides."""
        return key in self._free_keys

    def for_others(self, keys: Sequence[str]) -> bool:
        """Whether some of these keys wait for another process, since they failed in this one."""
        return any(
            self.presence.worker in failed_by(seen) and seen is not None and not seen.token
            for seen in (self._seen.get(key) for key in keys)
        )

    def claim(self, key: str, *, above: int = 0) -> "Lease | None":
        """Take ``key`` when it is free or its worker is gone; None when somebody works on it.

        Args:
            above: the new generation is greater than this one.
        """
        with self.lock(key):
            content = PATIENCE.until_back(lambda: Content.read(self.path(key))) or Content()
            crashes, mark = content.crashes, content.mark
            if content.token:
                if not self._free(content):
                    return None
                if content.worker != self.presence.worker:
                    crashes, mark = self.after_crash(content)
            token = f"{self.presence.worker}-{uuid4().hex[:8]}"
            self.presence.hold(token)
            lease = Lease(
                self,
                key,
                Content(
                    generation=max(content.generation, above) + 1,
                    token=token,
                    worker=self.presence.worker,
                    owner=self.presence.owner,
                    crashes=crashes,
                    mark=mark,
                    about=content.about,
                ),
            )
            try:
                lease.write()
            except BaseException:
                self.presence.drop(token)
                raise
            return lease

    def _own_lock(self, key: str) -> FileLock:
        return self._locks.setdefault(key, FileLock(self.path(key).with_suffix(".lock")))

    def holder(self, key: str) -> Owner | None:
        """Who holds a key, as its file says."""
        content = PATIENCE.until_back(lambda: Content.read(self.path(key)))
        return content.owner if content is not None and content.token else None

    def _free(self, content: Content, shown: set[str] | None = None) -> bool:
        """Whether the worker behind a claim is gone, or lives and works on it no more."""
        if content.worker == self.presence.worker:
            return not self.presence.holds(content.token)
        if self.peers.gone(content.worker, content.owner, shown):
            return True
        return not self.peers.works_on(content.worker, content.token)

    def after_crash(self, content: Content) -> tuple[int, Mark | None]:
        """One crash more, or the first one since the work last got further."""
        reached = PATIENCE.until_back(lambda: self.progress(content.about))
        if reached is not None and (content.mark is None or reached > content.mark):
            return 1, reached
        return content.crashes + 1, content.mark


class Lease:
    """A claim on one piece of work, good until another worker takes it over."""

    def __init__(self, leases: Leases, key: str, content: Content) -> None:
        self.leases = leases
        self.key = key
        self.content = content
        self.path = leases.path(key)

    @property
    def generation(self) -> int:
        """What every file carries that is written under this claim."""
        return self.content.generation

    @property
    def crashes(self) -> int:
        """How often in a row a worker died on it without getting further."""
        return self.content.crashes

    def guard(self) -> None:
        """Called before every durable write; a disk that does not answer is waited for.

        Raises:
            LeaseLost: another worker has taken over.
            OSError: the disk has not answered for too long.
        """
        if not self.ours():
            raise LeaseLost(f"{self.key}: another worker has taken over; this copy stops")

    def ours(self) -> bool:
        """Whether the claim still stands.

        A file that is not there, or cannot be read, is no claim of somebody else: it is looked for
        as long as others would wait for a sign of life.
        """
        until_s = time.monotonic() + self.leases.presence.patience_s
        while True:
            there = PATIENCE.until_back(lambda: Content.read(self.path))
            if there is not None:
                return there.token == self.content.token
            if time.monotonic() > until_s:
                return False
            PATIENCE.pulse()
            time.sleep(0.05)

    def is_about(self, **about: Any) -> None:
        """Say what is worked on."""
        self._change(about={**self.content.about, **about})

    def release(self, *, crashed: bool = False) -> None:
        """Give the work back unfinished; with ``crashed`` its failure is counted."""
        with self.leases.lock(self.key):
            if self.ours():
                crashes, mark = self.content.crashes, self.content.mark
                if crashed:
                    crashes, mark = self.leases.after_crash(self.content)
                self._change(token="", crashes=crashes, mark=mark)
        self.drop()

    def finish(self, *, keep: bool = False) -> None:
        """The work is done; with ``keep`` the lease's generation stays on the disk.

        A generation must not be used twice while files carry it.
        """
        with self.leases.lock(self.key):
            if self.ours():
                if keep:
                    self._change(token="", crashes=0, mark=None)
                else:
                    PATIENCE.until_back(lambda: self.path.unlink(missing_ok=True))
        self.drop()

    def drop(self) -> None:
        """Work on it no longer, whatever its file says: it is free for others."""
        self.leases.presence.drop(self.content.token)

    def write(self) -> None:
        """Write the lease's file; only under its lock."""
        write_json(self.path, self.content.as_json())

    def _change(self, **fields: Any) -> None:
        with self.leases.lock(self.key):
            if not self.ours():
                return
            before = self.content
            self.content = Content(**{**before.__dict__, **fields})
            self.write()
            if not self.content.token:  # `drop` still has to know it
                self.content = Content(**{**self.content.__dict__, "token": before.token})


def failed_by(content: Content | None) -> list[str]:
    """The workers in which this work has failed: another process is to repeat it."""
    found = [] if content is None else content.about.get("failed_by", [])
    return found if isinstance(found, list) else []


def forget_crashes(path: Path) -> None:
    """Start counting anew: whoever gives the command again wants the work tried again.

    A machine that goes down takes all workers along, and a launcher that is killed stops its own:
    that says nothing about what they worked on. Only under the lease's lock.
    """
    content = Content.read(path)
    if content is None:
        return
    dead = content.owner is None or content.owner.alive() is False
    token = "" if dead else content.token
    write_json(path, Content(**{**content.__dict__, "crashes": 0, "token": token}).as_json())
