"""Composed settings compared with the classes they are for."""

import sys
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from lightning_sep.errors import ConfigError
from lightning_sep.settings.build import holds_entries, locate, made
from lightning_sep.settings.conf import ROOT
from lightning_sep.settings.environment import PATHS, refusal
from lightning_sep.settings.signature import accepts, arguments, is_open, normalised, wants_path
from lightning_sep.settings.words import nearest, needs

# Arguments that the program gives when it builds an entry; the entries of the group leave them out.
FILLED_IN: dict[str, tuple[str, ...]] = {
    "net": ("inputs", "outputs"),
    "loss": ("embed", "classes"),
    "task": ("parts",),
}
_LARGEST_SEED = 2**32 - 1  # numpy's and Lightning's limit


def checked(
    tree: Mapping[str, Any],
    choices: Mapping[str, str],
    problems: list[str],
    *,
    held: Collection[str] = (),
) -> dict[str, Any]:
    """The tree in its normal form; what does not fit the classes is added to ``problems``.

    Args:
        tree: resolved settings; groups may be missing.
        choices: name of the entry of each group, for the messages.
        problems: is told what cannot be used.
        held: dotted names of the settings whose value comes from the environment.
    """
    seed = tree.get("seed")
    if "seed" in tree and not (accepts(seed, int) and 0 <= int(seed or 0) <= _LARGEST_SEED):
        problems.append(f"seed = {seed!r}: a whole number from 0 to {_LARGEST_SEED} is needed")
    parent = tree.get("init_from")
    if not isinstance(parent, str | None):
        problems.append(f"init_from = {parent!r}: a run's id or folder is needed, or null")
    fitting = {}
    for group, node in tree.items():
        if group in ROOT:
            fitting[group] = node
        elif not isinstance(node, Mapping) or "_target_" not in node:
            problems.append(f"{group} = {node!r}: an entry with _target_ is needed")
        else:
            label = f"{group}={choices[group]}" if group in choices else group
            fitting[group] = _checked_entry(group, label, node, problems, held)
    return fitting


def _checked_entry(
    where: str, label: str, node: Mapping[str, Any], problems: list[str], held: Collection[str]
) -> dict[str, Any]:
    """One entry compared with its class, and built when it needs nothing filled in."""
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
    usable = [name for name in known if name not in filled_in and not is_open(known[name])]
    takes_anything = any(map(is_open, known.values()))
    plain: dict[str, Any] = {"_target_": node["_target_"]}
    for key, value in node.items():
        if key == "_target_":
            continue
        name = f"{where}.{key}"
        if key not in usable and not takes_anything:
            problems.append(f"{name}: not a setting of {target.__name__}.{nearest(key, usable)}")
            continue
        annotation = known[key].annotation if key in known else Any
        plain[key] = value
        if name in held and not (key in PATHS or wants_path(annotation)):
            problems.append(refusal(name))
        elif not accepts(value, annotation):
            problems.append(f"{name} = {value!r}: {needs(annotation)} is needed")
        elif isinstance(value, Mapping) and "_target_" in value:
            plain[key] = _checked_entry(name, name, value, problems, held)
        elif holds_entries(value):
            each = enumerate(value)
            named = [(f"{name}[{number}]", one) for number, one in each]
            plain[key] = [_checked_entry(one, one, node, problems, held) for one, node in named]
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
            made(node, {}, environment=False)
    except ConfigError as error:
        return [str(error)]
    except Exception as error:  # torch's and plugins' constructors refuse in their own ways
        return [f"{type(error).__name__}: {error}"]
    return []
