"""What a sweep asks now that it did not ask when it was begun, one difference a line."""

import ast
import difflib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from lightning_sep.sweep.definition import Definition, meaning_of, override_key

_LINES = 8  # changed lines of a file that are shown, at most


def differences(
    record: Mapping[str, Any], definition: Definition, points: Sequence[Sequence[str]] | None
) -> list[str]:
    """Each difference, as ``what: old → new``.

    Args:
        record: ``sweep.json``, as the sweep was begun.
        definition: what is asked now.
        points: what the points of a finite space propose now.
    """
    asked = dict(record["asks"])
    sweep = definition.sweep.settled(finite=points is not None)
    now = {name: getattr(sweep, name) for name in asked if name != "question"}
    found = [
        *_settings("shared setting", asked.pop("settings", ()), now.pop("settings", ())),
        *_settings("given setting", record["extra"], definition.extra),
        *(f"{key}: {asked[key]} → {now[key]}" for key in now if asked[key] != now[key]),
    ]
    if record["path"] != "--grid" or not found:
        found += _lines(record["source"], definition.source)
    before = {" ".join(one["overrides"]) for one in record.get("grid") or ()}
    after = {" ".join(one) for one in points or ()}
    if before and after and not found:
        found += [f"no longer tried: {one}" for one in sorted(before - after)]
        found += [f"new: {one}" for one in sorted(after - before)]
    return found


def _settings(what: str, before: Iterable[str], now: Iterable[str]) -> Iterator[str]:
    old = {override_key(one): one.partition("=")[2] for one in before}
    new = {override_key(one): one.partition("=")[2] for one in now}
    for key in {**old, **new}:
        if old.get(key) != new.get(key):
            shown = (one.get(key, "(not given)") for one in (old, new))
            yield f"{what} {key}: {' → '.join(shown)}"


def _lines(before: str, now: str) -> Iterator[str]:
    """What changed in a file's meaning: comments, layout and the budget are left out."""
    old, new = (ast.unparse(meaning_of(one)).splitlines() for one in (before, now))
    matcher = difflib.SequenceMatcher(None, old, new, autojunk=False)
    changes = [one for one in matcher.get_opcodes() if one[0] != "equal"]
    for number, (_, first, last, start, end) in enumerate(changes):
        if number == _LINES:
            yield f"and {len(changes) - _LINES} more places"
            return
        shown = (" ".join(map(str.strip, one)) for one in (old[first:last], new[start:end]))
        yield " → ".join(f"`{one}`" if one else "(nothing)" for one in shown)
