"""Checkpoint files: written whole or not at all, verified before they are read."""

import json
from io import BytesIO
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor

from lightning_sep.errors import LightningSepError
from lightning_sep.fsio import PATIENCE, link_over, sha256_file, write_aside, write_json
from lightning_sep.run_folder import RunFolder, StepFile


def save(content: dict[str, Any], path: Path) -> None:
    """Write a checkpoint aside, synced, renamed, with size and SHA-256 beside it.

    Raises:
        StorageError: the disk is full or the folder may not be written.
        TypeError: something in it is neither a tensor nor a JSON type.
    """
    refuse_unloadable(content)
    buffer = BytesIO()
    torch.save(content, buffer)
    write_aside(path, buffer.getvalue())
    write_json(_sum_path(path), {"sha256": sha256_file(path), "bytes": path.stat().st_size})


def load(path: Path, run_id: str | None) -> dict[str, Any]:
    """Read a checkpoint that verifies.

    Args:
        path: its file.
        run_id: the run that it must be of; ``None`` takes any.

    Raises:
        LightningSepError: its checksum does not match, or it is another run's.
    """
    if not verifies(path):
        raise LightningSepError(f"checkpoint {path} does not match its checksum")
    try:
        loaded: dict[str, Any] = PATIENCE.until_back(
            lambda: torch.load(path, map_location="cpu", weights_only=True)
        )
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise LightningSepError(f"checkpoint {path} cannot be read") from error
    if not isinstance(loaded, dict) or "state_dict" not in loaded:
        raise LightningSepError(f"checkpoint {path} holds no weights")
    if run_id is not None and loaded.get("run_id", run_id) != run_id:
        raise LightningSepError(f"checkpoint {path} is of run {loaded['run_id']}")
    return loaded


def remove(path: Path) -> None:
    """Remove a checkpoint and its checksum."""
    path.unlink(missing_ok=True)
    _sum_path(path).unlink(missing_ok=True)


def adopt(source: Path, target: Path) -> None:
    """Let ``target`` be the same checkpoint as ``source``, whatever becomes of that name."""
    link_over(source, target)
    link_over(_sum_path(source), _sum_path(target))


def refuse_unloadable(value: Any, where: str = "checkpoint") -> None:
    """Refuse what ``torch.load(weights_only=True)`` would not read back, naming its place.

    Raises:
        TypeError: something is neither a tensor nor a JSON type.
    """
    if isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str | int):
                raise TypeError(f"{where}: a key of type {type(key).__name__} cannot be loaded")
            refuse_unloadable(item, f"{where}[{key!r}]")
    elif isinstance(value, list | tuple):
        for number, item in enumerate(value):
            refuse_unloadable(item, f"{where}[{number}]")
    elif not (value is None or isinstance(value, Tensor) or type(value) in (bool, int, float, str)):
        raise TypeError(f"{where}: a {type(value).__name__} cannot be loaded safely")


def verifies(path: Path) -> bool:
    """Whether a checkpoint is there and matches the size and SHA-256 beside it."""

    def look() -> bool:
        known = json.loads(_sum_path(path).read_text())
        return bool(path.stat().st_size == known["bytes"] and sha256_file(path) == known["sha256"])

    try:
        return PATIENCE.until_back(look)
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return False


def newest(folder: RunFolder, run_id: str) -> StepFile | None:
    """The newest checkpoint of a run that is whole and its own; older ones are tried in turn."""
    for found in folder.steps():
        content = _content(found.path, run_id)
        if content is not None and "callbacks" in content and "loops" in content:
            return found
    return None


def best_weights(
    folder: RunFolder, run_id: str | None, step: int | None = None
) -> tuple[Path, dict[str, Any]] | None:
    """The best epoch's checkpoint that is whole, the newest generation's first.

    Args:
        folder: the run's folder.
        run_id: the run; ``None`` takes any.
        step: the global step that it must be of: that of the best epoch's line in the history.

    Returns:
        Its file and its content; ``None`` when no file is the right one.
    """
    for path in folder.bests():
        content = _content(path, run_id)
        if content is not None and (step is None or content["global_step"] == step):
            return path, content
    return None


def _content(path: Path, run_id: str | None) -> dict[str, Any] | None:
    try:
        return load(path, run_id)
    except LightningSepError:
        return None


def _sum_path(path: Path) -> Path:
    return path.with_suffix(".sha256")
