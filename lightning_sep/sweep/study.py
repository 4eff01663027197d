"""A sweep on disk: its definition, its trials in an Optuna journal, and its finals."""

import json
import math
import os
import platform
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any
from uuid import uuid4

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.pruners import NopPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState

from lightning_sep import __version__
from lightning_sep.errors import ConfigError, LeaseLost
from lightning_sep.fsio import storage_errors, write_aside, write_json
from lightning_sep.sweep.definition import Definition, Sweep, read_sweep
from lightning_sep.sweep.lease import Lease, Leases, read_record
from lightning_sep.sweep.lock import FileLock

FORMAT = 1
JOURNAL = "journal.log"
_SHOWN = ("settings", "metric", "direction", "repeats", "finalists", "final_seeds", "question")


class _JournalLock(BaseJournalFileLock):
    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)

    def acquire(self) -> bool:
        return self._lock.acquire()

    def release(self) -> None:
        self._lock.release()


class Journal(JournalFileBackend):
    """Optuna's journal file, whose torn last line is cut off before anything is appended to it.

    A writer that is killed may leave half a line. What the next one appends would stick to it, and
    from then on nobody could open the study.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lock = _JournalLock(path.with_name(path.name + ".lock"))
        lock.acquire()
        try:
            mend(path)
        finally:
            lock.release()
        with storage_errors(path):
            super().__init__(str(path), lock)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records, whole and synced."""
        text = "".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs)
        self._lock.acquire()
        try:
            with storage_errors(self.path):
                mend(self.path)
                with self.path.open("ab") as file:
                    file.write(text.encode())
                    file.flush()
                    os.fsync(file.fileno())
        finally:
            self._lock.release()


def mend(path: Path) -> Path | None:
    """Cut a torn last line off a journal; only under its lock.

    Returns:
        Where the torn bytes are kept; None when the journal is whole.
    """
    if not path.exists():
        return None
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        whole = size
        while whole:
            start = _line_start(file, whole)
            file.seek(start)
            line = file.read(whole - start)
            if line.endswith(b"\n") and _is_json(line):
                break
            whole = start
        if whole == size:
            return None
        file.seek(whole)
        torn = file.read()
        kept = path.with_name(f"{path.name}.torn-{uuid4().hex[:8]}")
        write_aside(kept, torn)
        file.truncate(whole)
        os.fsync(file.fileno())
    return kept


def _line_start(file: Any, end: int) -> int:
    """Where the line begins that ends at byte ``end``."""
    position = end - 1  # its own line break does not count
    while position > 0:
        step = min(4096, position)
        file.seek(position - step)
        found = file.read(step).rfind(b"\n")
        if found >= 0:
            return int(position - step + found + 1)
        position -= step
    return 0


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def versions() -> dict[str, str]:
    """The versions that must not change within a sweep."""
    found = {"lightning_sep": __version__, "python": platform.python_version()}
    for package in ("torch", "pytorch-lightning", "optuna"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found


@dataclass(frozen=True)
class Claimed:
    """A trial that this worker may run."""

    trial: Trial
    lease: Lease
    proposed: list[str]
    reported: set[int]
    """Epochs that an earlier worker has reported already."""
    error: str | None = None
    """Why the trial cannot be run at all."""


@dataclass(frozen=True)
class Final:
    """One fresh-seed run of a finalist."""

    trial: int
    seed: int
    proposed: list[str]

    @property
    def key(self) -> str:
        """Name of its lease and its result."""
        return f"final-{self.trial:04d}-{self.seed}"


class SweepStudy:
    """One sweep in ``<home>/sweeps/<name>``.

    Args:
        home: the root of all runs.
        definition: what is asked.
        size: number of points of a finite space, where the space itself need not be known.
    """

    def __init__(self, home: Path, definition: Definition, *, size: int | None = None) -> None:
        self.home = home
        self.definition = definition
        self.folder = sweep_folder(home, definition.name)
        self.lock = FileLock(self.folder / "sweep.lock")
        self._size = size
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        with self.lock:
            storage = JournalStorage(Journal(self.folder / JOURNAL))
            self.study = optuna.create_study(
                storage=storage,
                study_name=definition.name,
                direction=definition.sweep.direction,
                pruner=definition.sweep.pruner or NopPruner(),
                sampler=self._sampler(0),
                load_if_exists=True,
            )

    @cached_property
    def points(self) -> list[dict[str, Any]] | None:
        """The points of a small finite space in the order of their trials; None for another one."""
        return self.definition.grid()

    @cached_property
    def budget(self) -> int:
        """How many trials there will be: the sweep's, but no more than the space has points."""
        trials = self.definition.sweep.trials
        if self._size is not None:
            return min(trials, self._size)
        return trials if self.points is None else min(trials, len(self.points))

    @property
    def stopping(self) -> bool:
        """Whether the sweep was asked to stop."""
        return stop_file(self.home, self.definition.name).exists()

    def trials(self) -> list[FrozenTrial]:
        """All trials so far, by number."""
        return self.study.get_trials(deepcopy=False)

    # --- search -----------------------------------------------------------------------------

    def claim(self, leases: Leases) -> Claimed | None:
        """A trial to run: one whose worker is gone, one that waits, or a new one within the budget.

        An abandoned trial keeps its number and its parameters, so nothing is counted twice.
        """
        with self.lock:
            trials = self.trials()
            for frozen in trials:
                if frozen.state == TrialState.RUNNING:
                    lease = leases.claim(trial_key(frozen.number))
                    if lease is not None:
                        return self._claimed(Trial(self.study, frozen._trial_id), lease)
            if not any(frozen.state == TrialState.WAITING for frozen in trials):
                if len(trials) >= self.budget:
                    return None
                if self.points is not None:
                    with _quiet_optuna():
                        self.study.enqueue_trial(self.points[len(trials)])
            self.study.sampler = self._sampler(len(trials))
            trial = self.study.ask()
            lease = leases.claim(trial_key(trial.number))
            if lease is None:  # given back by a worker that died over it, far away
                return None
            return self._claimed(trial, lease)

    def _claimed(self, trial: Trial, lease: Lease) -> Claimed:
        reported = set(self.trials()[trial.number].intermediate_values)
        try:
            proposed = self.definition.proposed(trial)
        except Exception as error:
            return Claimed(trial, lease, [], reported, one_line(error))
        if trial.user_attrs.get("overrides") != proposed:
            trial.set_user_attr("overrides", proposed)
        return Claimed(trial, lease, proposed, reported)

    def _sampler(self, number: int) -> TPESampler:
        # Half of the search at least learns from what was found; Optuna's own default of ten
        # random trials would leave nothing for the short sweeps of audio models.
        startup = max(4, min(10, self.definition.sweep.trials // 3))
        return TPESampler(
            seed=(self.definition.seed + number) % 2**32,
            n_startup_trials=startup,
            multivariate=True,
            constant_liar=True,
        )

    def tell(
        self,
        claimed: Claimed,
        state: TrialState,
        *,
        value: float | None = None,
        runs: Sequence[str] = (),
        reason: str | None = None,
    ) -> None:
        """Finish a trial, once.

        Raises:
            LeaseLost: another worker has taken the trial over or told its result.
        """
        with self.lock:
            claimed.lease.guard()
            try:
                claimed.trial.set_user_attr("runs", list(runs))
                if reason is not None:
                    claimed.trial.set_user_attr("reason", reason)
                self.study.tell(
                    claimed.trial, None if state != TrialState.COMPLETE else value, state=state
                )
            except (UpdateFinishedTrialError, ValueError) as error:
                raise LeaseLost(f"trial {claimed.trial.number} was told already") from error
            claimed.lease.finish()

    def give_back(self, claimed: Claimed, *, crashed: bool = False) -> None:
        """Let another worker go on with a trial, under its number and from its checkpoint."""
        with self.lock:
            claimed.lease.guard()
            # Optuna has no public call for this: a trial that waits is popped by the next ask.
            self.study._storage.set_trial_state_values(
                claimed.trial._trial_id, state=TrialState.WAITING
            )
            claimed.lease.release(crashed=crashed)

    def searching(self) -> bool:
        """Whether trials are still to be asked for or to be finished."""
        trials = self.trials()
        return len(trials) < self.budget or any(not t.state.is_finished() for t in trials)

    # --- finals -----------------------------------------------------------------------------

    def finalists(self) -> list[FrozenTrial]:
        """The best distinct settings of the search; ties go to the earlier trial."""
        return finalists(self.definition, self.trials())

    def finals(self) -> list[Final]:
        """All final runs, the best setting's first; empty until the search is over."""
        if self.searching():
            return []
        return [
            Final(trial.number, seed, list(trial.user_attrs["overrides"]))
            for trial in self.finalists()
            for seed in self.definition.sweep.fresh_seeds
        ]

    def final_path(self, final: Final) -> Path:
        """Where the accepted result of a final run lies."""
        return self.folder / "finals" / f"{final.key}.json"

    def accept(self, final: Final, lease: Lease, result: dict[str, Any]) -> None:
        """Write the result of a final run, once.

        Raises:
            LeaseLost: another worker has taken it over.
        """
        with self.lock:
            lease.guard()
            path = self.final_path(final)
            if not path.exists():
                write_json(path, {"trial": final.trial, "seed": final.seed, **result})
            lease.finish()

    def done(self) -> bool:
        """Whether search and finals are over."""
        if self.searching():
            return False
        return all(self.final_path(final).exists() for final in self.finals())


def finalists(definition: Definition, trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """The best distinct settings among finished trials; ties go to the earlier trial."""
    sweep = definition.sweep
    complete = [t for t in trials if t.state == TrialState.COMPLETE and t.values]
    complete.sort(key=lambda t: (sweep.sign * (t.values or [math.inf])[0], t.number))
    chosen: dict[tuple[str, ...], FrozenTrial] = {}
    for trial in complete:
        chosen.setdefault(tuple(trial.user_attrs["runs"]), trial)
    return list(chosen.values())[: sweep.finalists]


def create(home: Path, definition: Definition) -> SweepStudy:
    """Begin a sweep or go on with it.

    Raises:
        ConfigError: a sweep of this name asks something else or was begun with other versions.
    """
    folder = sweep_folder(home, definition.name)
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    path = folder / "sweep.json"
    with FileLock(folder / "sweep.lock"):
        record = read_record(path)
        if record is not None:
            _check_same(record, definition)
        if record is None or record["trials"] != definition.sweep.trials:
            points, sweep = definition.grid(), definition.sweep
            write_json(
                path,
                {
                    "format": FORMAT,
                    "name": definition.name,
                    "fingerprint": definition.fingerprint,
                    "path": definition.path,
                    "extra": list(definition.extra),
                    "config_dir": definition.config_dir,
                    "trials": sweep.trials,
                    "points": None if points is None else len(points),
                    "asks": {name: getattr(sweep, name) for name in _SHOWN},
                    "source": definition.source,
                    "versions": versions(),
                    "created": record["created"]
                    if record
                    else datetime.now(UTC).isoformat(timespec="seconds"),
                },
            )
    return SweepStudy(home, definition)


def open_sweep(home: Path, name: str) -> SweepStudy:
    """Open a sweep that was begun, as a worker does: by the definition kept on disk.

    Raises:
        ConfigError: there is none, or this process has other versions than the sweep.
    """
    definition = stored_definition(home, name)
    _check_same(_sweep_record(home, name), definition)
    return SweepStudy(home, definition)


def read_only(home: Path, name: str) -> SweepStudy:
    """Open a sweep to look at: its file is not run, and any version may look.

    Raises:
        ConfigError: there is no such sweep.
    """
    record = _sweep_record(home, name)
    definition = Definition(
        name=name,
        path=record["path"],
        source=record["source"],
        extra=tuple(record["extra"]),
        sweep=Sweep(trials=record["trials"], **record["asks"]),
        propose=_not_read,
    )
    size = record["points"]
    return SweepStudy(home, definition, size=record["trials"] if size is None else size)


def _not_read(trial: BaseTrial) -> Iterator[str]:
    raise AssertionError("this sweep was opened to be looked at")


def stored_definition(home: Path, name: str) -> Definition:
    """The definition that a sweep was begun with.

    Raises:
        ConfigError: there is no such sweep.
    """
    record = _sweep_record(home, name)
    return read_sweep(
        record["source"],
        record["path"],
        record["extra"],
        name=name,
        trials=record["trials"],
        config_dir=record["config_dir"],
    )


def _sweep_record(home: Path, name: str) -> dict[str, Any]:
    record = read_record(sweep_folder(home, name) / "sweep.json")
    if record is None:
        known = ", ".join(sweep_names(home)) or "none yet"
        raise ConfigError(f"no sweep '{name}' in {home / 'sweeps'}. Known: {known}.")
    return record


def _check_same(record: dict[str, Any], definition: Definition) -> None:
    name = definition.name
    new = "`--name NEW` starts a new sweep; runs with the same settings are reused, none is lost"
    if record.get("format") != FORMAT:
        raise ConfigError(f"sweep '{name}' has format {record.get('format')}, not {FORMAT}; {new}")
    if record["fingerprint"] != definition.fingerprint:
        raise ConfigError(
            f"sweep '{name}' was begun with another space, objective or settings than "
            f"{definition.path} has now; {new}"
        )
    here = versions()
    other = [
        f"{key} {value} (here {here.get(key)})"
        for key, value in record["versions"].items()
        if here.get(key) != value
    ]
    if other:
        raise ConfigError(f"sweep '{name}' was begun with {', '.join(other)}; {new}")


def sweep_folder(home: Path, name: str) -> Path:
    """Where a sweep lies."""
    return home / "sweeps" / name


def stop_file(home: Path, name: str) -> Path:
    """The file that asks a sweep's workers to stop."""
    return sweep_folder(home, name) / "stop"


def sweep_names(home: Path) -> list[str]:
    """The sweeps under ``home``."""
    return sorted(path.parent.name for path in (home / "sweeps").glob("*/sweep.json"))


def trial_key(number: int) -> str:
    """Name of a trial's lease."""
    return f"trial-{number:04d}"


def one_line(error: BaseException) -> str:
    """An error as one line: its kind and its message."""
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    """Without the warning that ``enqueue_trial`` may change."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
