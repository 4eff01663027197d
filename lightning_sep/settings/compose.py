"""Overrides over ``conf/`` become checked settings."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning_sep.errors import ConfigError
from lightning_sep.settings.composition import Composed, composed
from lightning_sep.settings.conf import ROOT, conf_folders, groups
from lightning_sep.settings.overrides import read


@dataclass(frozen=True)
class Settings:
    """Everything that describes one run, resolved: nested mappings of plain JSON types.

    Args:
        tree: ``tree[group]`` is the chosen entry with its ``_target_``; ``tree["seed"]`` the seed.
            A path of data that comes from the environment is kept as it was written.
        choices: the name of the entry chosen in each group; empty when the tree came from a record.
        overrides: what the user said.
        parent: folder of the run that ``init_from`` names, once it is found.
    """

    tree: dict[str, Any]
    choices: dict[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()
    parent: Path | None = None


def compose(overrides: Sequence[str] = (), config_dir: Path | str | None = None) -> Settings:
    """The settings that ``overrides`` choose (``head=tanh reweighting.alpha=0.1``).

    Args:
        overrides: ``group=entry`` and ``group.setting=value``, as Hydra reads them.
        config_dir: a folder with entries of the user's own, beside ``conf/`` of the working folder.

    Raises:
        ConfigError: something cannot be used; the message lists all problems and what would work.

    Example:
        >>> compose(["seed=7"]).tree["seed"]
        7
    """
    from lightning_sep.settings.build import search_beside
    from lightning_sep.settings.check import checked
    from lightning_sep.settings.words import together

    if isinstance(overrides, str):
        raise ConfigError(f"settings are a list: [{overrides!r}]")
    if config_dir is not None:
        search_beside(Path(config_dir).expanduser())
    problems: list[str] = []
    made = _composed(overrides, config_dir, problems)
    if made is None:
        raise together(problems)
    # First what the user spoke of: torch is not imported to look for more in the rest.
    moved = {name: made.tree[name] for name in made.tree if name in made.moved}
    fitting = checked(moved, made.choices, problems, held=made.held)
    if problems:
        raise together(problems)
    rest = {name: made.tree[name] for name in made.tree if name not in made.moved}
    fitting |= checked(rest, made.choices, problems, held=made.held)
    if problems:
        raise together(problems)
    tree = {name: fitting[name] for name in made.tree}
    return Settings(tree, made.choices, tuple(overrides))


def peek(overrides: Sequence[str] = (), config_dir: Path | str | None = None) -> dict[str, Any]:
    """The composed tree before anything is checked, without importing what its entries name.

    For what must be known before torch is imported, such as the number of threads. The values are
    as they were typed, of whatever type; :func:`compose` says what is wrong with them.

    Args:
        overrides: as for :func:`compose`.
        config_dir: as for :func:`compose`.

    Returns:
        The tree; empty when nothing can be composed.

    Example:
        >>> peek(["trainer.epochs=many"])["trainer"]["epochs"]
        'many'
    """
    try:
        made = _composed(overrides, config_dir, [])
    except ConfigError:
        return {}
    return {} if made is None else made.tree


def from_tree(tree: Mapping[str, Any]) -> Settings:
    """Settings out of a record, checked like those that a user types; nothing in it is resolved.

    Raises:
        ConfigError: the tree does not fit this version's classes, or names a class that may not
            be built.
    """
    from lightning_sep.settings.check import checked
    from lightning_sep.settings.words import nearest, together

    problems: list[str] = []
    tree = {"init_from": None, **tree}  # records were made before it
    known = [*groups(), *ROOT]
    for name in tree:
        if name not in known:
            problems.append(f"{name}: no such group or setting.{nearest(name, known)}")
    for name in known:
        if name not in tree:
            problems.append(f"{name}: missing from the recorded settings")
    try:
        plain = json.loads(json.dumps({key: tree[key] for key in tree if key in known}))
    except TypeError as error:
        raise ConfigError(f"settings of a record are JSON types only: {error}") from error
    made = checked(plain, {}, problems)
    if problems:
        raise together(problems)
    return Settings(made)


def _composed(
    overrides: Sequence[str], config_dir: Path | str | None, problems: list[str]
) -> Composed | None:
    """What Hydra makes of the overrides; ``None`` when no more than ``problems`` can be said.

    Raises:
        ConfigError: ``config_dir`` is not a folder.
    """
    folders = conf_folders(config_dir)
    chosen, values, unknown = read(overrides, folders, problems)
    if "task" in unknown:  # the task decides the defaults
        return None
    values = [(key, value) for key, value in values if key.split(".")[0] not in unknown]
    try:
        return composed(chosen, values, folders, problems)
    except ConfigError as error:
        problems.append(str(error))
        return None
