"""Settings in a file, such as a run's ``settings.yaml``, spelt as what a user would type."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning_sep.errors import ConfigError
from lightning_sep.settings.compose import peek
from lightning_sep.settings.conf import ROOT, contents, entries, groups
from lightning_sep.settings.words import nearest, together

NAME = "settings.yaml"


def read_settings(
    path: Path, overrides: Sequence[str] = (), config_dir: Path | str | None = None
) -> list[str]:
    """The overrides that compose to the settings in a file, with others over them.

    What was a later version's default counts where the file is older and does not speak of it.

    Args:
        path: the file, or a run's folder.
        overrides: go before what the file says; an entry takes the place of the file's whole group.
        config_dir: a folder with entries of the user's own.

    Raises:
        ConfigError: the file is none of settings, or names a class that no entry has.
    """
    import yaml

    file = path / NAME if path.is_dir() else path
    try:
        tree = yaml.safe_load(file.read_text())
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a text"
        raise ConfigError(f"--config {path}: {reason}; a run's {NAME} is needed") from error
    except yaml.YAMLError as error:
        raise ConfigError(
            f"--config {path} cannot be read: {' '.join(str(error).split())}"
        ) from error
    if not isinstance(tree, dict):
        raise ConfigError(f"--config {path} holds no settings: GROUP: ... is needed, as in {NAME}")
    given = {one.partition("=")[0] for one in overrides}
    said = _spelt(tree, config_dir)
    kept = [one for one in said if not {one[0], one[0].split(".")[0]} & given]
    return [f"{key}={text}" for key, text in kept] + list(overrides)


def _spelt(tree: Mapping[str, Any], config_dir: Path | str | None) -> list[tuple[str, str]]:
    """The entries of a tree, and the values in which it differs from what they compose to."""
    known, problems, chosen = [*groups(), *ROOT], [], []
    for name, node in tree.items():
        if name not in known:
            problems.append(f"{name}: no such group or setting.{nearest(name, known)}")
        elif name not in ROOT:
            entry = entry_of(name, node, config_dir)
            if entry is None:
                target = node.get("_target_") if isinstance(node, Mapping) else node
                problems.append(f"{name}: no entry in conf/{name} has _target_ = {target!r}")
            else:
                chosen.append((name, entry))
    if problems:
        raise together(problems)
    composed = peek([f"{group}={entry}" for group, entry in chosen], config_dir)
    return chosen + [(key, literal(value)) for key, value in _differing(tree, composed, "")]


def entry_of(group: str, node: Any, config_dir: Path | str | None) -> str | None:
    """The entry of this class that has most of the values; the first by name of those alike."""
    best: tuple[int, str] | None = None
    for name in entries(group, config_dir):
        for whole in contents([f"{group}/{name}"], config_dir)[f"{group}/{name}"]:
            inner = whole.get(group)
            one = inner if isinstance(inner, Mapping) else whole
            if not isinstance(node, Mapping) or one.get("_target_") != node.get("_target_"):
                continue
            differing = sum(one[key] != value for key, value in node.items() if key in one)
            best = min(best or (differing, name), (differing, name))
    return None if best is None else best[1]


def _differing(
    tree: Mapping[str, Any], other: Mapping[str, Any], where: str
) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        base = other.get(key)
        if isinstance(value, Mapping) and isinstance(base, Mapping) and value.keys() <= base.keys():
            yield from _differing(value, base, f"{where}{key}.")
        elif value != base or isinstance(value, bool) is not isinstance(base, bool):
            yield f"{where}{key}", value


def literal(value: Any) -> str:
    """A plain value as Hydra's grammar has it.

    Example:
        >>> print(literal({"a": [1, 2.5, None, True, "it's"]}))
        {a:[1,2.5,null,true,'it\\'s']}
    """
    from hydra.core.override_parser.types import Quote, QuotedString

    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        return QuotedString(value, Quote.single).with_quotes()
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{literal(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(literal, value))}]"
    return str(value)
