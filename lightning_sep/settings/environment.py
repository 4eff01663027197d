"""Settings that point to the environment: paths of data may, nothing else.

``${oc.env:NAME}`` in a setting would write whatever the variable holds into settings, records, logs
and mirrors, and variables hold keys and passwords. So it may only stand where a path of data is
wanted; there its text is kept as it is, and the variable is read when the data are opened.
"""

import os
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from lightning_sep.errors import ConfigError

PATHS = ("path", "source", "folder")
"""Arguments of the entries of ``data`` that are paths, whatever their annotation."""

HELD = "lightning-sep-held-{}"
"""What stands for a text that is kept while others are resolved; nothing may contain it."""

# Functions in `${...}` that read settings and nothing else. `oc.decode` and `oc.create` are not
# among them: they resolve what they are given a second time, `\${oc.env:NAME}` as well.
_AMONG_SETTINGS = ("oc.select", "oc.dict.keys", "oc.dict.values", "oc.deprecated")
_FROM_ENVIRONMENT = "oc.env"


@lru_cache(maxsize=1024)
def functions(text: str) -> tuple[str, ...]:
    """What the ``${...}`` in a text call; ``""`` for one that only names a setting.

    A name that is itself put together counts as the environment, which it can become.

    Example:
        >>> functions("${oc.env:HOME}/${task.sources}")
        ('oc.env', '')
    """
    from omegaconf.errors import GrammarParseError
    from omegaconf.grammar_parser import parse

    if "${" not in text:
        return ()
    try:
        return tuple(_called(parse(text)))
    except GrammarParseError:  # it will not be resolved, and says so then
        return ()


def _called(node: Any) -> Iterator[str]:
    kind = type(node).__name__
    if kind == "InterpolationNodeContext":
        yield ""
    if kind == "ResolverNameContext":
        name = node.getText()
        yield _FROM_ENVIRONMENT if "$" in name else name
    for number in range(node.getChildCount()):
        yield from _called(node.getChild(number))


def takes_from_environment(text: object) -> bool:
    """Whether a setting is a text with variables of the environment in it, and nothing else."""
    return isinstance(text, str) and set(functions(text)) == {_FROM_ENVIRONMENT}


def refusal(where: str) -> str:
    """Why a setting may not come from the environment; its text may be a secret, and is left out.

    Args:
        where: the setting's dotted name.
    """
    return (
        f"{where}: only paths of data (data.path) may come from the environment; give the value "
        "itself"
    )


def held_back(tree: dict[str, Any], problems: list[str]) -> dict[str, str]:
    """The texts of a composed tree that name the environment and may be kept, by dotted name.

    Args:
        tree: unresolved.
        problems: is told about those that may not.
    """
    held = {}
    for where, text in list(_texts(tree, "")):
        called = set(functions(text)) - {"", *_AMONG_SETTINGS}
        if not called:
            continue
        if takes_from_environment(text) and where.startswith("data.") and "[]" not in where:
            held[where] = text  # whether it is a path is seen when its class is known
        elif _FROM_ENVIRONMENT in called:
            problems.append(refusal(where))
        else:
            problems.append(
                f"{where}: {', '.join(sorted(called))} cannot be used; a setting takes the value "
                "of another by ${GROUP.SETTING}"
            )
    return held


def _texts(node: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, str):
        yield where, node
    elif isinstance(node, dict):
        for key, value in node.items():
            yield from _texts(value, f"{where}.{key}" if where else str(key))
    elif isinstance(node, list):
        for value in node:  # an element has no name of its own, and may not be held back
            for _, text in _texts(value, ""):
                yield where + "[]", text


def resolved(name: str, text: str) -> str:
    """A path of data with the variables filled in, read when it is used.

    Raises:
        ConfigError: a variable is not set, or what comes out is no file or folder. So what is not
            a path is not used, and no message shows it.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        path = OmegaConf.create({"path": text})["path"]
    except OmegaConfBaseException as error:
        raise ConfigError(f"{name} = {text!r}: the environment has no such variable") from error
    if not isinstance(path, str) or not path or not os.path.exists(Path(path).expanduser()):
        raise ConfigError(f"{name} = {text!r}: no file or folder is there")
    return path
