"""Writing so that nothing is lost: every file is whole, old or new, whenever the power goes."""

import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from lightning_sep.errors import StorageError
from lightning_sep.homes import data_home

_REFUSED = (
    *(errno.EACCES, errno.EPERM, errno.EROFS),
    *(errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),  # a file in the way
)
ASIDE = ".aside-"  # files being written carry it in their name, so that leftovers can be swept


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn what the disk refuses into one line that says what to do.

    Raises:
        StorageError: the disk is full, a quota is reached or the folder may not be written.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageError(
                f"no space left on the disk of {path.parent} for {path.name}: what was there "
                "before is whole. Free some space and say the same command again"
            ) from error
        if error.errno in _REFUSED:
            holds_data = path.absolute().is_relative_to(data_home().absolute())
            variable = "LIGHTNING_SEP_DATA" if holds_data else "LIGHTNING_SEP_HOME"
            raise StorageError(
                f"{path.parent} cannot be written ({error.strerror}): change its permissions, or "
                f"set {variable} to a folder of your own"
            ) from error
        raise


def write_aside_with(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Let ``write`` fill a temporary file in the target's folder, then rename it into place.

    The file is synced before it is renamed and the folder after, so a kill or a full disk leaves
    the old file or the new one, never a torn one.

    Raises:
        StorageError: the disk is full, a quota is reached or the folder may not be written.
    """
    aside = path.with_name(f".{path.name}{ASIDE}{os.getpid()}-{uuid4().hex[:8]}")
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with aside.open("wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_aside(path: Path, data: bytes | str) -> None:
    """Write ``data`` to ``path``: aside, synced, renamed.

    Raises:
        StorageError: the disk is full, a quota is reached or the folder may not be written.
    """
    content = data.encode() if isinstance(data, str) else data
    write_aside_with(path, lambda file: file.write(content))


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON with one key a line; NaN and infinity become ``null``."""
    write_aside(path, json.dumps(finite(value), indent=1, ensure_ascii=False) + "\n")


def finite(value: Any) -> Any:
    """``value`` with NaN and infinite numbers as ``None``: JSON has neither."""
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def append_line(path: Path, line: str) -> None:
    """Append one line to ``path``, flushed and synced; a torn last line is ended first.

    Raises:
        StorageError: the disk is full, a quota is reached or the folder may not be written.
    """
    with storage_errors(path), path.open("ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The JSON objects of a file of lines; a line torn by a kill is passed over."""
    rows = []
    if path.exists():
        for line in path.read_text(errors="replace").splitlines():
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict):
                rows.append(row)
    return rows


def sha256_file(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
