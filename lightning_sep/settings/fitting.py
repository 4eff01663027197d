"""Which entries go with a task: what fits is listed when something does not."""

import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_sep.errors import ConfigError
from lightning_sep.settings.build import locate
from lightning_sep.settings.conf import contents, entries
from lightning_sep.settings.words import together

GROUPS = {"net": "nets", "head": "heads", "loss": "losses", "examples": "examples"}
"""Groups whose entries serve some tasks only, and what several of them are called."""


def fits(group: str, part: type, task: type) -> bool:
    """Whether a class of a group serves a task, by what the task says that it needs.

    Where one of them says nothing, it may: the task looks again when it is built.
    """
    if group in ("head", "loss"):
        return issubclass(part, getattr(task, f"{group}_type", object))
    if group == "net":
        given, needed = getattr(part, "material", None), getattr(task, "material", None)
        return not isinstance(given, str) or needed is None or given == needed
    gives = typing.get_type_hints(getattr(part, "facts", None)).get("return", Any)
    wanted: type = getattr(task, "facts_type", object)
    return not isinstance(gives, type) or issubclass(gives, wanted)


def fitting(
    group: str, task: type, config_dir: Path | str | None = None, *, broken: bool = False
) -> list[str]:
    """The entries of a group that serve a task, by name.

    Args:
        group: one of ``GROUPS``.
        task: the task's class.
        config_dir: a folder with entries of the user's own, beside ``conf/`` of the working folder.
        broken: whether entries may be there whose class is not; they are left out.

    Raises:
        ConfigError: an entry's class is not there, or its file cannot be read.
    """
    found = []
    for name in entries(group, config_dir):
        try:
            nodes = contents([f"{group}/{name}"], config_dir)[f"{group}/{name}"]
            if fits(group, locate(nodes[-1] if nodes else {}), task):
                found.append(name)
        except ConfigError as error:
            if not broken:
                raise ConfigError(f"{group}={name}: {error}") from error
    return found


def refuse_unfit(tree: Mapping[str, Any], choices: Mapping[str, str]) -> None:
    """See that the parts of a run go with its task.

    Args:
        tree: resolved settings.
        choices: the entry of each group, as far as it is known.

    Raises:
        ConfigError: some do not; the message lists the entries that do.
    """
    task = locate(tree["task"])
    called = choices.get("task") or task.__name__
    problems = []
    for group, several in GROUPS.items():
        part = locate(tree[group])
        if not fits(group, part, task):
            listed = ", ".join(fitting(group, task, broken=True)) or "none"
            name = choices.get(group) or part.__name__
            problems.append(
                f"{group}={name} does not serve task={called}. {several.capitalize()} for "
                f"{called}: {listed}"
            )
    if problems:
        raise together(problems)
