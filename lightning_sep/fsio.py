"""Writing so that nothing is lost: every file is whole, old or new, whenever the power goes.

A shared disk fails for a while now and then: it is full, a server is restarted, a folder is moved
away and comes back. A worker waits for it (:data:`PATIENCE`); a command in a terminal says so and
ends.
"""

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeVar
from uuid import uuid4

from lightning_sep.errors import StorageError
from lightning_sep.homes import data_home, runs_home

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SILENT = (errno.ESTALE, errno.EIO, errno.ETIMEDOUT)  # the disk does not answer
_REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),  # a file in the way
)
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
ASIDE = ".aside-"  # files being written carry it in their name, so that leftovers can be swept
_LONGEST_PAUSE_S = 5.0
T = TypeVar("T")


@dataclass
class Patience:
    """How long this process waits for a disk that is full or does not answer.

    Args:
        wait_s: seconds; 0 does not wait.
        home: folder of all runs; while it is away, what misses a file waits as well, and nothing
            makes it anew.
        tell: called with what is waited for, and with ``None`` when that is over.
        stop: ``True`` ends the waiting, since the process is asked to end.
        pulse: called while waiting, and where a run gets ready: the process does not hang.
    """

    wait_s: float = 0.0
    home: Path | None = None
    tell: Callable[[str | None], None] = lambda text: None
    stop: Callable[[], bool] = lambda: False
    pulse: Callable[[], None] = lambda: None

    def is_for(self, error: BaseException | None) -> bool:
        """Whether an error, or one that led to it, may be gone when the disk is back."""
        seen: set[int] = set()
        while error is not None and id(error) not in seen:
            seen.add(id(error))
            if isinstance(error, OSError):
                if error.errno in _FULL or error.errno in _SILENT:
                    return True
                if error.errno == errno.ENOENT and self.away():
                    return True
            error = error.__cause__ or error.__context__
        return False

    def away(self) -> bool:
        """Whether the folder of all runs is not where it was."""
        if self.home is None:
            return False
        try:
            return not self.home.is_dir()
        except OSError:
            return True

    def until_back(self, action: Callable[[], T]) -> T:
        """What ``action`` returns, tried again while the disk is full or does not answer.

        Raises:
            OSError: it still fails after ``wait_s``, or for another reason.
        """
        began_s, pause_s = None, 0.05
        while True:
            try:
                result = action()
            except OSError as error:
                if not self.is_for(error) or self.stop():
                    raise
                began_s = time.monotonic() if began_s is None else began_s
                if time.monotonic() - began_s >= self.wait_s:
                    raise
                self.tell(f"{error.strerror or error}: {error.filename or 'a file'}")
                until_s = time.monotonic() + pause_s
                while time.monotonic() < until_s and not self.stop():
                    self.pulse()
                    time.sleep(min(0.2, pause_s))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            else:
                if began_s is not None:
                    self.tell(None)
                return result


PATIENCE = Patience()


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into one line that says what to do.

    Raises:
        StorageError: the disk is full, a quota or a limit of files' size is reached, or the folder
            may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageError(
                f"no space left on the disk of {path.parent} for {path.name}: what was there "
                "before is whole. Free some space and say the same command again"
            ) from error
        if error.errno == errno.EFBIG:
            raise StorageError(
                f"{path.name} would be larger than a file may be in {path.parent}: raise this "
                "shell's limit (ulimit -f), or see what its disk allows"
            ) from error
        if error.errno in _REFUSED:
            homes = {"LIGHTNING_SEP_DATA": data_home(), "LIGHTNING_SEP_HOME": runs_home()}
            inside = [n for n, h in homes.items() if path.absolute().is_relative_to(h.absolute())]
            instead = f"set {inside[0]} to a folder of your own" if inside else "name another place"
            raise StorageError(
                f"{path.parent} cannot be written ({error.strerror}): change its permissions, or "
                f"{instead}"
            ) from error
        raise


def make_folder(folder: Path) -> None:
    """Make a folder and those above it, but never the folder of all runs while it is away.

    Raises:
        FileNotFoundError: the folder of all runs is not where it was.
    """
    try:
        folder.mkdir(exist_ok=True)
    except FileNotFoundError:
        if folder.parent in (folder, PATIENCE.home):
            raise
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)


def write_aside_with(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a temporary file in the target's folder, then rename it into place.

    The file is synced before it is renamed and the folder after, so a kill or a full disk leaves
    the old file or the new one, never a torn one.

    Raises:
        StorageError: the disk is full, a quota or a limit of files' size is reached, or the folder
            may not be written.
    """

    def place() -> None:
        with _aside(path, write) as aside:
            os.replace(aside, path)
        sync_folder(path.parent)

    with storage_errors(path):
        PATIENCE.until_back(place)


def link_first(path: Path, text: str) -> bool:
    """Write ``text`` to ``path`` where there is nothing yet: of several writers the first wins.

    Returns:
        Whether the file holds this text.

    Raises:
        StorageError: the disk is full, a quota or a limit of files' size is reached, or the folder
            may not be written.
    """

    def place() -> bool:
        with _aside(path, lambda file: file.write(text.encode())) as aside:
            try:
                os.link(aside, path)
            except FileExistsError:
                return path.read_text() == text
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                if path.exists():  # a disk without links: as good as it gets
                    return path.read_text() == text
                os.replace(aside, path)
        sync_folder(path.parent)
        return True

    with storage_errors(path):
        return PATIENCE.until_back(place)


def link_over(source: Path, path: Path) -> None:
    """Let ``path`` be another name of ``source``, whatever it was before.

    Raises:
        StorageError: the folder may not be written.
    """

    def place() -> None:
        aside = path.with_name(f".{path.name}{ASIDE}{os.getpid()}-{uuid4().hex[:8]}")
        try:
            try:
                os.link(source, aside)
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                aside.write_bytes(source.read_bytes())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)

    with storage_errors(path):
        PATIENCE.until_back(place)


@contextmanager
def _aside(path: Path, write: Callable[[IO[bytes]], object]) -> Iterator[Path]:
    """A temporary file beside ``path``, filled and synced; removed afterwards."""
    aside = path.with_name(f".{path.name}{ASIDE}{os.getpid()}-{uuid4().hex[:8]}")
    make_folder(path.parent)
    try:
        with aside.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        yield aside
    finally:
        with suppress(FileNotFoundError):
            aside.unlink()


def write_aside(path: Path, data: bytes | str) -> None:
    """Write ``data`` to ``path``: aside, synced, renamed.

    Raises:
        StorageError: the disk is full, a quota or a limit of files' size is reached, or the folder
            may not be written.
    """
    content = data.encode() if isinstance(data, str) else data
    write_aside_with(path, lambda file: file.write(content))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON with one key a line; NaN and infinity become ``null``."""
    write_aside(path, json_text(value))


def json_text(value: Any) -> str:
    """``value`` as JSON with one key a line; NaN and infinity become ``null``."""
    return json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n"


def finite(value: Any) -> Any:
    """``value`` with NaN and infinite numbers as ``None``: JSON has neither."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def append_line(path: Path, line: str, guard: Callable[[], None] | None = None) -> None:
    """Append one line to ``path``, flushed and synced; a torn last line is ended first.

    Args:
        guard: called when the file is open, before anything is written. Whoever takes a file over
            puts another one in its place, so a writer that was frozen after its guard writes to
            the old one, which nobody reads any more.

    Raises:
        StorageError: the disk is full, a quota or a limit of files' size is reached, or the folder
            may not be written.
    """

    def place() -> None:
        with path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            torn = False
            if end:
                file.seek(end - 1)
                torn = file.read(1) != b"\n"
            if guard is not None:
                guard()
            try:
                file.write((b"\n" if torn else b"") + line.encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):  # so that another try does not write it twice
                    file.truncate(end)
                raise

    with storage_errors(path):
        PATIENCE.until_back(place)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines; a line torn by a kill is passed over."""
    rows = []
    try:
        text = PATIENCE.until_back(lambda: path.read_text(errors="replace"))
    except FileNotFoundError:
        return []
    for line in text.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, in hex."""

    def read() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return PATIENCE.until_back(read)


def set_apart(path: Path) -> Path:
    """Put a damaged file aside, beside where it was; returns where it is now."""
    kept = path.with_name(f"{path.name}.damaged-{uuid4().hex[:8]}")
    os.replace(path, kept)
    return kept


def sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sweep_leftovers(folder: Path) -> None:
    """Remove what killed writers left behind in ``folder``; only its owner may call it."""
    for path in folder.glob(f".*{ASIDE}*"):
        path.unlink(missing_ok=True)
