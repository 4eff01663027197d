"""What the runs of a board must share, and which of them do not.

A protocol is an entry of ``conf/board/``: the one that is called like the board, else ``default``.
What it leaves open is what most of the board's runs have. Whoever breaks it is named with the
reason and not ranked, and changes no other row.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from lightning_sep.errors import ConfigError, one_line
from lightning_sep.leaderboard.runs import Run
from lightning_sep.settings.conf import conf_folders

DEFAULT = "default"
EQUAL = ("data", "code", "versions", "threads", "device", "ranks")


@dataclass(frozen=True)
class Protocol:
    """The terms of a comparison.

    Args:
        task: name of the task; None: any.
        data: hash of each set by its name; None: those of most runs.
        metric: test metric that ranks; None: the task's own.
        higher_is_better: its direction; None: that of metrics that are known.
        seeds: finished fresh seeds that a row needs; None: as many as its sweep asks for.
        budget: settings that every run must have, such as ``{"trainer.epochs": 12}``.
        equal: what all ranked runs share, of ``EQUAL``.
        versions: the libraries whose versions count.
        committed: code that no commit holds is not ranked, even if all runs share it.
    """

    task: str | None = None
    data: Mapping[str, str] | None = None
    metric: str | None = None
    higher_is_better: bool | None = None
    seeds: int | None = None
    budget: Mapping[str, Any] | None = None
    equal: tuple[str, ...] = EQUAL
    versions: tuple[str, ...] = ()
    committed: bool = False


def protocol_of(board: str, folders: Sequence[Path] | None = None) -> Protocol:
    """The protocol of a board, by its sweep's name.

    Args:
        board: name of the sweep.
        folders: folders with a ``board/``; our own ``conf/`` and that of the working folder
            without it.

    Raises:
        ConfigError: its file cannot be used.
    """
    places = [one / "board" for one in (conf_folders() if folders is None else folders)]
    known = {path.stem: path for place in places for path in sorted(place.glob("*.yaml"))}
    found = Protocol()
    for name in (DEFAULT, board):
        if name in known:
            found = _read(known[name], found)
    return found


def breaches(runs: Sequence[Run], protocol: Protocol) -> dict[str, list[str]]:
    """Why runs do not fit the protocol, by run id; those that do are not in it."""
    found: dict[str, list[str]] = {}

    def breaks(run: Run, reason: str) -> None:
        found.setdefault(run.run_id, []).append(reason)

    aspects = list(_aspects(protocol))
    alike: dict[tuple[str | None, ...], list[Run]] = {}  # thousands of runs, few environments
    for run in runs:
        alike.setdefault(tuple(value_of(run) for _, value_of, _ in aspects), []).append(run)
    sizes = {said: (len(each), max(run.finished for run in each)) for said, each in alike.items()}
    for place, (aspect, _, given) in enumerate(aspects):
        wanted = given
        if wanted is None:
            wanted = _usual((said[place], *size) for said, size in sizes.items())
        if wanted is None:
            continue
        for said, members in alike.items():
            if said[place] != wanted:
                own = "not said" if said[place] is None else said[place]
                for run in members:
                    breaks(run, f"{aspect} {own}, this board's is {wanted}")
    if "code" in protocol.equal:
        usual = _usual((run.uncommitted or "committed", 1, run.finished) for run in runs)
        for run in runs:
            own = run.uncommitted or "committed"
            if own != "committed" and (protocol.committed or own != usual):
                breaks(run, f"uncommitted code (changes {own})")
    for name, wanted in (protocol.budget or {}).items():
        for run in runs:
            value = _setting(run.settings, name)
            if value != wanted:
                breaks(run, f"{name}={value}, this board's is {wanted}")
    return found


def _aspects(
    protocol: Protocol,
) -> Iterable[tuple[str, Callable[[Run], str | None], str | None]]:
    """What is compared: its name, how a run says it, and what it must be where that is given."""
    equal = set(protocol.equal)
    if "data" in equal:
        given = None if protocol.data is None else _data_text(protocol.data)
        yield "data", lambda run: _data_text(run.data) if run.data else None, given
    if "code" in equal:
        yield "code", lambda run: _short(run.environment.get("code_hash")), None
    if "versions" in equal:
        for library in protocol.versions:
            yield library, lambda run, library=library: _version(run, library), None  # type: ignore[misc]
    for aspect in ("threads", "device"):
        if aspect in equal:
            yield aspect, lambda run, name=aspect: _text(run.environment.get(name)), None  # type: ignore[misc]
    if "ranks" in equal:  # a record speaks of them where there are several
        yield "ranks", lambda run: _text(run.environment.get("ranks", 1)), None


def _usual(values: Iterable[tuple[str | None, int, str]]) -> str | None:
    """What most runs have; of two that are as frequent, what the newest run has.

    Args:
        values: a value, how many runs have it, and when the newest of them finished.
    """
    seen: dict[str | None, tuple[int, str]] = {}
    for value, count, finished in values:
        before, newest = seen.get(value, (0, ""))
        seen[value] = before + count, max(newest, finished)
    return max(seen, key=seen.__getitem__, default=None)


def _version(run: Run, library: str) -> str | None:
    versions = run.environment.get("versions")
    found = versions.get(library) if isinstance(versions, Mapping) else None
    return _text(found if found is not None else run.environment.get(library))


def _data_text(data: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value[:12]}" for name, value in sorted(data.items()))


def _short(value: object) -> str | None:
    return value[:12] if isinstance(value, str) else None


def _text(value: object) -> str | None:
    return str(value) if isinstance(value, str | int | float) else None


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    node: Any = settings
    for part in name.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _read(path: Path, base: Protocol) -> Protocol:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} is not a protocol of a board: {one_line(error)}") from error
    known = [field.name for field in fields(Protocol)]
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path} is not a protocol of a board: {', '.join(known)} are its keys")
    wrong = [str(name) for name in content if name not in known]
    problems = [f"unknown {', '.join(wrong)}; known: {', '.join(known)}"] if wrong else []
    for name, kinds, words in _KINDS:
        value = content.get(name)
        if value is not None and (
            not isinstance(value, kinds) or isinstance(value, bool) != (kinds is bool)
        ):
            problems.append(f"{name}: {words} is needed, got {value!r}")
    unknown = [one for one in content.get("equal") or () if one not in EQUAL]
    if unknown:
        problems.append(f"equal: {unknown[0]!r} is none of {', '.join(EQUAL)}")
    seeds = content.get("seeds")
    if isinstance(seeds, int) and seeds < 1:
        problems.append(f"seeds: a whole number from 1 is needed, got {seeds}")
    if problems:
        raise ConfigError(f"{path}: {'; '.join(problems)}")
    said: dict[str, Any] = {name: getattr(base, name) for name in known}
    said |= {name: value for name, value in content.items() if value is not None}
    return Protocol(**said | {name: tuple(said[name]) for name in ("equal", "versions")})


_KINDS: tuple[tuple[str, type, str], ...] = (
    ("task", str, "a name"),
    ("data", dict, "a hash by the name of each set"),
    ("metric", str, "a name such as test/r2"),
    ("seeds", int, "a whole number"),
    ("budget", dict, "a value by the name of each setting"),
    ("equal", list, "a list"),
    ("versions", list, "a list of libraries"),
    ("committed", bool, "true or false"),
    ("higher_is_better", bool, "true or false"),
)
