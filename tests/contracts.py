"""The entries of a settings group as objects, for tests that hold for a whole family.

Parameters come from the folder, so that a new entry is tested without touching the tests.
"""

import importlib
import inspect
from pathlib import Path
from typing import Any

import yaml

CONF = Path(__file__).parents[1] / "conf"


def entries(group: str) -> list[str]:
    """Names of the entries of a group."""
    return sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def arguments(group: str, name: str) -> dict[str, Any]:
    """What the file of an entry says."""
    loaded: dict[str, Any] = yaml.safe_load((CONF / group / f"{name}.yaml").read_text())
    return loaded


def target(group: str, name: str) -> type:
    """The class of an entry."""
    module, _, attribute = arguments(group, name)["_target_"].rpartition(".")
    found: type = getattr(importlib.import_module(module), attribute)
    return found


def build(group: str, name: str, **changes: Any) -> Any:
    """The object of an entry, some settings changed."""
    settings = arguments(group, name) | changes
    settings.pop("_target_")
    return target(group, name)(**settings)


def settings_of(cls: type) -> set[str]:
    """Names of the constructor's arguments."""
    return set(inspect.signature(cls).parameters)


def entries_of(group: str, base: type) -> list[str]:
    """Names of the entries whose class belongs to a family."""
    return [name for name in entries(group) if issubclass(target(group, name), base)]


def unlike_the_class(group: str, name: str, **filled: Any) -> dict[str, tuple[Any, Any]]:
    """What the file of an entry says and what its class does unless it is told, where these differ.

    The class is built without the settings that it has defaults for.

    Args:
        group: of settings.
        name: of the entry.
        filled: arguments that no file says.
    """
    said, cls = arguments(group, name), target(group, name)
    parameters = inspect.signature(cls).parameters
    needed = [key for key, one in parameters.items() if one.default is one.empty]
    cls(**{key: said.get(key) for key in needed} | filled)
    defaults = {
        key: list(one.default) if isinstance(one.default, tuple) else one.default
        for key, one in parameters.items()
        if key not in (*needed, *filled)
    }
    return {key: (said[key], one) for key, one in defaults.items() if said[key] != one}
