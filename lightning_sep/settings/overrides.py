"""What the user types, ``GROUP=ENTRY`` and ``GROUP.SETTING=VALUE``, read by Hydra's grammar."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from lightning_sep.settings.conf import ROOT, contents, entries, entries_in, groups
from lightning_sep.settings.words import closest, nearest


def read(
    overrides: Sequence[str], folders: Sequence[Path], problems: list[str]
) -> tuple[list[tuple[str, str]], list[tuple[str, Any]], set[str]]:
    """Sort overrides into choices of entries, values of settings, and groups with no such entry.

    Args:
        overrides: as typed.
        folders: where entries lie.
        problems: is told what cannot be read.
    """
    from hydra.core.override_parser.types import OverrideType

    known_groups = groups()
    chosen: list[tuple[str, str]] = []
    values: list[tuple[str, Any]] = []
    unknown: set[str] = set()
    for text in overrides:
        override = _parsed(text)
        if isinstance(override, str):
            problems.append(override)
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
            several = f"{key}=1,2" if "(" in text else text  # range(1,3) is no list of values
            problems.append(
                f"{text}: one run takes one value. For a list write {key}=[1,2]; to try several "
                f"values: lightning-sep sweep --grid {several}"
            )
        elif "." in key or key in ROOT:
            group = key.split(".")[0]
            if group in known_groups or key in ROOT:
                value = override.value()
                if key == "init_from" and isinstance(value, int | float):  # an id all of digits
                    value = text.partition("=")[2]
                values.append((key, value))
            else:
                problems.append(f"{text}: no group {group!r}.{nearest(group, known_groups)}")
        elif key not in known_groups:
            known = [*known_groups, *ROOT]
            hint = "" if closest(key, known) else _of_a_group(key, known_groups)
            problems.append(f"{text}: no group or setting {key!r}.{hint}{nearest(key, known)}")
        else:
            known, value = entries_in(folders, key), override.value()
            if value in known:
                chosen.append((key, str(value)))
            else:
                unknown.add(key)
                problems.append(f"no {key} {value!r} in conf/{key}.{nearest(str(value), known)}")
    return chosen, values, unknown


def _of_a_group(key: str, known_groups: Sequence[str]) -> str:
    """A hint where a setting stands without its group."""
    names = [f"{group}/{name}" for group in known_groups for name in entries(group)]
    groups_of: dict[str, str] = {}
    for name, nodes in contents(names).items():
        group = name.partition("/")[0]
        for node in nodes:
            inner = node.get(group)
            for setting in inner if isinstance(inner, dict) else node:
                groups_of.setdefault(setting, group)
    close = closest(key, [one for one in groups_of if one not in ("_target_", "defaults")])
    return f" Did you mean '{groups_of[close]}.{close}'?" if close else ""


@lru_cache(maxsize=1024)
def _parsed(text: str) -> Any:
    """Hydra's reading of one override, or what is wrong with it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(text)
    except (HydraException, ValueError, RecursionError) as error:
        return _unreadable(text, error)


def _unreadable(text: str, error: Exception) -> str:
    key, equals, value = text.partition("=")
    if not equals:
        return f"{text!r} is not an override: write GROUP=ENTRY or GROUP.SETTING=VALUE, no spaces"
    if value and not value.startswith(("'", '"', "[", "{")) and "'" not in value:
        return f"{text!r} cannot be read. Special characters need quotes: \"{key}='{value}'\""
    reason = str(error).splitlines()[0]
    return f"{text!r} cannot be read: {reason}"
