"""Records of runs as a leaderboard reads them: checked, because they may be other people's."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from lightning_sep.errors import one_line
from lightning_sep.fsio import read_lines
from lightning_sep.memory import no_collection
from lightning_sep.record import FORMAT, RECORD, STATES, misfits

VERIFICATIONS = "verifications.jsonl"  # beside the record: a line for each reproduction
LARGEST = 1e150  # the squares of what is larger are no numbers
PURPOSES = ("single", "search", "final")
VERIFIED = ("bitwise", "numeric", "statistical")  # grades that agree with the record


@dataclass(frozen=True)
class Run:
    """One record, with every field of the type it claims to have."""

    run_id: str
    folder: Path
    state: str
    purpose: str
    task: str
    seed: int | None
    sweep: str | None
    trial: int | None
    config_hash: str
    settings: dict[str, Any]
    choices: dict[str, str]  # the entry of each group; empty in records of before they held it
    overrides: list[str]
    metrics: dict[str, float]
    monitor_name: str
    monitor_mode: str
    monitor_value: float | None
    parameters: int | None
    data: dict[str, str]
    environment: dict[str, Any]
    error: str | None
    examples_file: str | None
    wall_s: float | None
    started: str
    finished: str
    grades: tuple[str, ...] = field(default=(), compare=False)  # of its reproductions

    @property
    def monitor(self) -> tuple[str, str]:
        """What chose its best epoch, and the direction of that."""
        return self.monitor_name, self.monitor_mode

    @property
    def device(self) -> str:
        """What it trained on; empty where the record does not say."""
        return _text(self.environment.get("device"))

    @property
    def uncommitted(self) -> str | None:
        """Hash of changes to the code that no commit holds."""
        return _text(self.environment.get("uncommitted_hash")) or None

    def examples(self, names: Sequence[str]) -> dict[str, list[Any]] | None:
        """Lists with an entry per test example, those of ``names`` that there are; None where the
        file cannot be read."""
        if not self.examples_file:
            return None
        return _read_examples(self.folder / self.examples_file, self.folder, names)

    def history(self) -> dict[str, dict[int, float]]:
        """Metric → epoch → last value that the run wrote down in that epoch."""
        values: dict[str, dict[int, float]] = {}
        try:
            entries = read_lines(self.folder / "metrics.jsonl")
        except OSError:
            return values
        for entry in entries:
            epoch = _integer(entry.get("epoch"))
            for name, said in entry.items():
                value = None if name in ("epoch", "step") else _number(said)
                if epoch is not None and value is not None:
                    values.setdefault(name, {})[epoch] = value
        return values


@dataclass(frozen=True)
class Skipped:
    """A run folder whose record could not be used."""

    folder: str
    reason: str


def read_runs(home: Path) -> tuple[list[Run], list[Skipped]]:
    """All runs under ``home`` that have a record, by run id, and the folders that were skipped.

    A folder without a record (a run under way) is neither. A record that does not fit its hashes,
    or whose per-example file does not, is skipped by name; so are all records of one id that
    disagree. The values per example of a search's runs are of no board, and are not looked at.
    """
    with no_collection():
        return _read_runs(home)


def _read_runs(home: Path) -> tuple[list[Run], list[Skipped]]:
    runs: dict[str, Run] = {}
    skipped: list[Skipped] = []
    doubled: dict[str, list[Run]] = {}
    for name in sorted(os.listdir(home)) if home.is_dir() else ():
        try:
            run = read_run(home / name, examples_of_search=False)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, RecursionError) as problem:
            skipped.append(Skipped(name, one_line(problem)))
            continue
        first = runs.setdefault(run.run_id, run)
        if first is not run and replace(run, folder=first.folder) != first:
            doubled.setdefault(run.run_id, [first]).append(run)
    for run_id, members in doubled.items():
        del runs[run_id]
        folders = [run.folder.name for run in members]
        for place, folder in enumerate(folders):
            others = ", ".join(folders[:place] + folders[place + 1 :])
            reason = f"run {run_id} has another record with other content, in {others}"
            skipped.append(Skipped(folder, reason))
    return list(runs.values()), skipped


def reused_runs(home: Path, runs: Sequence[Run]) -> tuple[list[Run], dict[str, list[str]]]:
    """Runs that a sweep took over as they were, as members of that sweep; and, by sweep, finals
    that it lists as finished and that no record here knows, each in words.

    The same settings are never trained twice, so a trial or a final may be a run that was already
    there: made by ``train``, or by another sweep. Its record names whoever made it; the sweep's own
    lists name it too.
    """
    known = {run.run_id: run for run in runs}
    reused: list[Run] = []
    lost: dict[str, list[str]] = {}
    for path in sorted(home.glob("sweeps/*/finals/*.json")):
        try:
            final = json.loads(path.read_text(encoding="utf-8"))
            run, trial = known.get(final["run_id"]), final["trial"]
            state, seed = final.get("state"), final.get("seed")
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            continue
        sweep = path.parents[1].name
        if run is None:
            if state == "finished":
                said = f"seed {seed} of trial {trial} (run {final['run_id']})"
                lost.setdefault(sweep, []).append(said)
            continue
        if run.purpose == "search":
            run = _with_examples(run)
        if (run.sweep, run.purpose) != (sweep, "final"):
            reused.append(replace(run, sweep=sweep, purpose="final", trial=trial))
    for path in sorted(home.glob("sweeps/*/trials.json")):
        try:
            trials = json.loads(path.read_text(encoding="utf-8"))["trials"]
            members = [(known[one], trial["number"]) for trial in trials for one in trial["runs"]]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        sweep = path.parent.name
        reused += [
            replace(run, sweep=sweep, purpose="search", trial=number)
            for run, number in members
            if run.sweep != sweep
        ]
    return reused, lost


def _with_examples(run: Run) -> Run:
    """A run whose values per example count now; one that they do not fit is no result."""
    try:
        return read_run(run.folder)
    except (OSError, ValueError) as problem:
        return replace(run, state="failed", error=one_line(problem))


def read_run(folder: Path, *, examples_of_search: bool = True) -> Run:
    """The record in a run's folder, checked.

    Args:
        folder: of the run.
        examples_of_search: look at the values per example of a search's run, too.

    Raises:
        OSError: it cannot be read.
        ValueError: it is torn, of a newer format, does not fit its hashes, or has foreign fields.
    """
    with open(f"{folder}/{RECORD}", "rb", buffering=0) as file:
        content = file.read()
    try:
        record = _parsed(content)
    except ValueError as error:
        raise ValueError(f"the record is torn or damaged: {error}") from error
    if not isinstance(record, dict):
        raise ValueError("record.json is not an object")
    version = record.get("format")
    if type(version) is not int or version < 1:
        raise ValueError("the record does not say its format")
    if version > FORMAT:
        raise ValueError(f"record format {version} is newer than this version reads ({FORMAT})")
    for name in ("run_id", "state", "task"):
        if not isinstance(record.get(name), str):
            raise ValueError(f"{name} is missing or not text")
    purpose = _text(record.get("purpose")) or "single"
    for name, said, known in (("state", record["state"], STATES), ("purpose", purpose, PURPOSES)):
        if said not in known:
            raise ValueError(f"{name} {said!r} is none of {', '.join(known)}")
    examples = examples_of_search or purpose != "search"
    if wrong := misfits(folder, record, examples=examples):
        raise ValueError(wrong[0])
    settings, seed = _object(record, "settings"), record.get("seed")
    if seed is not None and _integer(seed) is None:
        raise ValueError(f"seed {seed!r} is no whole number")
    if settings.get("seed", seed) != seed:
        raise ValueError(f"seed {seed}, its settings say {settings['seed']!r}")
    monitor = _object(record, "monitor")
    environment = _object(record, "environment")
    metrics = _numbers(_object(record, "metrics"))
    return Run(
        run_id=record["run_id"],
        folder=folder,
        state=record["state"],
        purpose=purpose,
        task=record["task"],
        seed=seed,
        sweep=_text(record.get("sweep")) or None,
        trial=_integer(record.get("trial")),
        config_hash=_text(record.get("config_hash")) or record["run_id"],
        settings=settings,
        choices={str(group): str(name) for group, name in _object(record, "choices").items()},
        overrides=[str(item) for item in _list(record.get("overrides"))],
        metrics=metrics,
        monitor_name=_text(monitor.get("name")),
        monitor_mode=_text(monitor.get("mode")) or "max",
        monitor_value=_number(monitor.get("value")),
        parameters=_integer(record.get("parameters")),
        data={str(name): str(value) for name, value in _object(record, "data").items()},
        environment=environment,
        error=_text(record.get("error")) or None,
        examples_file=_text(record.get("examples_file")) or None,
        wall_s=_number(record.get("wall_s")),
        started=_text(record.get("started")),
        finished=_text(record.get("finished")),
        grades=_grades(folder, record),
    )


def _parsed(content: bytes) -> Any:
    """What JSON text says.

    The quick parser refuses some of what the slow one takes, such as half a character.
    """
    try:
        return from_json(content)
    except ValueError:
        return json.loads(content.decode())


def _grades(folder: Path, record: Mapping[str, Any]) -> tuple[str, ...]:
    """Grades of the reproductions of this very record."""
    path = f"{folder}/{VERIFICATIONS}"
    if not os.path.exists(path):
        return ()
    own = _object(record, "hashes").get("record")
    said = [one.get("grade") for one in read_lines(Path(path)) if own and one.get("record") == own]
    return tuple(one for one in said if one in (*VERIFIED, "different"))


def _read_examples(path: Path, folder: Path, names: Sequence[str]) -> dict[str, list[Any]] | None:
    """Some lists of a per-example file.

    Only these are parsed: a file also holds classes, groups and more, which take six times as
    long. A key can be looked for in the text, since within JSON's strings a quote is escaped.
    """
    if path.parent != folder:  # a record must not point out of its own folder
        return None
    found: dict[str, list[Any]] = {}
    try:
        text = path.read_text(encoding="utf-8")
        for name in names:
            key = json.dumps(name) + ":"
            place = text.find(key)
            if place < 0:
                continue
            start = text.index("[", place + len(key))
            if text[place + len(key) : start].strip():
                return None
            found[name] = _DECODER.raw_decode(text, start)[0]
    except (OSError, ValueError, RecursionError):
        return None
    return found if text.rstrip().endswith("}") else None


_DECODER = json.JSONDecoder()


def _object(record: Mapping[str, Any], name: str) -> dict[str, Any]:
    value = record.get(name)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"{name} is not an object")
    return value


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _integer(value: object) -> int | None:
    """A whole number that others can read, too: of 64 bits."""
    return value if type(value) is int and abs(value) < 1 << 63 else None


def _numbers(values: dict[str, Any]) -> dict[str, float]:
    """Those values that are finite numbers."""
    said = values.values()
    if set(map(type, said)) == {float} and all(abs(one) <= LARGEST for one in said):
        return values  # as in nearly all records
    numbers = ((name, _number(value)) for name, value in values.items())
    return {name: number for name, number in numbers if number is not None}


def _number(value: object) -> float | None:
    """A finite number, or None: a score that left the finite numbers is a failure, not a score."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) <= LARGEST else None
