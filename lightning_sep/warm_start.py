"""``init_from=RUN``: a run that begins with the weights of another one."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from lightning_sep.checkpoint_files import best_weights
from lightning_sep.errors import ConfigError
from lightning_sep.find import find_run
from lightning_sep.fingerprint import weights_hash
from lightning_sep.record import read_record, read_records
from lightning_sep.run_folder import RunFolder
from lightning_sep.settings import Settings
from lightning_sep.tasks.base import Task

KEY = "init_from"
_DIGITS = 12  # of the hash: 48 bits, as a run id has
_PINNED = re.compile(rf"(.+)@([0-9a-f]{{{_DIGITS}}})")


def pinned(settings: Settings, home: Path) -> Settings:
    """Settings whose ``init_from`` says by a hash which weights it means: ``RUN@HASH``.

    The hash is what counts for the run id. Whoever has a run with these weights has the parent,
    whatever it is called there.

    Args:
        settings: as composed; what is pinned already stays, with or without its parent at hand.
        home: folder of all runs.

    Raises:
        ConfigError: there is no such run, or it is not finished.
    """
    text = settings.tree.get(KEY)
    if text is None or settings.parent is not None:
        return settings
    match = _PINNED.fullmatch(text)
    if match is not None:
        return replace(settings, parent=_with_weights(match[1], match[2], home))
    folder = find_run(text, home)
    known = _known_hash(folder)
    if known is None:
        raise ConfigError(f"{KEY}={text}: run {folder.name} is not finished, or of an old format")
    whole = f"{folder.resolve().name}@{known[:_DIGITS]}"
    said = tuple(
        f"{KEY}={whole}" if one.partition("=")[0] == KEY else one for one in settings.overrides
    )
    return replace(settings, tree={**settings.tree, KEY: whole}, overrides=said, parent=folder)


def weights_for(task: Task, settings: Settings) -> dict[str, Tensor]:
    """What a task begins with: the whole net of the parent's best epoch; head and loss as well,
    each where all of its parameters are there and of the same shape.

    Args:
        task: as initialised under its own seed.
        settings: of the run, pinned.

    Raises:
        ConfigError: the parent is not here, was changed, or has another net.
    """
    text = settings.tree[KEY]
    folder = settings.parent
    if folder is None:
        name = text.rpartition("@")[0]
        raise ConfigError(
            f"{KEY}={text}: no run here has these weights; bring the folder of run {name} to the "
            "home of runs, or train it"
        )
    found = best_weights(RunFolder(folder), None)
    given: dict[str, Tensor] = {} if found is None else found[1]["state_dict"]
    if weights_hash(given) != _known_hash(folder):
        raise ConfigError(
            f"{KEY}={text}: run {folder.name} has no whole checkpoint with the weights of its "
            "record"
        )
    own = task.state_dict()
    kept: dict[str, Tensor] = {}
    for part in ("net", "head", "loss"):
        ours, theirs = (
            {name: value for name, value in state.items() if name.startswith(f"{part}.")}
            for state in (own, given)
        )
        problem = _mismatch(ours, theirs)
        if problem is None:
            kept |= theirs
        elif part == "net":
            raise ConfigError(f"{KEY}={text}: run {folder.name} has another net: {problem}")
    return kept


def _mismatch(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> str | None:
    """The first name that is not on both sides with one shape."""
    for name in [*ours, *(one for one in theirs if one not in ours)]:
        shapes = [list(side[name].shape) if name in side else None for side in (ours, theirs)]
        if shapes[0] != shapes[1]:
            here, there = ("missing" if one is None else str(one) for one in shapes)
            return f"{name} is {here} here and {there} there"
    return None


def _known_hash(folder: Path) -> str | None:
    """The weights that a finished run's record speaks of."""
    record = read_record(folder)
    return None if record is None or record["state"] != "finished" else _hash_in(record)


def _hash_in(record: dict[str, Any]) -> str | None:
    known = (record.get("hashes") or {}).get("weights")
    return known if isinstance(known, str) else None


def _with_weights(name: str, digits: str, home: Path) -> Path | None:
    """A finished run with these weights: the one of this name, or any."""
    named = home / name
    if (_known_hash(named) or "").startswith(digits):
        return named
    for record in read_records(home):
        if record["state"] == "finished" and (_hash_in(record) or "").startswith(digits):
            return home / str(record["run_id"])
    return None
