"""Launch a sweep or go on with it, wait for it, and say what was found."""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

from lightning_sep.errors import ConfigError, Interrupted, SweepError
from lightning_sep.fsio import PATIENCE
from lightning_sep.homes import runs_home
from lightning_sep.launchers.base import Crew, Launcher, worker_command
from lightning_sep.launchers.local import Local
from lightning_sep.leases.presence import Peers
from lightning_sep.sweep import report as reports
from lightning_sep.sweep.asked import apart, assignment, definitions_of, launcher_of
from lightning_sep.sweep.definition import Definition
from lightning_sep.sweep.display import display, tell
from lightning_sep.sweep.finals import Finals
from lightning_sep.sweep.folder import create, open_sweep, withdraw
from lightning_sep.sweep.names import (
    JOURNAL,
    stop_file,
    sweep_folder,
    sweep_names,
    workers_folder,
)
from lightning_sep.sweep.runner import Examined, ExperimentRunner, Runner
from lightning_sep.sweep.status import about
from lightning_sep.sweep.study import SweepStudy
from lightning_sep.sweep.worker import WORK_LEFT, wait_s

POLL_S = 0.5
GRACE_S = 60.0

Page = Callable[[list[str], Path], Path]


def launch(
    files: Sequence[Path | str] = (),
    overrides: Sequence[str] = (),
    *,
    grid: bool | Sequence[str] = False,
    workers: int | None = None,
    trials: int | None = None,
    finalists: int | None = None,
    enqueue: Sequence[str] = (),
    time_budget_s: float | None = None,
    name: str | None = None,
    home: Path | None = None,
    config_dir: Path | str | None = None,
    launcher: Launcher | None = None,
    runner: Runner | None = None,
    command: Callable[[Sequence[str]], list[str]] = worker_command,
    page: Page | None = None,
    dry_run: bool = False,
) -> int:
    """Launch sweeps or go on with them, show how far they are, and say what they found.

    Args:
        files: sweep files; the same workers take them one after the other.
        overrides: settings for all trials; ``launcher=`` and ``launcher.x=`` choose the launcher.
        grid: a sweep over all combinations instead of files: the axes, or True to take those of
            ``overrides`` that list several values.
        workers: number of workers; the launcher chooses without it.
        trials: another budget of trials than the files'.
        finalists: another number of settings that are run again on fresh seeds; 0 is none.
        enqueue: settings to try first, ``head=tanh loss.margin=2`` each.
        time_budget_s: seconds after which the workers of this machine save and stop.
        name: another name than the file's.
        home: folder of all runs; LIGHTNING_SEP_HOME or ``runs`` without it.
        config_dir: a folder with the user's own entries of settings.
        launcher: starts the workers; from the settings without it.
        runner: what runs a setting; the real thing without it.
        command: the command of a worker for some sweeps.
        page: writes the comparison of these sweeps and returns where it lies.
        dry_run: show what would be started, and do nothing.

    Returns:
        The exit code: 0 when all sweeps are done, or go on without this command; 1 when one of them
        found nothing, 75 when the time is up before they are done, 130 after Ctrl-C.

    Raises:
        ConfigError: a definition or a setting cannot be used, or a sweep asks something else now.
        Interrupted: the sweep was stopped; the same command goes on.
        SweepError: the workers ended before the work was done.
    """
    home = runs_home() if home is None else home
    PATIENCE.home = home if os.path.isdir(home) else None  # what is yet to be made cannot be away
    folder = str(Path(config_dir).expanduser().resolve()) if config_dir is not None else None
    mine, shared = apart(overrides)
    definitions = definitions_of(
        files, shared, grid, trials=trials, finalists=finalists, name=name, config_dir=folder
    )
    launcher = launcher or launcher_of(mine, workers, folder)
    if time_budget_s is not None and not isinstance(launcher, Local):
        raise ConfigError(
            f"--time-budget is for workers of this machine, {type(launcher).__name__}'s outlive "
            "this command: `lightning-sep stop NAME` ends them"
        )
    runner = runner or ExperimentRunner(home, folder)
    examined = [runner.examine(definition) for definition in definitions]
    if dry_run:
        names = [definition.name for definition in definitions]
        most = sum(one.sweep.most_runs(one.sweep.trials) for one in definitions)
        plan = launcher.plan(assignment(names, command, home, most, examined))
        for definition, one in zip(definitions, examined, strict=True):
            points, trials = definition.grid(), definition.sweep.trials
            tell(_amount(definition, trials if points is None else min(trials, len(points))))
            tell(f"    in {sweep_folder(home, definition.name)}, by {type(launcher).__name__}")
            tell(f"    of {' '.join(one.entries)}")
        print(plan)
        return 0
    known = sweep_names(home)
    studies = [
        create(home, definition, one.targets, one.entries, launcher.patience_s)
        for definition, one in zip(definitions, examined, strict=True)
    ]
    PATIENCE.home = home
    for definition in definitions:
        stop_file(home, definition.name).unlink(missing_ok=True)
    with ExitStack() as cleanup:
        for study in studies:
            if study.definition.name not in known:
                cleanup.enter_context(_withdrawn_if_refused(study))
        for study in studies:
            for text in enqueue:
                study.enqueue(text.split())
        if not all(Finals(study).done() for study in studies):
            with _signals() as received:
                cleanup.enter_context(_patience(received))
                code = _work(studies, launcher, command, home, examined, received, time_budget_s)
            if code is not None:
                return code
        return _conclude(studies, home, page or _page)


@contextmanager
def _withdrawn_if_refused(study: SweepStudy) -> Iterator[None]:
    """A sweep that could not be begun does not stay behind as one that waits."""
    try:
        yield
    except ConfigError:
        withdraw(study)
        raise


def report(sweeps: Sequence[str], home: Path | None = None) -> int:
    """Write the reports and the page of those sweeps that are done, as `launch` does at its end.

    Returns:
        The exit code: as that of `launch`, 75 when there is work left in one of them.

    Raises:
        ConfigError: there is no sweep of one of these names, or it was begun with other versions.
    """
    home = runs_home() if home is None else home
    studies = [open_sweep(home, one) for one in sweeps]
    left = [study for study in studies if not Finals(study).done()]
    for study in left:
        print(f"not done yet: {reports.progress(study).line()}")
    done = [study for study in studies if study not in left]
    code = _conclude(done, home, _page) if done else 0
    return WORK_LEFT if left else code


def _amount(definition: Definition, trials: int) -> str:
    """How much work a sweep is, before it begins."""
    sweep = definition.sweep
    best = min(sweep.most_finalists, trials)
    finals = best * sweep.final_seeds
    parts = [f"{trials} setting{'s' if trials > 1 else ''}"]
    if sweep.repeats > 1:
        parts.append(f"on {sweep.repeats} seeds each")
    if finals:
        parts.append(f"and the best {best} on {sweep.final_seeds} fresh seeds each")
    runs = sweep.most_runs(trials)
    return f"{definition.name}: {' '.join(parts)}, {runs} run{'s' if runs > 1 else ''} at most"


def _work(
    studies: Sequence[SweepStudy],
    launcher: Launcher,
    command: Callable[[Sequence[str]], list[str]],
    home: Path,
    examined: Sequence[Examined],
    received: list[int],
    time_budget_s: float | None = None,
) -> int | None:
    """Let workers work until everything is done; an exit code when it ended before that.

    Args:
        studies: the sweeps.
        launcher: starts the workers.
        command: the command of a worker.
        home: folder of all runs.
        examined: what their runs need.
        received: the signals that have come so far.
        time_budget_s: seconds after which they are stopped.
    """
    end_s = time.monotonic() + (math.inf if time_budget_s is None else time_budget_s)
    look_at = _Looks(studies)
    states = look_at()
    left = sum(state.work_total - state.work_done for state in states)
    names = [study.definition.name for study in studies]
    crew = launcher.start(assignment(names, command, home, max(1, left), examined))
    for study in studies:  # said once nothing is refused any more
        tell(_amount(study.definition, study.budget))
    if isinstance(crew, str):
        print(crew)
        return 0
    tell(f"{crew.count} worker{'s' if crew.count > 1 else ''}; logs: {crew.logs}")
    if (idle := crew.idle()) is not None:
        tell(idle)
    try:
        with display(studies) as show:
            good = sum(state.work_good for state in states)
            while True:
                try:
                    states = look_at()
                except OSError:
                    if not received:
                        raise
                show(states)
                if all(state.done for state in states):
                    return None
                reached = sum(state.work_good for state in states)
                if reached > good:  # what only fails says nothing for a worker
                    good = reached
                    crew.forgive()
                if received:
                    tell("stopping: the workers save what they have (again to end them at once)")
                    crew.terminate(GRACE_S, hurry=lambda: len(received) > 1)
                    tell("stopped; the same command goes on")
                    return 130 if received[0] == signal.SIGINT else 1
                if time.monotonic() >= end_s:
                    tell("the time is up: the workers save what they have")
                    crew.terminate(GRACE_S, hurry=lambda: bool(received))
                    tell("stopped; the same command goes on")
                    return WORK_LEFT
                stopping = [study for study in studies if study.stopping]
                if crew.poll() == 0:
                    if all(state.done for state in look_at()):
                        continue
                    if stopping:
                        listed = ", ".join(study.definition.name for study in stopping)
                        raise Interrupted(f"{listed}: stopped on request; the same command goes on")
                    raise _failure(crew)
                time.sleep(POLL_S)
    finally:
        crew.terminate(GRACE_S)
        with suppress(OSError):
            Peers(workers_folder(home)).tidy()


class _Looks:
    """How far sweeps are, looked at anew only where something has changed on the disk."""

    def __init__(self, studies: Sequence[SweepStudy]) -> None:
        self.studies = [(study, Finals(study)) for study in studies]
        self.seen: dict[str, tuple[object, reports.Progress]] = {}

    def __call__(self) -> list[reports.Progress]:
        found = []
        for study, finals in self.studies:
            name = study.definition.name
            stamp = PATIENCE.until_back(partial(_stamp, study.folder))
            if name not in self.seen or self.seen[name][0] != stamp:
                self.seen[name] = stamp, reports.progress(study, finals)
            found.append(self.seen[name][1])
        return found


def _stamp(folder: Path) -> object:
    journal = (folder / JOURNAL).stat()
    try:
        finals = (folder / "finals").stat().st_mtime_ns
    except FileNotFoundError:
        finals = 0
    return journal.st_ino, journal.st_size, finals


def _failure(crew: Crew) -> Exception:
    troubles = crew.troubles()
    lines = list(dict.fromkeys(line for _, line in troubles)) or ["they were asked to stop"]
    text = "the workers ended before the work was done: " + "; ".join(lines)
    if any(code == 2 for code, _ in troubles):
        return ConfigError(text)
    return SweepError(f"{text}. The same command goes on")


def _conclude(studies: Sequence[SweepStudy], home: Path, page: Page) -> int:
    """Write the reports and the page, and print what was found."""
    code = 0
    for study in studies:
        study.forget_leases()
        content = reports.write_report(study)
        if not Finals(study).all():  # nothing for the board: what the search saw is all there is
            print(reports.verdict(content))
        for trial in content["trials"]:
            if trial["state"] == "failed":
                print(f"    {about(trial['number'], trial)}: failed: {trial['reason']}")
        if content["best"] is None:
            code = 1
    sys.stdout.flush()
    print(page([study.definition.name for study in studies], home))
    return code


def _page(names: list[str], home: Path) -> Path:
    from lightning_sep.leaderboard import commands
    from lightning_sep.leaderboard.audio import wants_sounds
    from lightning_sep.leaderboard.words import summary_line

    ranked = [name for name in names if (sweep_folder(home, name) / "finals").is_dir()]
    boards = commands.boards_of(ranked, home)
    for board in boards:
        print(summary_line(board))
    written = commands.write_page(names, home)
    unheard = [board for board in boards if wants_sounds(board)]
    if not unheard:
        return written
    from lightning_sep.listen import try_to_write_sounds  # loads torch

    for line in try_to_write_sounds(unheard):
        tell(line)
    return commands.write_page(names, home)


@contextmanager
def _patience(received: list[int]) -> Iterator[None]:
    """As long as its workers do, the command waits for a disk that is full or does not answer.

    Args:
        received: the first signal ends the waiting.
    """

    def say(what: str | None) -> None:
        if what is not None and what not in said:
            said.append(what)
            tell(f"the disk is waited for: {what}")

    said: list[str] = []
    before = PATIENCE.wait_s, PATIENCE.tell, PATIENCE.stop
    PATIENCE.wait_s, PATIENCE.tell, PATIENCE.stop = wait_s(), say, lambda: bool(received)
    try:
        yield
    finally:
        PATIENCE.wait_s, PATIENCE.tell, PATIENCE.stop = before


@contextmanager
def _signals() -> Iterator[list[int]]:
    """Collects the signals that ask for an end in a list, instead of ending the process."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    before = [signal.signal(number, note) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)
