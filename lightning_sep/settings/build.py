"""From an entry to the object that it describes."""

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from lightning_sep import sources
from lightning_sep.errors import ConfigError
from lightning_sep.settings.conf import conf_folders
from lightning_sep.settings.environment import PATHS, resolved, takes_from_environment
from lightning_sep.settings.signature import arguments, converted, is_open, wants_path
from lightning_sep.settings.words import nearest

PLUGINS = "LIGHTNING_SEP_PLUGINS"


def build(node: Mapping[str, Any], **extra: Any) -> Any:
    """The object that an entry describes.

    Args:
        node: a mapping with ``_target_`` and the class's arguments; arguments may be such mappings,
            and lists of them.
        extra: the arguments that entries leave out (``FILLED_IN``).

    Raises:
        ConfigError: the class may not be built, the arguments do not fit it or it refuses them.
    """
    return made(node, extra, environment=True)


def made(node: Mapping[str, Any], extra: Mapping[str, Any], *, environment: bool) -> Any:
    """See :func:`build`; ``environment`` says whether paths that come from there are looked up."""
    target = locate(node)
    given = {key: value for key, value in node.items() if key != "_target_"}
    twice = sorted(given.keys() & extra.keys())
    if twice:
        raise ConfigError(f"{', '.join(twice)} of {target.__name__} cannot be set: filled in")
    known = arguments(target) or {}
    built = {}
    for key, value in given.items():
        if isinstance(value, Mapping) and "_target_" in value:
            built[key] = made(value, {}, environment=environment)
            continue
        if holds_entries(value):
            built[key] = [made(one, {}, environment=environment) for one in value]
            continue
        annotation = known[key].annotation if key in known else Any
        is_path = key in PATHS or wants_path(annotation)
        if environment and is_path and takes_from_environment(value):
            value = resolved(key, value)
        built[key] = converted(value, annotation)
    try:
        return target(**built, **extra)
    except TypeError as error:
        missing = [key for key in given.keys() | extra.keys() if key not in known]
        if known and missing and not any(map(is_open, known.values())):
            names = ", ".join(sorted(missing))
            raise ConfigError(f"{target.__name__} has no argument {names}") from error
        raise


def holds_entries(value: object) -> TypeGuard[Sequence[Mapping[str, Any]]]:
    """Whether a setting is a list of entries, and holds some."""
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(isinstance(one, Mapping) and "_target_" in one for one in value)


def locate(node: Mapping[str, Any]) -> type:
    """The class that an entry names.

    Settings also arrive in other people's records, so only classes of this package, of torch (nets,
    optimizers, schedules) and of the packages in ``LIGHTNING_SEP_PLUGINS`` are built, never
    functions: ``torch.hub.load`` runs code from the network.

    Raises:
        ConfigError: there is no such class, or it may not be built.
    """
    path = node.get("_target_")
    if not isinstance(path, str) or "." not in path:
        raise ConfigError(
            f"_target_ = {path!r}: the path of a class is needed (package.file.Class)"
        )
    root = path.split(".")[0]
    if root not in _allowed():
        raise ConfigError(
            f"_target_ = {path!r} may not be built: only classes of {', '.join(_allowed())} are. "
            f"A package of your own is allowed by {PLUGINS}={root}"
        )
    module_name, _, name = path.rpartition(".")
    try:
        if root in _plugins():
            search_beside(*conf_folders()[1:])
            sources.plugin_files(root)  # notes them before they are imported
        target = getattr(importlib.import_module(module_name), name)
    except ModuleNotFoundError as error:
        if error.name and not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(f"_target_ = {path!r} needs the package {error.name!r}") from error
        beside = "install it, or put it beside the folder conf/ where you work"
        where = beside if error.name == root else "see conf/"
        raise ConfigError(f"_target_ = {path!r}: no module {error.name!r}; {where}") from error
    except AttributeError as error:
        names = [one for one in dir(sys.modules[module_name]) if not one.startswith("_")]
        raise ConfigError(
            f"_target_ = {path!r}: {module_name} has no {name}.{nearest(name, names)}"
        ) from error
    except Exception as error:  # whatever a module of the user's own does when it is read
        raise ConfigError(
            f"_target_ = {path!r}: {module_name} cannot be imported "
            f"({type(error).__name__}: {error}); `python -c 'import {module_name}'` shows where"
        ) from error
    if not isinstance(target, type) or target.__module__.split(".")[0] != root:
        raise ConfigError(f"_target_ = {path!r} may not be built: it is not a class of {root}")
    if root == "torch" and not issubclass(target, _torch_bases()):
        raise ConfigError(
            f"_target_ = {path!r} may not be built: of torch only nn.Module, Optimizer and "
            "LRScheduler classes are"
        )
    return target


def search_beside(*folders: Path) -> None:
    """Let the user's own packages be found beside their folder of entries, without PYTHONPATH.

    Args:
        folders: of entries; those of them that have a package of ``LIGHTNING_SEP_PLUGINS`` beside
            them are searched last, after whatever is installed.
    """
    for parent in {str(folder.resolve().parent) for folder in folders} - set(sys.path):
        if any(Path(parent, f"{one}{end}").exists() for one in _plugins() for end in ("", ".py")):
            sys.path.append(parent)
            importlib.invalidate_caches()


def _allowed() -> list[str]:
    return ["lightning_sep", "torch", *_plugins()]


def _plugins() -> list[str]:
    given = os.environ.get(PLUGINS, "").split(",")
    return [one.strip() for one in given if one.strip()]


def _torch_bases() -> tuple[type, ...]:
    import torch

    return (torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)
