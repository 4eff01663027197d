"""Settings: Hydra's command-line overrides over ``conf/``, checked before anything runs.

An entry ``conf/<group>/<name>.yaml`` names a class (``_target_``) and every argument of it; the
folder is the list of what there is, so a new part arrives as one class and one file. Hydra composes
and nothing else: it checks neither types nor values, so both are checked here, against the
signatures, and all problems are told at once.
"""

import importlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lightning_sep.errors import ConfigError
from lightning_sep.signature import accepts, arguments, converted, needs, normalised

# Arguments that the program gives when it builds an entry; the entries of the group leave them out.
FILLED_IN: dict[str, tuple[str, ...]] = {
    "net": ("inputs", "outputs"),
    "task": ("parts",),
}
ROOT = ("seed",)  # settings that belong to no group
PLUGINS = "LIGHTNING_SEP_PLUGINS"
_LARGEST_SEED = 2**32 - 1  # numpy's and Lightning's limit


@dataclass(frozen=True)
class Settings:
    """Everything that describes one run, resolved: nested mappings of plain JSON types.

    Args:
        tree: ``tree[group]`` is the chosen entry with its ``_target_``; ``tree["seed"]`` the seed.
        choices: the name of the entry chosen in each group; empty when the tree came from a record.
        overrides: what the user said.
    """

    tree: dict[str, Any]
    choices: dict[str, str] = field(default_factory=dict)
    overrides: tuple[str, ...] = ()


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
    folders = conf_folders(config_dir)
    problems: list[str] = []
    chosen, values, unknown = _read(overrides, folders, problems)
    if "task" in unknown:  # the task decides the defaults: no more can be said
        raise _all(problems)
    values = [(key, value) for key, value in values if key.split(".")[0] not in unknown]
    try:
        tree, choices = _composed(chosen, values, folders, problems)
    except ConfigError as error:
        raise _all([*problems, str(error)]) from error
    tree = _checked(tree, choices, problems)
    if problems:
        raise _all(problems)
    return Settings(tree, choices, tuple(overrides))


def from_tree(tree: Mapping[str, Any]) -> Settings:
    """Settings out of a record, checked like those that a user types; nothing in it is resolved.

    Raises:
        ConfigError: the tree does not fit this version's classes, or names a class that may not
            be built.
    """
    problems: list[str] = []
    known = [*groups(), *ROOT]
    for name in tree:
        if name not in known:
            problems.append(f"{name}: no such group or setting.{_nearest(name, known)}")
    for name in known:
        if name not in tree:
            problems.append(f"{name}: missing from the recorded settings")
    try:
        plain = json.loads(json.dumps({key: tree[key] for key in tree if key in known}))
    except TypeError as error:
        raise ConfigError(f"settings of a record are JSON types only: {error}") from error
    checked = _checked(plain, {}, problems)
    if problems:
        raise _all(problems)
    return Settings(checked)


def build(node: Mapping[str, Any], **extra: Any) -> Any:
    """The object that an entry describes.

    Args:
        node: a mapping with ``_target_`` and the class's arguments; arguments may be such mappings.
        extra: the arguments that entries leave out (``FILLED_IN``).

    Raises:
        ConfigError: the class may not be built, the arguments do not fit it or it refuses them.
    """
    target = locate(node)
    given = {key: value for key, value in node.items() if key != "_target_"}
    twice = sorted(given.keys() & extra.keys())
    if twice:
        raise ConfigError(f"{', '.join(twice)} of {target.__name__} cannot be set: filled in")
    known = arguments(target) or {}
    built = {}
    for key, value in given.items():
        if isinstance(value, Mapping) and "_target_" in value:
            built[key] = build(value)
        elif key in known:
            built[key] = converted(value, known[key].annotation)
        else:
            built[key] = value
    try:
        return target(**built, **extra)
    except TypeError as error:
        missing = [key for key in given.keys() | extra.keys() if key not in known]
        if known and missing and not _takes_anything(known):
            names = ", ".join(sorted(missing))
            raise ConfigError(f"{target.__name__} has no argument {names}") from error
        raise


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
        target = getattr(importlib.import_module(module_name), name)
    except ModuleNotFoundError as error:
        if error.name and not f"{module_name}.".startswith(f"{error.name}."):
            raise ConfigError(f"_target_ = {path!r} needs the package {error.name!r}") from error
        where = "install it or put its folder on PYTHONPATH" if error.name == root else "see conf/"
        raise ConfigError(f"_target_ = {path!r}: no module {error.name!r}; {where}") from error
    except AttributeError as error:
        names = [one for one in dir(sys.modules[module_name]) if not one.startswith("_")]
        raise ConfigError(
            f"_target_ = {path!r}: {module_name} has no {name}.{_nearest(name, names)}"
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


def conf_folders(config_dir: Path | str | None = None) -> list[Path]:
    """Where entries lie: our own ``conf/``, that of the working folder, and ``config_dir``.

    Raises:
        ConfigError: ``config_dir`` is not a folder.
    """
    inside = Path(__file__).parent / "conf"  # in an installed wheel
    beside = Path(__file__).parent.parent / "conf"  # in a checkout
    found = [(inside if inside.is_dir() else beside).resolve()]
    more = [Path.cwd() / "conf"]
    if config_dir is not None:
        more.append(Path(config_dir).expanduser())
        if not more[-1].is_dir():
            raise ConfigError(f"--config-dir {config_dir}: no such folder")
    for folder in more:
        if folder.is_dir() and folder.resolve() not in found:
            found.append(folder.resolve())
    return found


def groups() -> list[str]:
    """The groups of settings: the folders of our own ``conf/``."""
    with os.scandir(conf_folders()[0]) as found:
        return sorted(one.name for one in found if one.is_dir() and one.name[0] not in "._")


def entries(group: str, config_dir: Path | str | None = None) -> list[str]:
    """The names that ``group=`` takes, the user's own among them.

    Example:
        >>> "local" in entries("launcher")
        True
    """
    return _entries_in(conf_folders(config_dir), group)


def _entries_in(folders: Sequence[Path], group: str) -> list[str]:
    names = set()
    for folder in folders:
        if (folder / group).is_dir():
            with os.scandir(folder / group) as found:
                names |= {one.name.removesuffix(".yaml") for one in found if _is_entry(one)}
    return sorted(names)


def _is_entry(one: "os.DirEntry[str]") -> bool:
    return one.name.endswith(".yaml") and one.name[0] not in "._"


def _read(
    overrides: Sequence[str], folders: Sequence[Path], problems: list[str]
) -> tuple[list[tuple[str, str]], list[tuple[str, Any]], set[str]]:
    """Sort overrides into choices of entries, values of settings, and groups with no such entry."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import OverrideType
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    chosen: list[tuple[str, str]] = []
    values: list[tuple[str, Any]] = []
    unknown: set[str] = set()
    for text in overrides:
        try:
            override = parser.parse_override(text)
        except (HydraException, ValueError) as error:
            problems.append(_unreadable(text, error))
            continue
        key = override.key_or_group
        if override.type is not OverrideType.CHANGE:
            problems.append(
                f"{text}: settings can be changed, not added or deleted (no leading + or ~). "
                "A new part is a class and an entry in your own conf/"
            )
        elif override.package is not None or "/" in key:
            problems.append(f"{text}: only GROUP=ENTRY and GROUP.SETTING=VALUE are understood")
        elif override.is_sweep_override():
            problems.append(
                f"{text}: one run takes one value. For a list write {key}=[1,2]; to try several "
                f"values: lightning-sep sweep --grid {text}"
            )
        elif "." in key or key in ROOT:
            group = key.split(".")[0]
            if group in groups() or key in ROOT:
                values.append((key, override.value()))
            else:
                problems.append(f"{text}: no group {group!r}.{_nearest(group, groups())}")
        elif key not in groups():
            known = [*groups(), *ROOT]
            problems.append(f"{text}: no group or setting {key!r}.{_nearest(key, known)}")
        elif override.value() not in _entries_in(folders, key):
            known, value = _entries_in(folders, key), override.value()
            unknown.add(key)
            problems.append(f"no {key} {value!r} in conf/{key}.{_nearest(str(value), known)}")
        else:
            chosen.append((key, str(override.value())))
    return chosen, values, unknown


def _unreadable(text: str, error: Exception) -> str:
    key, equals, value = text.partition("=")
    if not equals:
        return f"{text!r} is not an override: write GROUP=ENTRY or GROUP.SETTING=VALUE"
    if value and not value.startswith(("'", '"', "[", "{")) and "'" not in value:
        return f"{text!r} cannot be read. Special characters need quotes: \"{key}='{value}'\""
    reason = str(error).splitlines()[0]
    return f"{text!r} cannot be read: {reason}"


def _composed(
    chosen: Sequence[tuple[str, str]],
    values: Sequence[tuple[str, Any]],
    folders: Sequence[Path],
    problems: list[str],
) -> tuple[dict[str, Any], dict[str, str]]:
    """Hydra's composition of the chosen entries, the given values laid over it, resolved."""
    import hydra
    from hydra.core.override_parser.types import Quote, QuotedString
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    lines = [f"{group}={name}" for group, name in chosen]
    if folders[1:]:
        more = [QuotedString(f"file://{one}", Quote.single).with_quotes() for one in folders[1:]]
        lines.append(f"hydra.searchpath=[{','.join(more)}]")
    with _own_hydra(folders[0]):
        try:
            config = hydra.compose("config", overrides=lines, return_hydra_config=True)
        except (HydraException, OmegaConfBaseException, OSError, ValueError) as error:
            raise ConfigError(
                f"conf/ cannot be composed: {' '.join(str(error).split())}"
            ) from error
        except Exception as error:  # YAML errors have no common base with the above
            if type(error).__module__.startswith("yaml"):
                raise ConfigError(
                    f"conf/ cannot be read: {' '.join(str(error).split())}"
                ) from error
            raise
    made = config.hydra.runtime.choices
    choices = {group: str(made[group]) for group in groups() if group in made}
    for group, name in choices.items():
        places = [str(one) for one in folders if (one / group / f"{name}.yaml").is_file()]
        if len(places) > 1:
            problems.append(
                f"{group}={name}: there are entries of that name in {' and '.join(places)}. "
                "Give your own another name"
            )
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    for key, value in values:
        problem = _unknown_key(config, key, choices)
        if problem:
            problems.append(problem)
            continue
        try:
            OmegaConf.update(config, key, value, merge=True)
        except OmegaConfBaseException as error:
            problems.append(f"{key} = {value!r}: {str(error).splitlines()[0]}")
    tree = _resolved(config, "", problems)
    return tree, choices


@contextmanager
def _own_hydra(folder: Path) -> Iterator[None]:
    """Hydra set up for our ``conf/`` and put back after: a notebook may use Hydra itself."""
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    held = GlobalHydra.instance().hydra
    GlobalHydra.instance().clear()
    try:
        with hydra.initialize_config_dir(str(folder), version_base="1.3"):
            yield
    finally:
        GlobalHydra.instance().hydra = held


def _unknown_key(config: Any, key: str, choices: Mapping[str, str]) -> str | None:
    """Why ``key`` cannot be set, with the nearest setting that can; ``None`` when it can."""
    from omegaconf import DictConfig

    if key.split(".")[-1] == "_target_":
        return f"{key}: a class is chosen by its entry in conf/, not by a setting"
    parts = key.split(".")
    node = config
    for depth, part in enumerate(parts):
        if not isinstance(node, DictConfig) or node._is_none() or node._is_missing():
            return f"{key}: {'.'.join(parts[:depth])} is a single value and has no settings"
        known = [str(one) for one in node if one != "_target_"]
        if part not in known:
            group = parts[0]
            where = ".".join([f"{group}={choices.get(group)}", *parts[1:depth]])
            return f"{key}: not a setting of {where}.{_nearest(part, known)}"
        node = node._get_node(part)
    return None


def _resolved(node: Any, where: str, problems: list[str]) -> Any:
    """``node`` as plain types, interpolations resolved; what cannot be is told, not raised."""
    from omegaconf import DictConfig, ListConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    keys: list[Any] = list(node) if isinstance(node, DictConfig) else list(range(len(node)))
    plain = {}
    for key in keys:
        path = f"{where}.{key}" if where else str(key)
        if OmegaConf.is_missing(node, key):
            problems.append(f"{path}: has no value yet; give {path}=...")
            continue
        try:
            value = node[key]
        except OmegaConfBaseException as error:
            text = node._get_node(key)._value()
            problems.append(
                f"{path} = {text!r}: {str(error).splitlines()[0]}. Choose entries that go together "
                f"or give {path}=..."
            )
            continue
        is_node = isinstance(value, DictConfig | ListConfig)
        plain[key] = _resolved(value, path, problems) if is_node else value
    return plain if isinstance(node, DictConfig) else list(plain.values())


def _checked(
    tree: dict[str, Any], choices: Mapping[str, str], problems: list[str]
) -> dict[str, Any]:
    """The tree in its normal form; what does not fit the classes is added to ``problems``."""
    seed = tree.get("seed")
    if "seed" in tree and not (accepts(seed, int) and 0 <= int(seed or 0) <= _LARGEST_SEED):
        problems.append(f"seed = {seed!r}: a whole number from 0 to {_LARGEST_SEED} is needed")
    checked = {}
    for group, node in tree.items():
        if group in ROOT:
            checked[group] = node
        elif not isinstance(node, Mapping) or "_target_" not in node:
            problems.append(f"{group} = {node!r}: an entry with _target_ is needed")
        else:
            checked[group] = _checked_entry(group, node, choices, problems)
    return checked


def _checked_entry(
    where: str, node: Mapping[str, Any], choices: Mapping[str, str], problems: list[str]
) -> dict[str, Any]:
    """One entry compared with its class, and built when it needs nothing filled in."""
    label = f"{where}={choices[where]}" if where in choices else where
    try:
        target = locate(node)
    except ConfigError as error:
        problems.append(f"{label}: {error}")
        return dict(node)
    known = arguments(target)
    if known is None:
        return dict(node)
    before = len(problems)
    filled_in = FILLED_IN.get(where.split(".")[0], ())
    usable = [name for name in known if name not in filled_in and not _is_open(known[name])]
    plain: dict[str, Any] = {"_target_": node["_target_"]}
    for key, value in node.items():
        if key == "_target_":
            continue
        if key not in usable and not _takes_anything(known):
            problems.append(
                f"{where}.{key}: not a setting of {target.__name__}.{_nearest(key, usable)}"
            )
            continue
        annotation = known[key].annotation if key in known else Any
        plain[key] = value
        if not accepts(value, annotation):
            problems.append(f"{where}.{key} = {value!r}: {needs(annotation)} is needed")
        elif isinstance(value, Mapping) and "_target_" in value:
            plain[key] = _checked_entry(f"{where}.{key}", value, choices, problems)
        else:
            plain[key] = normalised(value, annotation)
    for name in usable:
        if name not in node and known[name].default is known[name].empty:
            problems.append(
                f"{where}.{name}: {target.__name__} needs it and {label} has no such key"
            )
    if len(problems) == before and not any(name in known for name in filled_in):
        problems.extend(f"{label}: {problem}" for problem in _refusals(plain))
    return plain


def _refusals(node: Mapping[str, Any]) -> list[str]:
    """What a class itself has against its arguments: it is built once and thrown away."""
    torch: Any = sys.modules.get("torch")
    undrawn: AbstractContextManager[Any] = nullcontext()
    if torch is not None:  # initial weights must not move the random numbers of the caller
        undrawn = torch.random.fork_rng(devices=[])
    try:
        with undrawn:
            build(node)
    except ConfigError as error:
        return [str(error)]
    except Exception as error:  # torch's and plugins' constructors refuse in their own ways
        return [f"{type(error).__name__}: {error}"]
    return []


def _is_open(parameter: Any) -> bool:
    return bool(parameter.kind is parameter.VAR_KEYWORD)


def _takes_anything(known: Mapping[str, Any]) -> bool:
    return any(map(_is_open, known.values()))


def _allowed() -> list[str]:
    plugins = os.environ.get(PLUGINS, "").split(",")
    return ["lightning_sep", "torch", *(one.strip() for one in plugins if one.strip())]


def _torch_bases() -> tuple[type, ...]:
    import torch

    return (torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler)


def _nearest(name: str, known: Sequence[str]) -> str:
    """`` Did you mean 'tanh'? Known: ...``, as it is added to a message."""
    close = get_close_matches(name, known, n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    return f"{hint} Known: {', '.join(known) if known else 'none'}"


def _all(problems: Sequence[str]) -> ConfigError:
    problems = list(dict.fromkeys(problems))
    if len(problems) == 1:
        return ConfigError(problems[0])
    listed = "".join(f"\n    {problem}" for problem in problems)
    return ConfigError(f"{len(problems)} settings cannot be used:{listed}")
