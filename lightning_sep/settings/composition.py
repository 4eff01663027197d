"""What Hydra does: entries are composed, values are laid over them, ``${...}`` is resolved.

The only file that asks Hydra to compose. Reading all entries anew takes Hydra far longer than the
rest of a composition, so what it made of the same choices is kept until a file there changes.
"""

import pickle
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lightning_sep.errors import ConfigError
from lightning_sep.settings.conf import groups, stamp
from lightning_sep.settings.environment import HELD, held_back, refusal
from lightning_sep.settings.words import nearest

Choices = tuple[tuple[str, str], ...]
Folders = tuple[Path, ...]
Stamp = tuple[tuple[str, int, int], ...]
# A composed config, pickled (that copies it fastest), and the entry of each group.
Together = tuple[bytes, dict[str, str]]


@dataclass(frozen=True)
class Composed:
    """A composed tree that is not yet checked.

    Args:
        tree: plain types, resolved but for what is in ``held``.
        choices: the entry of each group.
        moved: groups that are whole and of which the user moved a setting, and ``seed``.
        held: texts of settings that come from the environment, by dotted name.
    """

    tree: dict[str, Any]
    choices: dict[str, str]
    moved: frozenset[str]
    held: dict[str, str]


def composed(
    chosen: Sequence[tuple[str, str]],
    values: Sequence[tuple[str, Any]],
    folders: Sequence[Path],
    problems: list[str],
) -> Composed:
    """Hydra's composition of the chosen entries, the given values laid over it, resolved.

    Args:
        chosen: groups and entries.
        values: dotted names and values.
        folders: where entries lie, ours first.
        problems: is told what cannot be used.

    Raises:
        ConfigError: Hydra cannot read the folders.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    kept, choices = _entries_together(tuple(chosen), tuple(folders), stamp(folders))
    for group, name in choices.items():
        places = [str(one.parents[1]) for one in _files(group, name, folders)]
        if len(places) > 1:
            problems.append(
                f"{group}={name}: there are entries of that name in {' and '.join(places)}. "
                "Give your own another name"
            )
    config = pickle.loads(kept)
    moved = set()
    for key, value in values:
        problem = _unknown_key(config, key, choices)
        if problem:
            problems.append(problem)
            continue
        try:
            OmegaConf.update(config, key, value, merge=True)
        except OmegaConfBaseException as error:
            problems.append(f"{key} = {value!r}: {str(error).splitlines()[0]}")
            continue
        moved.add(key.split(".")[0])
    before = len(problems)
    unresolved: Any = OmegaConf.to_container(config)
    held = held_back(unresolved, problems)
    if len(problems) > before:  # nothing is resolved that could show what it must not
        return Composed({}, choices, frozenset(), {})
    marks = {HELD.format(number): where for number, where in enumerate(held)}
    for mark, where in marks.items():
        OmegaConf.update(config, where, mark)
    tree = _put_back(_resolved(config, problems), "", marks, held, problems)
    # of these something is missing now, which is not the user's fault
    moved -= {problem.partition(".")[0] for problem in problems[before:]}
    return Composed(tree, dict(choices), frozenset(moved), held)


@lru_cache(maxsize=256)
def _entries_together(chosen: Choices, folders: Folders, stamped: Stamp) -> Together:
    """What Hydra makes of these choices.

    ``stamped`` says by how it looks which state of the files this is.
    """
    _refuse_environment_in_defaults(folders[1:])
    return _exchanged(chosen, folders, stamped) or _by_hydra(chosen, folders, stamped)


def _exchanged(chosen: Choices, folders: Folders, stamped: Stamp) -> Together | None:
    """What Hydra makes of other choices, with plain entries put in the place of its own.

    So a worker that tries one combination of entries after another asks Hydra once. ``None`` where
    that could be something else than what Hydra makes of these.
    """
    plain = {group: _plain_entry(group, name, folders, stamped) for group, name in chosen}
    wanted = {group: node for group, node in plain.items() if node is not None}
    if not wanted or len(plain) < len(chosen):
        return None
    try:
        kept, choices = _by_hydra(tuple(c for c in chosen if c[0] not in wanted), folders, stamped)
    except ConfigError:  # perhaps of an entry that is not wanted
        return None
    writing = [folders[0] / "config.yaml"]
    for group, name in choices.items():
        if _plain_entry(group, name, folders, stamped) is None:
            writing += _files(group, name, folders)
    if not all(_leaves_alone(path, frozenset(wanted), stamped) for path in writing):
        return None
    config = pickle.loads(kept)
    for group, node in wanted.items():
        if group not in choices:
            return None
        config[group] = node
    return pickle.dumps(config), choices | dict(chosen)


@lru_cache(maxsize=256)
def _plain_entry(group: str, name: str, folders: Folders, stamped: Stamp) -> Any:
    """An entry that Hydra puts under its group and does nothing else with; else ``None``."""
    from omegaconf import DictConfig, OmegaConf

    found = _files(group, name, folders)
    if len(found) != 1:
        return None
    try:
        text = found[0].read_text()
        node = None if "@package" in text else OmegaConf.load(found[0])
    except Exception:  # whatever is wrong with it, Hydra finds it too and says so
        return None
    return node if isinstance(node, DictConfig) and "defaults" not in node else None


@lru_cache(maxsize=256)
def _leaves_alone(path: Path, wanted: frozenset[str], stamped: Stamp) -> bool:
    """Whether a file that is not plain only chooses entries and sets what is not ``wanted``."""
    import yaml

    text = path.read_text()
    if path.name != "config.yaml" and "# @package _global_" not in text.splitlines():
        return False
    entry = yaml.safe_load(text) or {}
    for one in entry.pop("defaults", []):
        if one == "_self_":
            continue
        for key, name in one.items() if isinstance(one, dict) else [("", one)]:
            group = key.removeprefix("override ").removeprefix("/")
            if group not in groups() or not isinstance(name, str) or "${" in name:
                return False
    return not entry.keys() & wanted


def _files(group: str, name: str, folders: Sequence[Path]) -> list[Path]:
    """Where an entry of that name lies."""
    places = [folder / group / f"{name}.yaml" for folder in folders]
    return [one for one in places if one.is_file()]


@lru_cache(maxsize=64)
def _by_hydra(chosen: Choices, folders: Folders, stamped: Stamp) -> Together:
    """What Hydra makes of these choices, and reads all files for.

    Raises:
        ConfigError: Hydra cannot read the folders.
    """
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
    OmegaConf.set_struct(config, False)
    del config["hydra"]
    return pickle.dumps(config), choices


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


def _refuse_environment_in_defaults(folders: Sequence[Path]) -> None:
    """Hydra resolves lists of defaults while it composes, and says in errors what came out."""
    import yaml

    for path in (path for folder in folders for path in sorted(folder.rglob("*.yaml"))):
        try:
            text = path.read_text(errors="replace")
        except OSError:  # Hydra says so if the entry is chosen
            continue
        if "${" not in text or "defaults" not in text:
            continue
        try:
            entry = yaml.safe_load(text)
        except yaml.YAMLError:  # Hydra says so if the entry is chosen
            continue
        problems: list[str] = []
        listed = entry.get("defaults") if isinstance(entry, dict) else None
        if held_back({str(path): listed}, problems) or problems:
            raise ConfigError(
                f"{path}: defaults may name groups by ${{...}}, but nothing of the environment"
            )


def _unknown_key(config: Any, key: str, choices: Mapping[str, str]) -> str | None:
    """Why ``key`` cannot be set, with the nearest setting that can; ``None`` when it can."""
    from omegaconf import DictConfig

    if key.split(".")[-1] == "_target_":
        return f"{key}: a class is chosen by its entry in conf/, not by a setting"
    parts = key.split(".")
    node = config
    for depth, part in enumerate(parts):
        is_mapping = isinstance(node, DictConfig) and not node._is_interpolation()
        if not is_mapping or node._is_none() or node._is_missing():
            return f"{key}: {'.'.join(parts[:depth])} is a single value and has no settings"
        known = [str(one) for one in node if one != "_target_"]
        if part not in known:
            group = parts[0]
            where = ".".join([f"{group}={choices.get(group)}", *parts[1:depth]])
            return f"{key}: not a setting of {where}.{nearest(part, known)}"
        node = node._get_node(part)
    return None


def _resolved(config: Any, problems: list[str]) -> Any:
    """``config`` as plain types, interpolations resolved; what cannot be is told, not raised."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException:
        return _resolved_one_by_one(config, "", problems)


def _resolved_one_by_one(node: Any, where: str, problems: list[str]) -> Any:
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
        plain[key] = _resolved_one_by_one(value, path, problems) if is_node else value
    return plain if isinstance(node, DictConfig) else list(plain.values())


def _put_back(
    node: Any, where: str, marks: Mapping[str, str], held: Mapping[str, str], problems: list[str]
) -> Any:
    """The texts that were held back in the place of their marks, which may be nowhere else."""
    if not marks:
        return node
    if isinstance(node, dict):
        return {
            key: _put_back(value, f"{where}.{key}" if where else key, marks, held, problems)
            for key, value in node.items()
        }
    if isinstance(node, list):
        return [_put_back(value, f"{where}[]", marks, held, problems) for value in node]
    if isinstance(node, str) and marks.get(node) == where:
        return held[where]
    if isinstance(node, str) and any(mark in node for mark in marks):
        problems.append(refusal(where))
    return node
