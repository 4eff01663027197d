"""Optuna's journal on a disk that several machines share, where writers may be killed or frozen."""

import hashlib
import json
import os
import platform
import shutil
import sys
from collections.abc import Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import optuna
from optuna.storages.journal import JournalFileBackend

from lightning_sep.errors import StorageError
from lightning_sep.fsio import ASIDE, PATIENCE, storage_errors, sync_folder, write_aside
from lightning_sep.leases.lock import FileLock
from lightning_sep.sweep.inside_optuna import (
    BaseJournalFileLock,
    BaseJournalSnapshot,
    shape_of,
)
from lightning_sep.terminal import plain


class _JournalLock(BaseJournalFileLock):
    def __init__(self, lock: FileLock) -> None:
        self._lock = lock

    def acquire(self) -> bool:
        return self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


class Journal(JournalFileBackend, BaseJournalSnapshot):
    """Optuna's journal file, appended to under a lock that may have been lost.

    A writer that is killed may leave half a line. What the next one appends would stick to it, and
    from then on nobody could open the study: so a torn end is cut off first. A writer that was
    frozen until others broke its lock must not append what it decided before: so whoever breaks a
    lock puts a copy in the file's place, and what is written to the old one is not read. A line
    that is no record of Optuna's is named, kept in a file of its own and passed over.

    Every hundredth trial Optuna lays a snapshot beside it, from which the next one to open it goes
    on: reading all records of 10,000 trials takes longer than all else that a worker begins with.
    It counts only where the journal's beginning is, byte for byte, what it was made from.

    Args:
        path: the journal.
        lock: held while it is changed; ``None`` only reads: nothing is written, not even made.
    """

    def __init__(self, path: Path, lock: FileLock | None) -> None:
        self.path = path
        self.lock = lock
        self._first = 0  # the record at the first of these places
        self._read: list[int] = [0]  # where in the file the records begin from that one on
        self._named: set[int] = set()
        if lock is not None:
            with storage_errors(path):
                super().__init__(str(path), _JournalLock(lock))

    def read_logs(self, log_number_from: int) -> Generator[dict[str, Any], None, None]:
        """The records from the n-th on, as far as they are whole."""
        yield from PATIENCE.until_back(lambda: list(self._records(log_number_from)))

    def _records(self, first: int) -> Iterator[dict[str, Any]]:
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            if PATIENCE.away() or self.lock is not None:
                raise
            return
        with file:
            if first < self._first:
                self._first, self._read = 0, [0]
            del self._read[first - self._first + 1 :]
            position = self._read[first - self._first]
            file.seek(position)
            odd: list[tuple[int, bytes, str]] = []
            for line in file:
                if not line.endswith(b"\n"):  # being written, or torn
                    return
                record, wrong = _parsed(line)
                position += len(line)
                if wrong is not None:  # perhaps a torn end, which the next writer cuts off
                    odd.append((position, line, wrong))
                    continue
                for place in odd:
                    self._set_apart(*place)
                odd.clear()
                self._read.append(position)
                yield record

    def save_snapshot(self, snapshot: bytes) -> None:
        """Keep what all records that were read amount to."""
        count, size = self._first + len(self._read) - 1, self._read[-1]
        path = self._snapshot
        aside = path.with_name(f".{path.name}{ASIDE}last")  # one at a time: under the lock
        with suppress(OSError):  # nothing depends on it
            with self.path.open("rb") as file:
                about = _about(count, file.read(size), snapshot)
            try:
                aside.write_bytes(json.dumps(about).encode() + b"\n" + snapshot)
                os.replace(aside, path)
            finally:
                aside.unlink(missing_ok=True)

    def load_snapshot(self) -> bytes | None:
        """The last one that was kept, where it fits.

        A snapshot is a pickle: :class:`lightning_sep.sweep.inside_optuna.Storage` uses none that
        holds anything but a study, and who only looks at a sweep, perhaps another one's, reads its
        records.
        """
        if self.lock is None:
            return None
        try:
            with self._snapshot.open("rb") as file:
                about, snapshot = json.loads(file.readline()), file.read()
            with self.path.open("rb") as file:
                beginning = file.read(about["bytes"])
            if about != _about(about["records"], beginning, snapshot):
                return None
        except (OSError, ValueError, TypeError, KeyError):
            return None
        self._first, self._read = about["records"], [about["bytes"]]
        return snapshot

    @property
    def _snapshot(self) -> Path:
        return self.path.with_suffix(".snapshot")

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, whole and synced.

        Raises:
            LeaseLost: this process stood still, and another one has broken its lock.
            StorageError: the disk is full or may not be written.
        """
        if self.lock is None:
            raise StorageError(f"{self.path} was opened to be looked at")
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode()
        with self.lock, storage_errors(self.path):
            PATIENCE.until_back(lambda: self._append(text))

    def _append(self, text: bytes) -> None:
        assert self.lock is not None
        if self.lock.taken_over:
            self._renew()
            self.lock.taken_over = False
        with self.path.open("rb+") as file:
            self.lock.check()
            mend(file, self.path)
            end = file.seek(0, os.SEEK_END)
            try:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):  # so that another try does not write it twice
                    file.truncate(end)
                raise

    def _renew(self) -> None:
        """Put a copy in the place of the journal: what is still being written to it is lost."""
        aside = self.path.with_name(f".{self.path.name}.aside-{os.getpid()}-{uuid4().hex[:8]}")
        try:
            shutil.copyfile(self.path, aside)
            with aside.open("rb+") as file:
                os.fsync(file.fileno())
            os.replace(aside, self.path)
            sync_folder(self.path.parent)
        finally:
            aside.unlink(missing_ok=True)

    def _set_apart(self, position: int, line: bytes, wrong: str) -> None:
        if position in self._named:
            return
        self._named.add(position)
        kept = self.path.with_name(f"{self.path.name}.damaged-{position}")
        text = f"{self.path} holds a line before byte {position} that is no record: {wrong}"
        if self.lock is not None and not kept.exists():
            with suppress(OSError):
                write_aside(kept, line)
            text += f"; it is kept in {kept.name}"
        print(plain(f"{text}; it is passed over"), file=sys.stderr, flush=True)


def _about(records: int, beginning: bytes, snapshot: bytes) -> dict[str, Any]:
    """What a snapshot is of, and who can read it."""
    about = {
        "records": records,
        "bytes": len(beginning),
        "journal": hashlib.sha256(beginning).hexdigest(),
        "optuna": optuna.__version__,
        "python": platform.python_version(),
    }
    whole = json.dumps(about).encode() + snapshot
    return {**about, "whole": hashlib.sha256(whole).hexdigest()}


def mend(file: IO[bytes], path: Path) -> Path | None:
    """Cut a torn last line off an open journal; only under its lock.

    Returns:
        Where the torn bytes are kept; None when the journal is whole.
    """
    size = file.seek(0, os.SEEK_END)
    whole = size
    while whole:
        start = _line_start(file, whole)
        file.seek(start)
        line = file.read(whole - start)
        if line.endswith(b"\n") and _is_json(line):
            break
        whole = start
    if whole == size:
        return None
    file.seek(whole)
    kept = path.with_name(f"{path.name}.torn-{uuid4().hex[:8]}")
    write_aside(kept, file.read())
    file.truncate(whole)
    os.fsync(file.fileno())
    return kept


def _parsed(line: bytes) -> tuple[dict[str, Any], str | None]:
    try:
        record = json.loads(line)
    except ValueError:
        return {}, "it is no JSON"
    return record, shape_of(record)


def _line_start(file: IO[bytes], end: int) -> int:
    """Where the line begins that ends at byte ``end``."""
    position = end - 1  # its own line break does not count
    while position > 0:
        step = min(4096, position)
        file.seek(position - step)
        found = file.read(step).rfind(b"\n")
        if found >= 0:
            return int(position - step + found + 1)
        position -= step
    return 0


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True
