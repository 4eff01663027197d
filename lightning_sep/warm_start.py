"""``init_from=RUN``: a run that begins with the weights of another one."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from lightning_sep.checkpoint_files import best_weights
from lightning_sep.errors import ConfigError
from lightning_sep.find import KEY, PINNED_DIGITS, find_parent, find_run, is_pinned, weights_of
from lightning_sep.fingerprint import weights_hash
from lightning_sep.record import read_record
from lightning_sep.run_folder import RunFolder
from lightning_sep.settings import Settings
from lightning_sep.tasks.base import Task


def pinned(settings: Settings, home: Path, *others: Path) -> Settings:
    """Settings whose ``init_from`` says by a hash which weights it means: ``RUN@HASH``.

    The hash is what counts for the run id. Whoever has a run with these weights has the parent,
    whatever it is called there.

    Args:
        settings: as composed; what is pinned already stays, with or without its parent at hand.
        home: folder of all runs.
        others: further such folders, where a pinned parent is looked for too.

    Raises:
        ConfigError: there is no such run, or it is not finished.
    """
    text = settings.tree.get(KEY)
    if text is None or settings.parent is not None:
        return settings
    if is_pinned(text):
        return replace(settings, parent=find_parent(text, home, *others))
    folder = find_run(text, home)
    known = weights_of(read_record(folder))
    if not known:
        raise ConfigError(f"{KEY}={text}: run {folder.name} is not finished, or of an old format")
    whole = f"{folder.resolve().name}@{known[:PINNED_DIGITS]}"
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
    if weights_hash(given) != weights_of(read_record(folder)):
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
