"""The commands of the mirror: upload what a home has, and make a mirror of runs that have none."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightning_sep.errors import ConfigError, SweepError, one_line
from lightning_sep.fsio import read_lines, write_json
from lightning_sep.leases.lease import Content
from lightning_sep.record import read_record
from lightning_sep.run_folder import LEASE
from lightning_sep.terminal import plain, with_codes
from lightning_sep.tracking.dashboard import Mirror
from lightning_sep.tracking.sender import Sender, refusals
from lightning_sep.tracking.settings import Tracking
from lightning_sep.tracking.tracker import Tracker, read_histograms, same_environment
from lightning_sep.tracking.view import offer_view

NOTE = "synced.json"  # beside W&B's files: what W&B had when the run was last uploaded
_AT_ONCE = 8
_TRIES = 3  # runs that fail before the first one that goes up


def sync(
    names: Sequence[str] = (),
    *,
    project: str | None = None,
    entity: str | None = None,
    home: Path,
) -> int:
    """Upload runs that were mirrored offline, those that still run as far as they are.

    W&B is asked what it has of a run, and gets what comes after that: a command that was
    interrupted, or is said again and again while a sweep runs, sends no step twice.

    Args:
        names: runs and sweeps; all of the home without one.
        project: another project than the runs were mirrored for.
        entity: another user or team.
        home: folder of all runs.

    Returns:
        The exit code.

    Raises:
        ConfigError: there is no such run or sweep, none is mirrored, or W&B knows nobody here.
        SweepError: runs could not be uploaded; the same command goes on.
    """
    mirrored = [folder for folder in _runs(names, home) if _is_mirrored(folder)]
    if names and not mirrored:
        raise ConfigError(
            f"{', '.join(names)}: mirrored to W&B by no run (tracking=none?); "
            f"`lightning-sep mirror {names[0]}` makes the mirror, without training"
        )
    with tempfile.TemporaryDirectory() as place:
        due = [
            (folder, mirror, noted)
            for folder in mirrored
            if (mirror := _mirror(folder, project, entity)) is not None
            and (noted := _state(folder, mirror)) != _noted(folder)
        ]
        if not due:
            print(f"nothing new: {_count(len(mirrored))} up to date")
            return 0
        with same_environment(Path(place)):
            os.environ["WANDB_MODE"] = "online"  # whatever the runs were told to do
            failed, url, seen = _upload_all(due, Path(place))
            for (entity, where), monitors in seen.items():
                offer_view(entity, where, monitors, home)
    if failed:
        folder, error = failed[0]
        raise SweepError(
            f"{len(failed)} of {_count(len(due))} could not be uploaded ({folder.name}: {error}); "
            "the same command goes on"
        )
    print(f"{_count(len(due))} uploaded, {len(mirrored) - len(due)} up to date: {url}")
    return 0


def mirror(names: Sequence[str], *, home: Path) -> int:
    """Make the offline mirror of runs that have ended, from their own files.

    Args:
        names: runs and sweeps.
        home: folder of all runs.

    Returns:
        The exit code.

    Raises:
        ConfigError: there is no such run or sweep, or none of them has ended.
        SweepError: W&B cannot write a mirror.
    """
    made = False
    for folder in _runs(names, home):
        record = read_record(folder)
        if record is None or not record.get("monitor"):
            print(f"{folder.name}: has no result yet", file=sys.stderr, flush=True)
            continue
        told = _tracking(record).mirror(folder, record)
        try:
            Tracker(told, folder=folder, mode="offline", raises=True).finish(record)
        except Exception as error:
            text = plain(one_line(error))
            raise SweepError(f"no mirror of {folder.name}: {text}") from error
        print(_part(folder))
        made = True
    if not made:
        raise ConfigError(f"{', '.join(names)}: no run has a result that could be mirrored")
    return 0


def _runs(names: Sequence[str], home: Path) -> list[Path]:
    """The folders of runs that are meant, each once.

    Raises:
        ConfigError: there is no such run or sweep, or several runs begin like this.
    """
    every = {path.parent.name: path.parent for path in sorted(home.glob("*/settings.yaml"))}
    found: dict[str, Path] = {}
    for name in names:
        path = Path(name)
        if (path / "settings.yaml").is_file():
            found[path.name] = path
        elif (home / "sweeps" / name).is_dir():
            own = set(_of_sweep(home, name, every.values()))
            found |= {one: folder for one, folder in every.items() if one in own}
        else:
            like = [one for one in every if one.startswith(name)]
            if len(like) != 1:
                what = f"is not unique ({', '.join(like)})" if like else "is no run and no sweep"
                raise ConfigError(f"'{name}' {what} in {home}")
            found[like[0]] = every[like[0]]
    return list(found.values()) if names else list(every.values())


def _of_sweep(home: Path, name: str, folders: Any) -> Iterator[str]:
    """The ids of a sweep's runs: those that it asked for, and others' that it found finished."""
    for folder in folders:
        record = read_record(folder)
        kept = Mirror.read(folder)
        if (record or {}).get("sweep") == name or (kept and kept.config.get("sweep") == name):
            yield folder.name
    with suppress(OSError, ValueError, KeyError, TypeError):
        report = json.loads((home / "sweeps" / name / "trials.json").read_text())
        for trial in report["trials"]:
            yield from filter(None, trial["runs"])
        for final in report["finals"]:
            yield final["run_id"]


def _is_mirrored(folder: Path) -> bool:
    own = folder / "wandb"
    return Mirror.read(folder) is not None or any(own.glob("*run-*/*.wandb"))


def _tracking(record: Mapping[str, Any]) -> Tracking:
    """The settings that a run was tracked by."""
    said = record["settings"].get("tracking") or {}
    return Tracking(
        mode="offline",
        project=said.get("project"),
        entity=said.get("entity"),
        checkpoint=bool(said.get("checkpoint")),
    )


def _mirror(folder: Path, project: str | None, entity: str | None) -> Mirror | None:
    """What W&B is told of a run; ``None`` of one that left nothing to tell."""
    kept = Mirror.read(folder)
    if kept is None:  # of before there was such a file
        record = read_record(folder)
        if record is None or not record.get("monitor"):
            return None
        kept = _tracking(record).mirror(folder, record)
    return replace(kept, project=project or kept.project, entity=entity or kept.entity)


def _state(folder: Path, mirror: Mirror) -> dict[str, Any]:
    """What W&B will have after an upload."""
    rows = read_lines(folder / "metrics.jsonl")
    record = read_record(folder)
    return {
        "server": os.environ.get("WANDB_BASE_URL"),
        "project": mirror.project,
        "entity": mirror.entity,
        "step": rows[-1].get("step") if rows else None,
        "state": record["state"] if record is not None else _unfinished(folder),
    }


def _unfinished(folder: Path) -> str:
    lease = Content.read(folder / LEASE)
    return "running" if lease is not None and lease.token else "stopped"


def _noted(folder: Path) -> Any:
    try:
        return json.loads((folder / "wandb" / NOTE).read_text())
    except (OSError, ValueError):
        return None


Due = tuple[Path, Mirror, dict[str, Any]]
Seen = dict[tuple[str, str], list[tuple[str, str]]]


def _upload_all(due: Sequence[Due], place: Path) -> tuple[list[tuple[Path, str]], str | None, Seen]:
    """Upload several runs at a time; until one has gone up, one after the other and three at most,
    since W&B may not answer at all.

    Returns:
        What failed and why, where the last project is to be seen, and what the runs of each entity
        and project are chosen by.
    """
    failed: list[tuple[Path, str]] = []
    seen: Seen = {}
    url = None
    left = list(due)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while left and (url is not None or len(failed) < _TRIES):
            some = left if url is not None else left[:1]
            left = left[len(some) :]
            tasks = {pool.submit(_upload, *one, place): one for one in some}
            for number, task in enumerate(as_completed(tasks), start=1):
                try:
                    url, where = task.result()
                    seen.setdefault(where, []).append(tasks[task][1].monitor)
                except Exception as error:
                    text = plain(one_line(error))
                    if isinstance(error, refusals()):
                        raise ConfigError(f"W&B: {text} (`wandb login`)") from error
                    failed.append((tasks[task][0], text))
                _tell(len(due) - len(left) - len(some) + number, len(due))
    return failed + [(folder, "") for folder, _, _ in left], url, seen


def _tell(done: int, total: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        line = f"\r{done} of {_count(total)}"
        print(line, end=end, file=with_codes(sys.stderr), flush=True)


def _upload(
    folder: Path, mirror: Mirror, noted: dict[str, Any], place: Path
) -> tuple[str, tuple[str, str]]:
    """Send what W&B lacks of a run.

    Returns:
        Where its project is to be seen, and its entity and project.
    """
    record = read_record(folder)
    ended = record is not None
    sender = Sender(mirror, mode="online", folder=place, ends=ended)
    try:
        histograms = read_histograms(folder)
        for row in read_lines(folder / "metrics.jsonl"):
            sender.log(row, histograms.get(row["step"], {}))
        if record is not None:
            sender.results(record, folder)
        else:
            sender.state(noted["state"])
    finally:
        sender.finish(int(noted["state"] == "failed"))
    with suppress(OSError):  # of a home that can only be read: W&B is asked again
        write_json(folder / "wandb" / NOTE, noted)
        for part in (folder / "wandb").glob("offline-run-*/*.wandb") if ended else ():
            part.with_suffix(".wandb.synced").touch()  # so that `wandb sync` passes it over
    return sender.url, sender.place


def _part(folder: Path) -> Path:
    return max((folder / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime_ns)


def _count(number: int) -> str:
    return f"{number} run{'' if number == 1 else 's'}"
