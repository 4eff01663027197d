"""What a sweep was begun with, and the ways to open it."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from optuna.trial import BaseTrial, TrialState

from lightning_sep.errors import ConfigError
from lightning_sep.find import begun_run
from lightning_sep.fsio import PATIENCE, storage_errors, write_json
from lightning_sep.leases.lease import forget_crashes
from lightning_sep.leases.lock import FileLock
from lightning_sep.leases.presence import patience_s
from lightning_sep.sweep.definition import Definition, Sweep, read_sweep
from lightning_sep.sweep.differences import differences
from lightning_sep.sweep.names import JOURNAL, sweep_folder, sweep_names
from lightning_sep.sweep.space import Point
from lightning_sep.sweep.study import SweepStudy
from lightning_sep.sweep.versions import entry_versions, versions

FORMAT = 2  # of sweep.json; sweeps of format 1 can be looked at
_ASKS = (
    *("settings", "metric", "direction", "repeats", "finalists", "final_seeds", "question"),
    "race",
)
_KEYS = ("name", "fingerprint", "path", "extra", "trials", "asks", "source", "versions")


def create(
    home: Path,
    definition: Definition,
    targets: Sequence[str] = (),
    entries: Sequence[str] = (),
    patience: float | None = None,
) -> SweepStudy:
    """Begin a sweep or go on with it.

    The points of a finite space and the patience of its workers are kept as they were when it was
    begun: an entry that is added to ``conf/`` later stops no worker.

    Args:
        home: the root of all runs.
        definition: what is asked.
        targets: the class paths that its settings name.
        entries: the entries of ``conf/`` that its settings are made of, as ``group/entry``.
        patience: seconds without a sign of life after which work is free, where its workers run;
            LIGHTNING_SEP_LEASE_S goes before it.

    Raises:
        ConfigError: a sweep of this name asks something else or was begun with other versions.
    """
    folder = sweep_folder(home, definition.name)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sweep.json"
    with FileLock(folder / "sweep.lock"):
        record = _read(path)
        if record is not None:
            _check_same(record, definition)
        if record is None or record["trials"] != definition.sweep.trials:
            points = definition.grid() if record is None else None
            grid = None if points is None else [point.as_json() for point in points]
            settled = definition.sweep.settled(finite=points is not None)
            began = datetime.now(UTC).isoformat(timespec="seconds")
            record = {
                "format": FORMAT,
                "name": definition.name,
                "fingerprint": definition.fingerprint,
                "path": definition.path,
                "extra": list(definition.extra),
                "config_dir": definition.config_dir,
                "trials": definition.sweep.trials,
                "finalists": definition.finalists,
                "command": definition.command,
                "patience_s": patience_s(patience) if record is None else record["patience_s"],
                "asks": {name: getattr(settled, name) for name in _ASKS}
                if record is None
                else record["asks"] | {"question": settled.question},
                "source": definition.source,
                "targets": sorted(set(targets)),
                "entries": sorted(set(entries)),
                "versions": versions(targets, entries, definition.config_dir),
                "created": began if record is None else record["created"],
                "grid": grid if record is None else record["grid"],
            }
            write_json(path, record)
        definition = _settled(definition, record["asks"])
        for lease in (folder / "leases").glob("*.json"):
            forget_crashes(lease)
    return SweepStudy(
        home, definition, points=_points(record), patience_s=float(record["patience_s"])
    )


def withdraw(study: SweepStudy) -> None:
    """Take a sweep off that was refused as it began; one that somebody has worked on stays."""
    folder = sweep_folder(study.home, study.definition.name)
    with FileLock(folder / "sweep.lock"):
        if all(trial.state is TrialState.WAITING for trial in study.trials()):
            for file in (folder / "sweep.json", *folder.glob(f"{Path(JOURNAL).stem}.*")):
                file.unlink(missing_ok=True)
    with suppress(OSError):  # what Slurm was asked stays
        folder.rmdir()


def open_sweep(home: Path, name: str) -> SweepStudy:
    """Open a sweep that was begun, as a worker does: by the definition kept on disk.

    Raises:
        ConfigError: there is none, or this process has other versions than the sweep.
    """
    record = _sweep_record(home, name)
    definition = read_sweep(
        record["source"],
        record["path"],
        record["extra"],
        name=name,
        trials=record["trials"],
        finalists=record.get("finalists"),
        config_dir=record["config_dir"],
    )
    _check_format(record, name)
    _check_versions(record, name)
    return SweepStudy(
        home,
        _settled(definition, record["asks"]),
        points=_points(record),
        patience_s=float(record["patience_s"]),
        check=partial(_check_entries, record, name),
    )


def look(home: Path, name: str) -> SweepStudy:
    """Open a sweep to look at: its file is not run, nothing is written, and any version may look.

    Raises:
        ConfigError: there is no such sweep.
    """
    record = _sweep_record(home, name)
    definition = Definition(
        name=name,
        path=record["path"],
        source=record["source"],
        extra=tuple(record["extra"]),
        sweep=Sweep(trials=record["trials"], **_NO_RACE | record["asks"]),
        propose=_not_read,
    )
    size = record.get("points") if record["format"] == 1 else None
    points = [Point({}, {}, [])] * size if isinstance(size, int) else _points(record)
    patience = float(record.get("patience_s", 0) or patience_s())
    return SweepStudy(home, definition, points=points, patience_s=patience, look=True)


_NO_RACE = {"race": False}  # a sweep that was begun before there were any has none


def _settled(definition: Definition, asks: dict[str, Any]) -> Definition:
    """The definition with what its file left open as it was when the sweep was begun."""
    kept = {name: (_NO_RACE | asks)[name] for name in ("finalists", "race")}
    return replace(definition, sweep=replace(definition.sweep, **kept))


def _points(record: dict[str, Any]) -> list[Point] | None:
    grid = record.get("grid")
    return None if grid is None else [Point.read(content) for content in grid]


def _not_read(trial: BaseTrial) -> Iterator[str]:
    raise AssertionError("this sweep was opened to be looked at")


def _read(path: Path) -> dict[str, Any] | None:
    """The content of ``sweep.json``; None where there is none.

    Raises:
        ConfigError: it is damaged.
        OSError: the disk has not answered for too long, or the home is away.
    """
    try:
        record = json.loads(PATIENCE.until_back(path.read_text))
    except FileNotFoundError:
        if PATIENCE.away():
            raise
        return None
    except ValueError as error:
        raise ConfigError(f"{path} is damaged ({error}); {_NEW}") from error
    if not isinstance(record, dict) or any(key not in record for key in _KEYS):
        raise ConfigError(f"{path} is damaged: fields are missing; {_NEW}")
    return record


def _sweep_record(home: Path, name: str) -> dict[str, Any]:
    record = _read(sweep_folder(home, name) / "sweep.json")
    if record is None:
        known = ", ".join(sweep_names(home)) or "none yet"
        tell = f"`lightning-sep status {name}` and `lightning-sep logs {name}` tell of it. "
        hint = f"It is a run: {tell}" if begun_run(name, home) else ""
        raise ConfigError(f"no sweep '{name}' in {home / 'sweeps'}. {hint}Known: {known}.")
    return record


_NEW = "`--name NEW` starts a new sweep; runs with the same settings are reused, none is lost"


def _check_same(record: dict[str, Any], definition: Definition) -> None:
    _check_format(record, definition.name)
    if record["fingerprint"] != definition.fingerprint:
        points = definition.grid()
        proposed = None if points is None else [point.overrides for point in points]
        listed = differences(record, definition, proposed)
        if record.get("command"):
            listed.append(f"begun with: {record['command']}")
        raise ConfigError(
            f"sweep '{definition.name}' was begun with another space, objective or settings than "
            f"{definition.path} has now; {_NEW}" + "".join(f"\n    {one}" for one in listed)
        )
    _check_versions(record, definition.name)


def _check_format(record: dict[str, Any], name: str) -> None:
    if record.get("format") != FORMAT:
        raise ConfigError(f"sweep '{name}' has format {record.get('format')}, not {FORMAT}; {_NEW}")


def _check_versions(record: dict[str, Any], name: str) -> None:
    entries = record.get("entries", [])
    here = versions(record["targets"], entries, record["config_dir"])
    _refuse_others(record, here, name, record["versions"])


def _check_entries(record: dict[str, Any], name: str) -> None:
    """What a process reads anew for each trial is to be what the sweep was begun with."""
    here = entry_versions(record.get("entries", []), record["config_dir"])
    _refuse_others(record, here, name, here)


def _refuse_others(
    record: dict[str, Any], here: dict[str, str], name: str, keys: Iterable[str]
) -> None:
    other = [
        f"{key} {value} (here {here.get(key)})"
        for key, value in record["versions"].items()
        if key in keys and here.get(key) != value
    ]
    if other:
        raise ConfigError(f"sweep '{name}' was begun with {', '.join(other)}; {_NEW}")
