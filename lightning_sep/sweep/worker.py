"""A worker: one process that takes trials of one or more sweeps until their budgets are spent."""

import gc
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from lightning_sep.errors import (
    ConfigError,
    DataError,
    Interrupted,
    LeaseLost,
    LightningSepError,
    RankLost,
    StorageError,
)
from lightning_sep.faults import breaks_process, is_machines
from lightning_sep.fsio import PATIENCE, storage_errors
from lightning_sep.homes import runs_home
from lightning_sep.launchers.local import LAUNCHER_PID
from lightning_sep.leases.lease import Lease, Leases, Mark
from lightning_sep.leases.presence import Peers, Presence, positive_seconds
from lightning_sep.leases.process import Owner
from lightning_sep.memory import give_memory_back, no_collection
from lightning_sep.sweep.finals import Finals
from lightning_sep.sweep.folder import open_sweep
from lightning_sep.sweep.names import lease_file, trial_key, workers_folder
from lightning_sep.sweep.runner import Errand, ExperimentRunner, Outcome, Runner
from lightning_sep.sweep.study import OPEN, SweepStudy, one_line
from lightning_sep.sweep.time_limit import TimeLimit
from lightning_sep.sweep.work import FinalWork, SearchWork, Work

FIRST_POLL_S, LONGEST_POLL_S = 0.25, 10.0
STOP_LOOK_S = 0.5
WAIT_S = 600.0  # how long a disk that is full or does not answer is waited for
_TOO_SHORT = "the job's time was over before it got any further: raise launcher.time_min"
WORK_LEFT = 75  # exit code: somebody has to go on (EX_TEMPFAIL)

Step = Literal["worked", "waiting", "done", "stopped", "broken", "left"]


class Stop:
    """Whether this process was asked to stop: by a signal, because its launcher is gone, or because
    its job is about to end."""

    def __init__(self) -> None:
        self.signalled = False
        self._limit = TimeLimit(os.environ)
        launcher = os.environ.get(LAUNCHER_PID, "")
        if launcher and not launcher.isdecimal():
            raise ConfigError(
                f"{LAUNCHER_PID} = {launcher!r}: it is set by `lightning-sep sweep` for its "
                "workers; unset it"
            )
        self._launcher = int(launcher) if launcher else None

    @property
    def launched(self) -> bool:
        """Whether `lightning-sep sweep` has started this process."""
        return self._launcher is not None

    @property
    def late(self) -> bool:
        """Whether its job is about to end."""
        return self._limit.ends()

    def listen(self) -> None:
        """Let SIGTERM, SIGUSR1 and SIGINT set a flag, and nothing else."""
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, self._set)

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.signalled = True

    def __call__(self) -> bool:
        orphaned = self._launcher is not None and os.getppid() != self._launcher
        if not self.signalled and self._limit.near():
            say("the job's time ends soon: this worker saves and leaves what is left to the next")
            self.signalled = True
        return self.signalled or orphaned


class Worker:
    """Takes the trials and finals of one sweep, one `step` at a time.

    Args:
        study: the sweep.
        runner: what runs a setting.
        presence: this process's sign of life.
        peers: judges the other workers.
        stop: whether this process was asked to stop.
    """

    def __init__(
        self, study: SweepStudy, runner: Runner, presence: Presence, peers: Peers, stop: Stop
    ) -> None:
        self.study = study
        self.finals = Finals(study)
        self.runner = runner
        self.presence = presence
        self.stop = stop
        self.name = study.definition.name
        self.sweep = study.definition.sweep
        self.leases = Leases(
            presence,
            peers,
            path=partial(lease_file, study.folder),
            lock=lambda key: study.lock,
            progress=self._progress,
        )
        self._asked_s = -math.inf
        self._asked = False
        self._silent_since_s: float | None = None
        self._silences = 0

    def stopping(self) -> bool:
        """Whether to stop; the disk is asked at most twice a second."""
        if not self._asked and time.monotonic() - self._asked_s > STOP_LOOK_S:
            self._asked_s, self._asked = time.monotonic(), self.study.stopping
        return self._asked or self.stop()

    def step(self) -> Step:
        """Do one trial or one final; say so when there is nothing to do (yet)."""
        self._asked_s, self._asked = -math.inf, False
        if self.stopping():
            return "stopped"
        try:
            work = self._claim()
        except OSError as error:
            return self._wait_for_disk(error)
        except LeaseLost as error:  # it stood still with the lock in its hand
            say(f"{self.name}: {error}")
            return "worked"
        if work is not None:
            return self._do(work)
        if self.study.searching():
            keys = [trial_key(trial.number) for trial in self.study.seen if trial.state in OPEN]
        else:
            keys = [final.key for final in self.finals.open()]
            if not keys:
                return "done"
        return "left" if self.leases.for_others(keys) else "waiting"

    def _claim(self) -> Work | None:
        claimed = self.study.claim(self.leases)
        if claimed is not None:
            return SearchWork(self.study, claimed)
        if self.study.searching():
            return None
        final = self.finals.claim(self.leases)
        return None if final is None else FinalWork(self.finals, *final)

    def _progress(self, about: dict[str, Any]) -> Mark | None:
        """How far the work behind a lease has got: its repeat, and the step it could go on from."""
        run_id, seed = about.get("run"), about.get("seed")
        if not isinstance(run_id, str) or not isinstance(seed, int):
            return None
        return [seed, self.runner.reached(run_id)]

    # --- one piece of work ------------------------------------------------------------------

    def _do(self, work: Work) -> Step:
        say(f"{self.name}: {work.title}: {' '.join(work.proposed)}")
        outcomes: list[Outcome] = []
        began = self._progress(work.lease.content.about) or [*work.seeds[:1], 0]
        try:
            reason = work.error or self._too_many_crashes(work.lease)
            for seed in work.seeds if reason is None else ():
                outcomes.append(self._run(work, seed))
                self._silent_since_s = None
                if outcomes[-1].state == "pruned":
                    break
                if not math.isfinite(outcomes[-1].value):
                    reason = f"{self.sweep.metric} is {outcomes[-1].value} with seed {seed}"
                    break
            work.finish(outcomes, reason)
        except LeaseLost as error:
            say(f"{self.name}: {work.title}: {error}")
        except Interrupted:
            reached = self._progress(work.lease.content.about) or began
            if self.stop.late and reached <= began:
                self._say_why(work, _TOO_SHORT)
            self._leave(work.give_back)
            return "stopped"
        except (ConfigError, DataError, StorageError) as error:
            if not PATIENCE.is_for(error):
                self._say_why(work, one_line(error))
                self._leave(work.give_back)
                raise
            return self._wait_for_disk(error, work)
        except Exception as error:
            return self._failed(work, outcomes, error)
        finally:
            work.lease.drop()
            give_memory_back()
        return "worked"

    def _failed(self, work: Work, outcomes: Sequence[Outcome], error: Exception) -> Step:
        """Tell the setting's fault from the machine's and the process's.

        A failure counts against a setting only when another process repeats it: this one may be
        broken. Whoever runs out of memory, or meets a disk that refuses, is tried some times.
        """
        if PATIENCE.is_for(error):
            return self._wait_for_disk(error, work)
        if not PATIENCE.until_back(work.lease.ours):
            say(f"{self.name}: {work.title}: another worker has taken over; this copy stops")
            return "worked"
        broken, machine = breaks_process(error), is_machines(error)
        lost = isinstance(error, RankLost)
        reason = one_line(error)
        if not machine:
            traceback.print_exc()
        say(f"{self.name}: {work.title} failed: {reason}")
        if lost or (machine and not broken):
            if work.lease.crashes + 1 < self.sweep.attempts:
                self._leave(partial(work.give_back, crashed=True))
            else:
                self._leave(partial(work.finish, outcomes, reason))
            return "broken" if lost else "worked"
        if [worker for worker in work.failed_by if worker != self.presence.worker]:
            self._leave(partial(work.finish, outcomes, reason))
        else:
            say(f"{self.name}: {work.title}: another process tries it once more")
            work.lease.is_about(failed_by=[*work.failed_by, self.presence.worker], reason=reason)
            self._leave(work.give_back)
        return "broken" if broken else "worked"

    def _wait_for_disk(self, error: Exception, work: Work | None = None) -> Step:
        """Nothing is known about a setting when the disk is full or does not answer: try again."""
        now_s = time.monotonic()
        if self._silent_since_s is None:
            self._silent_since_s, self._silences = now_s, 0
        if now_s - self._silent_since_s > PATIENCE.wait_s:
            raise error
        self._silences += 1
        say(f"{self.name}: the disk is waited for: {one_line(error)}")
        self.presence.waits_for(one_line(error))
        until_s = now_s + min(30.0, 0.25 * 2**self._silences)
        while time.monotonic() < until_s and not self.stopping():
            time.sleep(0.1)
        if work is not None:
            self._leave(work.give_back)
        self.presence.waits_for(None)
        return "worked"

    def _run(self, work: Work, seed: int) -> Outcome:
        overrides = self.study.definition.settings(work.proposed, seed)
        run_id, prepared = self.runner.prepare(overrides)
        self.study.check()
        work.lease.is_about(run=run_id, seed=seed)
        if not work.failed_by:
            self._say_why(work, None)
        errand = Errand(
            sweep=self.name,
            trial=work.number,
            purpose=work.purpose,
            report=partial(work.report, seed),
            should_stop=self.stopping,
            guard=work.lease.guard,
            presence=self.presence,
            busy=partial(self._busy, run_id),
            judged=work.judged,
        )
        try:
            with storage_errors(self.study.home / run_id / "record.json"):
                return self.runner.run(prepared, errand)
        except SystemExit as error:
            raise RuntimeError(f"the run ended the process with {error.code!r}") from error

    def _busy(self, run_id: str, owner: Owner | None) -> None:
        """While another trial, sweep or command trains the same settings, this one waits."""
        if self.stopping():
            raise Interrupted(f"run {run_id} was asked to stop")
        PATIENCE.pulse()
        time.sleep(STOP_LOOK_S)

    def _too_many_crashes(self, lease: Lease) -> str | None:
        if lease.crashes < self.sweep.attempts:
            return None
        return (
            f"its worker died {lease.crashes} times without getting further (killed from outside, "
            "hanging, or out of memory)"
        )

    def _say_why(self, work: Work, reason: str | None) -> None:
        """Say in a lease why its work waits when it is given back; ``None``: for no reason."""
        if work.lease.content.about.get("reason") != reason:
            self._leave(partial(work.lease.is_about, reason=reason))

    def _leave(self, action: Callable[[], None]) -> None:
        """Do the last thing with a piece of work, unless somebody else has taken it over."""
        try:
            action()
        except LeaseLost as error:
            say(f"{self.name}: {error}")


def main(
    sweep: str | Sequence[str], home: Path | None = None, *, runner: Runner | None = None
) -> int:
    """Work on sweeps until all of them are done or this process is asked to stop.

    While others hold all that is left of one sweep, the next one is worked on.

    Args:
        sweep: names of sweeps, as a list or separated by commas.
        home: folder of all runs; LIGHTNING_SEP_HOME or ``runs`` without one.
        runner: what runs a setting; the real thing without one.

    Returns:
        The exit code: 0 when nothing is left to do, or nothing that the user wants done; 75 when
        work is left that another process is to go on with (this one got a signal, cannot be trusted
        any more, or waited for the disk in vain); 2 when the input or the disk does not let
        anything run.
    """
    home = runs_home() if home is None else home
    names = sweep.split(",") if isinstance(sweep, str) else list(sweep)
    presence: Presence | None = None
    folder = workers_folder(home)
    peers = Peers(folder)
    try:
        stop = Stop()
        stop.listen()
        PATIENCE.wait_s = wait_s()
        PATIENCE.stop, PATIENCE.tell = stop, partial(_waits, None)
        # A launcher has seen the home: it is away for a while, and waited for. Nobody knows that of
        # a home that was typed.
        if not stop.launched and not PATIENCE.until_back(home.is_dir):
            raise ConfigError(
                f"{home} is not there, so it holds no sweep: LIGHTNING_SEP_HOME is the folder of "
                "all runs (runs/ of the working folder without it)"
            )
        PATIENCE.home = home
        with no_collection():
            studies = [open_sweep(home, name) for name in names]
            gc.freeze()  # trials stay as well
        presence = Presence(folder, patience_s=max(study.patience_s for study in studies))
        presence.chores.append(partial(peers.look_after, presence))
        presence.start()
        PATIENCE.tell = partial(_waits, presence)
        return _work(
            [
                Worker(study, runner or _runner(home, study), presence, peers, stop)
                for study in studies
            ],
            stop,
        )
    except LightningSepError as error:
        say(f"{type(error).__name__}: {error}")
        return WORK_LEFT if PATIENCE.is_for(error) else error.exit_code
    except OSError as error:
        if not PATIENCE.is_for(error):
            raise
        say(one_line(error))
        return WORK_LEFT
    finally:
        if presence is not None:
            with suppress(OSError):
                presence.stop()
                peers.tidy()  # one that was killed cannot


def wait_s() -> float:
    """Seconds that a disk is waited for; LIGHTNING_SEP_WAIT_S sets it.

    Raises:
        ConfigError: the variable holds no positive number.
    """
    return positive_seconds("LIGHTNING_SEP_WAIT_S", WAIT_S)


def _work(workers: list[Worker], stop: Stop) -> int:
    left = False
    pause_s = FIRST_POLL_S
    while workers and not stop():
        for worker in list(workers):
            state = worker.step()
            if state == "broken":
                say(f"{worker.name}: this process cannot be trusted any more: it ends")
                return WORK_LEFT
            if state in ("done", "stopped", "left"):
                if state == "done":
                    worker.study.forget_leases()
                left |= state == "left" or (state == "stopped" and stop())
                say(f"{worker.name}: {_WORDS[state]}")
                workers.remove(worker)
            if state != "waiting":
                pause_s = FIRST_POLL_S
                break
        else:
            until_s = time.monotonic() + pause_s
            while time.monotonic() < until_s and not stop():
                time.sleep(min(0.25, pause_s))
            pause_s = min(1.5 * pause_s, LONGEST_POLL_S)
    return WORK_LEFT if left or workers else 0


_WORDS = {
    "done": "done",
    "stopped": "stopped",
    "left": "what is left failed in this process: a fresh one tries it",
}


def _runner(home: Path, study: SweepStudy) -> Runner:
    return ExperimentRunner(home, study.definition.config_dir)


def _waits(presence: Presence | None, what: str | None) -> None:
    if what is not None:
        say(f"the disk is waited for: {what}")
    if presence is not None:
        presence.waits_for(what)


def say(line: str) -> None:
    """A line for the worker's log."""
    with suppress(OSError):  # the log may lie on the very disk that is full
        print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
