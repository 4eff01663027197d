"""The commands that steer a sweep while it runs: stop, scale, logs."""

import os
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lightning_sep.errors import ConfigError
from lightning_sep.find import begun_run
from lightning_sep.fsio import write_aside
from lightning_sep.homes import runs_home
from lightning_sep.launchers.slurm_jobs import FOLDER, Jobs
from lightning_sep.leases.lease import Content
from lightning_sep.run_folder import LOG
from lightning_sep.sweep import report as reports
from lightning_sep.sweep.folder import look
from lightning_sep.sweep.names import stop_file, sweep_names
from lightning_sep.sweep.study import SweepStudy


def stop(sweep: str, home: Path | None = None, *, now: bool = False) -> int:
    """Ask a sweep's workers to save and stop; ``sweep`` again lets it go on.

    Args:
        sweep: its name.
        home: folder of all runs.
        now: end them at once: what they did since their last checkpoints is done again.

    Raises:
        ConfigError: there is no sweep of this name, or Slurm does not answer.
    """
    home = runs_home() if home is None else home
    study = look(home, sweep)
    now_is = reports.status(study)
    running = len(now_is["running"])
    write_aside(stop_file(home, sweep), "")
    jobs = Jobs([study.folder])
    own = [
        array
        for array in jobs.arrays()
        if all(one == sweep or stop_file(home, one).exists() for one in array.sweeps)
    ]
    if now:
        jobs.end(own)
        _kill(study)
        what = "they are ended"
    else:
        jobs.stop(own)
        what = "they save and stop"
    if now_is["state"] == "done":
        print(f"{sweep} is done: nothing was left to stop")
    else:
        print(f"{sweep}: {running} running; {what}. The same `lightning-sep sweep` lets it go on.")
    return 0


def scale(sweep: str, workers: int, home: Path | None = None) -> int:
    """Let another number of a sweep's jobs run at once.

    Raises:
        ConfigError: there is no sweep of this name, or it has no jobs that wait or run.
    """
    home = runs_home() if home is None else home
    print(f"{sweep}: {Jobs([look(home, sweep).folder]).scale(workers)}")
    return 0


def logs(sweep: str, trial: int | None, home: Path | None = None) -> int:
    """Print what workers wrote while they worked on a trial, also while it runs, or a run's log.

    Args:
        sweep: its name; or the beginning of a run's id.
        trial: its number; ``None`` for a run.
        home: folder of all runs.

    Raises:
        ConfigError: there is no such sweep or run, or no worker has begun this trial.
    """
    home = runs_home() if home is None else home
    if trial is None:
        run = None if sweep in sweep_names(home) else begun_run(sweep, home)
        if run is None:
            named = look(home, sweep).definition.name
            raise ConfigError(f"of which trial? `lightning-sep logs {named} 0` is of the first one")
        if not (run / LOG).exists():
            raise ConfigError(f"run {run.name} has noted nothing yet")
        print((run / LOG).read_text(errors="replace"), end="")
        return 0
    folder = look(home, sweep).folder
    found = [*folder.glob("worker-*.log"), *(folder / FOLDER).glob("*.log")]
    said = False
    for path in sorted(found, key=lambda one: one.stat().st_mtime):
        lines = list(_of_trial(path, sweep, trial))
        if lines:
            said = True
            print(f"==> {path} <==")
            print("\n".join(lines))
    if not said:
        raise ConfigError(
            f"no worker of {sweep} has written of trial {trial} yet; "
            f"`lightning-sep status {sweep}` lists what runs"
        )
    return 0


def _of_trial(path: Path, sweep: str, trial: int) -> Iterator[str]:
    """The lines of a log from where a worker takes a trial to where it takes another one."""
    takes = re.compile(r"\d\d:\d\d:\d\d (\S+): (?:(?:final of )?trial (\d+)\b|done$)")
    inside = False
    with path.open(errors="replace") as file:
        for line in file:
            if match := takes.match(line):
                inside = match.groups() == (sweep, str(trial))
            if inside:
                yield line.rstrip("\n")


def _kill(study: SweepStudy) -> None:
    """End this machine's workers of a sweep."""
    for path in (study.folder / "leases").glob("*.json"):
        content = Content.read(path)
        owner = content.owner if content is not None and content.token else None
        if owner is not None and owner.alive():
            with suppress(ProcessLookupError):
                os.kill(owner.pid, signal.SIGKILL)
