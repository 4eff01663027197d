"""A worker: one process that takes trials of one or more sweeps until their budgets are spent."""

import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Literal

from optuna.trial import TrialState

from lightning_sep.errors import DataError, Interrupted, LeaseLost, LightningSepError, StorageError
from lightning_sep.fsio import storage_errors
from lightning_sep.homes import runs_home
from lightning_sep.launchers.local import LAUNCHER_PID
from lightning_sep.sweep.lease import Lease, Leases, Pulse, Watcher
from lightning_sep.sweep.runner import ExperimentRunner, Outcome, Runner
from lightning_sep.sweep.study import (
    Claimed,
    Final,
    SweepStudy,
    one_line,
    open_sweep,
)

POLL_S = 0.5

Step = Literal["worked", "waiting", "done", "stopped"]


class Stop:
    """Whether this process was asked to stop: by a signal, or because its launcher is gone."""

    def __init__(self) -> None:
        self.signalled = False
        launcher = os.environ.get(LAUNCHER_PID)
        self._launcher = int(launcher) if launcher else None

    def listen(self) -> None:
        """Let SIGTERM, SIGUSR1 and SIGINT set a flag, and nothing else."""
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
            signal.signal(number, self._set)

    def _set(self, number: int, frame: FrameType | None) -> None:
        self.signalled = True

    def __call__(self) -> bool:
        orphaned = self._launcher is not None and os.getppid() != self._launcher
        return self.signalled or orphaned


class Worker:
    """Takes the trials and finals of one sweep, one `step` at a time.

    Args:
        study: the sweep.
        runner: what runs a setting.
        pulse: this process's sign of life.
        stop: whether this process was asked to stop.
    """

    def __init__(self, study: SweepStudy, runner: Runner, pulse: Pulse, stop: Stop) -> None:
        self.study = study
        self.runner = runner
        self.stop = stop
        self.name = study.definition.name
        self.sweep = study.definition.sweep
        watcher = Watcher(workers_folder(study.home))
        self.leases = Leases(study.folder / "leases", pulse, watcher)
        # A run belongs to its settings: two trials or two sweeps that propose it share one lease.
        self.runs = Leases(study.home / "leases" / "runs", pulse, watcher)
        self._asked_s = -math.inf
        self._asked = False

    def stopping(self) -> bool:
        """Whether to stop; the disk is asked at most twice a second."""
        if not self._asked and time.monotonic() - self._asked_s > POLL_S:
            self._asked_s, self._asked = time.monotonic(), self.study.stopping
        return self._asked or self.stop()

    def step(self) -> Step:
        """Run one trial or one final; say so when there is nothing to run (yet)."""
        self._asked_s, self._asked = -math.inf, False
        if self.stopping():
            return "stopped"
        claimed = self.study.claim(self.leases)
        if claimed is not None:
            return self._search(claimed)
        if self.study.searching():
            return "waiting"
        open_finals = [f for f in self.study.finals() if not self.study.final_path(f).exists()]
        for final in open_finals:
            lease = self.leases.claim(final.key)
            if lease is None:
                continue
            if self.study.final_path(final).exists():  # finished between our look and our claim
                lease.finish()
                continue
            return self._final(final, lease)
        return "waiting" if open_finals else "done"

    # --- one trial --------------------------------------------------------------------------

    def _search(self, claimed: Claimed) -> Step:
        number = claimed.trial.number
        say(f"{self.name}: trial {number}: {' '.join(claimed.proposed)}")
        runs: list[str] = []
        values: list[float] = []
        state, reason = TrialState.COMPLETE, claimed.error
        try:
            if reason is None:
                reason = self._too_many_crashes(claimed.lease)
            for seed in self.sweep.search_seeds if reason is None else ():
                outcome = self._run(
                    claimed.proposed,
                    seed,
                    number,
                    "search",
                    claimed.lease,
                    self._report(claimed, seed),
                )
                runs.append(outcome.run_id)
                values.append(outcome.value)
                if outcome.state == "pruned":
                    state = TrialState.PRUNED
                    break
                if not math.isfinite(outcome.value):
                    reason = f"{self.sweep.metric} is {outcome.value} with seed {seed}"
                    break
            value = math.fsum(values) / len(values) if values else math.nan
            if reason is not None:
                state = TrialState.FAIL
            self.study.tell(claimed, state, value=value, runs=runs, reason=reason)
        except LeaseLost as error:
            say(f"{self.name}: trial {number}: {error}")
        except Interrupted:
            self._leave(lambda: self.study.give_back(claimed))
            return "stopped"
        except (StorageError, DataError):
            self._leave(lambda: self.study.give_back(claimed))
            raise
        except Exception as error:
            machine = is_machines_fault(error)
            if not machine:
                traceback.print_exc()
            say(f"{self.name}: trial {number} failed: {one_line(error)}")
            if machine and claimed.lease.crashes + 1 < self.sweep.attempts:
                self._leave(lambda: self.study.give_back(claimed, crashed=True))
            else:
                reason = one_line(error)
                self._leave(
                    lambda: self.study.tell(claimed, TrialState.FAIL, runs=runs, reason=reason)
                )
        return "worked"

    def _report(self, claimed: Claimed, seed: int) -> Callable[[int, float], bool]:
        """Take a value after each validation; True ends the run early.

        Only the first repeat reports to the pruner: it compares trials at the same epoch.
        """

        def report(epoch: int, value: float) -> bool:
            claimed.lease.reached(seed, epoch)
            if seed != 0 or self.sweep.pruner is None or not math.isfinite(value):
                return False
            if epoch not in claimed.reported:
                claimed.reported.add(epoch)
                claimed.trial.report(value, epoch)
            return claimed.trial.should_prune()

        return report

    # --- finals -----------------------------------------------------------------------------

    def _final(self, final: Final, lease: Lease) -> Step:
        say(f"{self.name}: final of trial {final.trial}, seed {final.seed}")

        def report(epoch: int, value: float) -> bool:
            lease.reached(epoch)
            return False

        try:
            reason = self._too_many_crashes(lease)
            if reason is not None:
                self._accept_failure(final, lease, reason)
                return "worked"
            outcome = self._run(final.proposed, final.seed, final.trial, "final", lease, report)
            if not math.isfinite(outcome.value):
                self._accept_failure(
                    final, lease, f"{self.sweep.metric} is {outcome.value}", outcome.run_id
                )
                return "worked"
            result = {"run_id": outcome.run_id, "state": "finished", "value": outcome.value}
            self.study.accept(final, lease, {**result, "reason": None})
        except LeaseLost as error:
            say(f"{self.name}: {error}")
        except Interrupted:
            self._leave(lease.release)
            return "stopped"
        except (StorageError, DataError):
            self._leave(lease.release)
            raise
        except Exception as error:
            machine = is_machines_fault(error)
            if not machine:
                traceback.print_exc()
            say(f"{self.name}: {final.key} failed: {one_line(error)}")
            if machine and lease.crashes + 1 < self.sweep.attempts:
                self._leave(lambda: lease.release(crashed=True))
            else:
                reason = one_line(error)
                self._leave(lambda: self._accept_failure(final, lease, reason))
        return "worked"

    def _accept_failure(
        self, final: Final, lease: Lease, reason: str, run_id: str | None = None
    ) -> None:
        self.study.accept(
            final, lease, {"run_id": run_id, "state": "failed", "value": None, "reason": reason}
        )

    # --- one run ----------------------------------------------------------------------------

    def _run(
        self,
        proposed: Sequence[str],
        seed: int,
        trial: int,
        purpose: str,
        lease: Lease,
        report: Callable[[int, float], bool],
    ) -> Outcome:
        overrides = self.study.definition.settings(proposed, seed)
        run_id = self.runner.identify(overrides)
        run_lease = self._wait_for(run_id)

        def guard() -> None:
            lease.guard()
            run_lease.guard()

        try:
            with storage_errors(self.study.home / run_id):
                return self.runner.run(
                    overrides,
                    sweep=self.name,
                    trial=trial,
                    purpose=purpose,
                    report=report,
                    should_stop=self.stopping,
                    guard=guard,
                )
        except SystemExit as error:  # how Lightning leaves a loop on SIGTERM
            if self.stopping():
                raise Interrupted(f"run {run_id} was asked to stop") from error
            raise RuntimeError(f"the run ended the process with {error.code!r}") from error
        finally:
            with suppress(LeaseLost, OSError, StorageError):
                run_lease.finish()  # crashes are counted by the trial's lease

    def _wait_for(self, run_id: str) -> Lease:
        """The lease of a run; while another trial trains the same settings, this one waits."""
        while True:
            lease = self.runs.claim(run_id)
            if lease is not None:
                return lease
            if self.stopping():
                raise Interrupted(f"run {run_id} was asked to stop")
            time.sleep(POLL_S)

    def _too_many_crashes(self, lease: Lease) -> str | None:
        if lease.crashes < self.sweep.attempts:
            return None
        return (
            f"its worker died {lease.crashes} times without getting further (killed from outside, "
            "or out of memory)"
        )

    def _leave(self, action: Callable[[], None]) -> None:
        """Do the last thing with a trial, unless somebody else has taken it over."""
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
        The exit code: 0 when everything is done or a stop was asked for, 2 when the disk or the
        data does not let anything run.
    """
    stop = Stop()
    stop.listen()
    home = runs_home() if home is None else home
    names = sweep.split(",") if isinstance(sweep, str) else list(sweep)
    pulse: Pulse | None = None
    try:
        studies = [open_sweep(home, name) for name in names]
        pulse = Pulse(workers_folder(home)).start()
        workers = [Worker(study, runner or _runner(home, study), pulse, stop) for study in studies]
        while workers and not stop():
            for worker in workers:
                state = worker.step()
                if state in ("done", "stopped"):
                    worker.runs.tidy()
                    say(f"{worker.name}: {state}")
                    workers.remove(worker)
                if state != "waiting":
                    break
            else:
                time.sleep(POLL_S)
        return 0
    except LightningSepError as error:
        say(f"{type(error).__name__}: {error}")
        return error.exit_code
    finally:
        if pulse is not None:
            pulse.stop()


def _runner(home: Path, study: SweepStudy) -> Runner:
    return ExperimentRunner(home, study.definition.config_dir)


def is_machines_fault(error: BaseException) -> bool:
    """Whether an error may be gone at another try: no memory, a disk that does not answer."""
    if isinstance(error, MemoryError | OSError):
        return not isinstance(error, FileNotFoundError | FileExistsError)
    text = str(error)
    return type(error).__name__ == "OutOfMemoryError" or (
        isinstance(error, RuntimeError)
        and ("out of memory" in text or "can't allocate memory" in text)
    )


def workers_folder(home: Path) -> Path:
    """Where workers show that they live."""
    return home / "leases" / "workers"


def say(line: str) -> None:
    """A line for the worker's log."""
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
