"""What differs between runs: the settings that a board's rows are told apart by."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from lightning_sep.leaderboard.runs import Run
from lightning_sep.run_id import EXCLUDED, counted

Value = str | int | float | bool | None

_SAME_NUMBERS = {"seed", "launcher", "tracking"}  # groups that never tell two settings apart
_OVERRIDE = re.compile(r"^\+{0,2}([A-Za-z_][\w.]*)=(.*)$", re.DOTALL)
_SUMMARY = ("net", "head", "loss", "reweighting")  # names a lone row, where nothing varies


def settings_of(run: Run) -> dict[str, Value]:
    """Flat view of a run's settings: ``{"head": "tanh", "head.temperature": 1.0, ...}``.

    A group appears by the name of its entry: the one that was asked for, else the one that its
    record tells, else, in a record of before they told, the module of the class.
    """
    asked = _asked(run)
    flat: dict[str, Value] = {}
    for root, node in run.settings.items():
        if root in _SAME_NUMBERS or root.startswith("_"):
            continue
        if isinstance(node, dict):
            name = asked.get(root) or run.choices.get(root) or _entry_name(node)
            if name:
                flat[root] = name
        _flatten(root, node, flat)
    return flat


def axes(runs: Sequence[Run]) -> list[str]:
    """Names of the settings that vary among ``runs``, groups before their own settings.

    A setting that belongs to one entry only (the margin of one loss) counts when it varies among
    the runs with that entry, or when some runs asked for it: all else follows from the entry.
    """
    flats = [settings_of(run) for run in runs]
    asked = [_asked(run) for run in runs]
    varying = []
    for name in dict.fromkeys(name for flat in flats for name in flat):
        values = {_key(flat[name]) if name in flat else None for flat in flats}
        if len(values) < 2:
            continue
        root = name.split(".")[0]
        by_entry: dict[Value, set[tuple[str, Value]]] = {}
        for flat in flats:
            if name in flat:
                entry = flat.get(root) if root != name else None
                by_entry.setdefault(entry, set()).add(_key(flat[name]))
        explicit = any(name in names for names in asked)
        if explicit or any(len(seen) > 1 for seen in by_entry.values()):
            varying.append(name)
    return varying


def label_of(run: Run, names: Sequence[str]) -> list[tuple[str, Value]]:
    """The (setting, value) pairs that name a row.

    Args:
        run: one of the row's.
        names: of the settings that tell the rows apart; a lone row, which has none, is named by its
            main parts and all that was asked of it besides, word for word.
    """
    settings = settings_of(run)
    chosen = [(name, settings[name]) for name in names if name in settings]
    if chosen:
        return chosen
    parts = {name: settings[name] for name in _SUMMARY if name in settings}
    pairs = (item.partition("=") for item in run.overrides)
    said = {key: value for key, _, value in pairs if _tells(key) and key != "task"}
    return list({**parts, **said}.items())


def override_labels(runs: Sequence[Run]) -> dict[str, list[tuple[str, Value]]] | None:
    """Labels by config hash, as overrides on what all ``runs`` share, word for word.

    What the runs share and a row's label compose to the row's settings, and every key that any of
    them varied stands in it, even where the rows agree. None where the runs do not say what was
    asked of them, or not enough to tell them apart.
    """
    asked: dict[str, dict[str, str]] = {}
    pair = cache(_pair)  # thousands of runs, few words
    for run in runs:
        said = dict(filter(None, map(pair, run.overrides)))
        if not said:
            return None
        asked.setdefault(run.config_hash, said)
    keys = dict.fromkeys(key for said in asked.values() for key in said)
    values = {key: len({said.get(key) for said in asked.values()}) for key in keys}
    # Groups come before settings, and what tells more of them apart before what tells less.
    varied = sorted(
        (key for key in keys if values[key] > 1), key=lambda key: ("." in key, -values[key])
    )
    labels: dict[str, list[tuple[str, Value]]] = {
        config: [(key, said[key]) for key in varied if key in said]
        for config, said in asked.items()
    }
    distinct = {tuple(label) for label in labels.values()}
    return labels if varied and len(distinct) == len(labels) else None


def dotted(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their path: ``{"net._target_": ..., "net.levels": 4}``."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= dotted(value, f"{prefix}{name}.")
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def strays(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The settings in which runs differ from most of the others, by run id.

    Args:
        runs: that say to be one setting; each may have its own seed.
    """
    trees = [{**run.settings, "seed": None} for run in runs]
    if all(tree == trees[0] for tree in trees):
        return {}
    flats = [dotted(counted(tree)) for tree in trees]
    usual = max(flats, key=flats.count)
    return {
        run.run_id: sorted(
            name for name in {**usual, **flat} if flat.get(name, ...) != usual.get(name, ...)
        )
        for run, flat in zip(runs, flats, strict=True)
        if flat != usual
    }


def typed(text: str) -> Value:
    """The value that an override's text stands for, as far as it is a plain one."""
    plain: dict[str, Value] = {"true": True, "false": False, "null": None}
    if text.lower() in plain:
        return plain[text.lower()]
    for kind in (int, float):
        try:
            value = kind(text)
            if math.isfinite(value):  # no other number is one in JSON
                return value
        except (ValueError, OverflowError):
            continue
    return text.strip("'\"")


def shown(value: Value) -> str:
    """A setting's value as a reader types it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "null"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def label_text(pairs: Sequence[tuple[str, Value]]) -> str:
    """``head=tanh loss.margin=2``; an empty label says "all defaults"."""
    return " ".join(f"{name}={shown(value)}" for name, value in pairs) or "all defaults"


def _pair(override: str) -> tuple[str, str] | None:
    """Name and value of an override that may tell settings apart."""
    key, _, value = override.partition("=")
    return (key, value) if _tells(key) else None


def _tells(key: str) -> bool:
    """Whether an override may tell settings apart: not how a run was watched, or shared out."""
    group = key.split(".")[0]
    return group not in _SAME_NUMBERS and not (group == "trainer" and key in EXCLUDED)


def _asked(run: Run) -> dict[str, str]:
    """Overrides that the run was started with, name → text; the last one counts."""
    found = (_OVERRIDE.match(item) for item in run.overrides)
    return {match[1]: match[2].strip("'\"") for match in found if match}


def _entry_name(node: dict[str, Any]) -> str | None:
    target = node.get("_target_")
    if not isinstance(target, str) or not target:
        return None
    parts = target.split(".")
    return parts[-2] if len(parts) > 1 else parts[-1]


def _flatten(prefix: str, node: object, into: dict[str, Value]) -> None:
    if isinstance(node, dict):
        for name, value in node.items():
            if not str(name).startswith("_"):
                _flatten(f"{prefix}.{name}", value, into)
    elif isinstance(node, float) and not math.isfinite(node):
        into[prefix] = str(node)
    elif node is None or isinstance(node, str | int | float | bool):
        into[prefix] = node
    else:
        into[prefix] = json.dumps(node, sort_keys=True)


def _key(value: Value) -> tuple[str, Value]:
    """What tells values apart: 1, 1.0 and true are three."""
    return type(value).__name__, value
