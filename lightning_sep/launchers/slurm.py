"""Workers as the tasks of one Slurm job array."""

import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

from lightning_sep.checks import Arguments
from lightning_sep.errors import ConfigError
from lightning_sep.fsio import storage_errors, write_aside
from lightning_sep.homes import data_home
from lightning_sep.launchers.base import Assignment, Launcher, own_command, refuse_sharing
from lightning_sep.launchers.local import thread_environment
from lightning_sep.launchers.shared_disk import unseen
from lightning_sep.launchers.slurm_jobs import FOLDER, Array, Jobs, asked, stepped, submitted
from lightning_sep.launchers.slurm_words import too_many

LONGEST_ARRAY = 1000  # Slurm's own bound (MaxArraySize), unless a site has moved it
_PLUGINS = ("PYTHONPATH", "LIGHTNING_SEP_PLUGINS")
REPORT_MIN = 30
STEP_MIN = 20  # a job of minutes finds room between those of hours
SIGNAL_S = 120


class Slurm(Launcher):
    """One job array per sweep; Slurm schedules, nothing of ours does.

    The array is longer than the number of tasks that may run at once: a task that ends at its time
    limit, or whose node is lost, is followed by the next, and whoever finds nothing left to do
    withdraws those that still wait. A job after the array writes the report.

    Args:
        workers: tasks that run at once.
        gpus: GPUs of a task, on each of its nodes.
        runs_per_gpu: small runs that share a task's GPUs, each with a worker of its own.
        cpus: cores of a worker, for each of ``trainer.devices``; ``null``: the threads of a run.
        memory_gb: memory of a worker; ``null``: the partition's own default.
        time_min: time limit of a task in minutes; ``null``: the partition's own.
        partition: where the jobs go; ``null``: the cluster's default.
        account: that pays.
        qos: quality of service.
        constraint: features that a node must have.
        limit: tasks of the array in all, one after the other; ``null``: 32 for each worker, or as
            many as the site takes.
        lease_s: seconds without a sign of life after which a worker's trial is free.
        extra: more options of ``sbatch``, each as it would stand behind ``#SBATCH``, for the array
            and the report.
        setup: lines of shell before the worker starts, such as ``module load cuda``.

    Raises:
        ConfigError: a setting is out of its range.
    """

    def __init__(
        self,
        *,
        workers: int = 4,
        gpus: int = 0,
        runs_per_gpu: int = 1,
        cpus: int | None = None,
        memory_gb: float | None = None,
        time_min: int | None = None,
        partition: str | None = None,
        account: str | None = None,
        qos: str | None = None,
        constraint: str | None = None,
        limit: int | None = None,
        lease_s: float = 60.0,
        extra: Sequence[str] = (),
        setup: Sequence[str] = (),
    ) -> None:
        checks = Arguments("Slurm")
        checks.whole("workers", workers)
        checks.whole("gpus", gpus, at_least=0)
        checks.whole("runs_per_gpu", runs_per_gpu)
        for name, value in [("cpus", cpus), ("time_min", time_min), ("limit", limit)]:
            if value is not None:
                checks.whole(name, value)
        if memory_gb is not None:
            checks.number("memory_gb", memory_gb, low=0.01, below=1e5)
        checks.number("lease_s", lease_s, low=1.0, below=1e5)
        checks.check()
        if runs_per_gpu > 1 and not gpus:
            raise ConfigError(
                f"launcher.runs_per_gpu = {runs_per_gpu}: there is no GPU to share; "
                "launcher.gpus=1 asks for one, launcher.workers for more runs on processors"
            )
        self.workers, self.gpus, self.cpus = workers, gpus, cpus
        self.runs_per_gpu = runs_per_gpu
        self.memory_gb, self.time_min = memory_gb, time_min
        self.limit = limit
        self.patience_s = lease_s
        self.setup = list(setup)
        chosen = {"partition": partition, "account": account, "qos": qos, "constraint": constraint}
        self.where = [f"--{name}={value}" for name, value in chosen.items() if value is not None]
        self.extra = list(extra)
        for line in [*self.where, *self.extra, *self.setup]:
            if not isinstance(line, str) or "\n" in line:
                raise ConfigError(f"launcher: {line!r}: one line of text is needed")
        for line in self.extra:
            if re.match(r"\s*(--(array|job-name|output)\b|-[aJo])", line):
                raise ConfigError(
                    f"launcher.extra: {line!r}: the launcher says that itself, and finds its jobs "
                    "and logs by it; launcher.workers and launcher.limit size the array"
                )

    def plan(self, work: Assignment) -> str:
        """The two scripts that would be submitted."""
        self._refuse_unfit(work)
        array = self._array(work, self._count(work))
        return "\n".join([self.script(work, array), self.report_script(work, array)])

    def start(self, work: Assignment) -> str:
        """Submit the array and the job that writes the report.

        While tasks of an earlier array wait or run, only those that are missing are submitted.
        """
        if shutil.which("sbatch") is None:
            raise ConfigError(
                "launcher=slurm: there is no `sbatch` on PATH: submit from a node of the cluster, "
                "or use launcher=local, which starts the workers on this machine"
            )
        self._refuse_unfit(work)
        jobs = Jobs(work.folders)
        with jobs.locked():
            queue = jobs.relied_on()
            missing = self._count(work) - queue.workers
            if missing < 1:
                return f"{queue.line()}; nothing is added. {_watch(work)}"
            array = self._array(work, missing)
            folder = work.folder / FOLDER
            with storage_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
            script, report = folder / f"{array.name}.sh", folder / f"{array.name}-report.sh"

            def submit(array: Array) -> str:
                write_aside(script, self.script(work, array))
                jobs.add(array)  # before it is submitted: it is found by its name
                return submitted([str(script)])

            write_aside(script, self.script(work, array))
            write_aside(report, self.report_script(work, array))
            try:
                self._refuse(script)
                number = self._accepted(array, submit)
                self._followed(jobs, number, report)
            except ConfigError:
                with suppress(ConfigError):  # it was taken, and the answer lost?
                    jobs.end([array])
                jobs.forget(array)
                script.unlink()
                report.unlink()
                with suppress(OSError):  # an earlier array's are there
                    folder.rmdir()
                raise
        size = f"{array.workers} worker{'s' if array.workers > 1 else ''}"
        if self.runs_per_gpu > 1:
            tasks = f"{array.workers} task{'s' if array.workers > 1 else ''}"
            size = f"{tasks} of {self.runs_per_gpu} workers"
        return f"job {number} was submitted: {size} at once. {_watch(work)}"

    def check(self, work: Assignment) -> list[str]:
        """What Slurm says of the very script, and what the nodes would miss."""
        self._refuse_unfit(work)
        array = self._array(work, self._count(work))
        with tempfile.TemporaryDirectory(dir=work.home, prefix=".preflight-") as place:
            script = Path(place) / "array.sh"

            def test(array: Array) -> str:
                script.write_text(self.script(work, array))
                return asked(["sbatch", "--test-only", str(script)])

            found = []
            try:
                self._accepted(array, test)
            except ConfigError as error:
                found.append(str(error))
            else:
                found += self._beyond_the_limit()
                found += self._unseen(script)
        return found

    def step(
        self, work: Assignment, command: Sequence[str], wait_s: float, tell: Callable[[str], None]
    ) -> str:
        """Let a command run on a node, with what a worker gets, as a job of its own."""
        name = f"lightning-sep-preflight-{uuid4().hex[:8]}"
        with tempfile.TemporaryDirectory(dir=work.home, prefix=".preflight-") as place:
            script = Path(place) / "step.sh"
            script.write_text("\n".join([*self._head([], work), _STEP % shlex.join(command)]))
            options = [
                f"--job-name={name}",
                "--ntasks=1",
                f"--cpus-per-task={self.cpus or work.threads}",
                *self._gpus(),
                *self._memory(1),
                *self._time(STEP_MIN),
                f"--chdir={Path.cwd()}",
                *self.where,
                *(word for line in self.extra for word in shlex.split(line)),
            ]
            return stepped(name, [*options, "bash", str(script)], wait_s, tell)

    def _accepted(self, array: Array, submit: Callable[[Array], str]) -> str:
        """What Slurm answers to an array, with fewer tasks where a site takes no more.

        Raises:
            ConfigError: it refuses the array at any length, or at the one that was asked for.
        """
        while True:
            try:
                return submit(array)
            except ConfigError as error:
                if not too_many(str(error)):
                    raise
                if self.limit is not None or array.tasks <= array.workers:
                    raise self._fewer(array, error) from error
                array = replace(array, tasks=max(array.tasks // 2, array.workers))

    def _followed(self, jobs: Jobs, number: str, report: Path) -> None:
        """Submit the report of an array; where no more jobs are taken, its last task makes room.

        Raises:
            ConfigError: Slurm refuses it.
        """
        command = [f"--dependency=afterany:{number}", str(report)]
        try:
            submitted(command)
        except ConfigError as error:
            array = jobs.arrays()[-1]
            if not too_many(str(error)):
                raise
            if array.tasks <= array.workers:  # all of them may run
                raise self._fewer(array, error) from error
            jobs.cancel([f"{number}_{array.tasks - 1}"])
            submitted(command)

    @staticmethod
    def _fewer(array: Array, error: ConfigError) -> ConfigError:
        setting = "workers" if array.tasks <= array.workers else "limit"
        return ConfigError(
            f"{error}: perhaps {array.tasks} tasks are more than a job array may have here, or "
            f"with the report more than a user may; launcher.{setting}=N asks for fewer"
        )

    def _refuse(self, script: Path) -> None:
        """Refuse what Slurm would take, and no node could run.

        Raises:
            ConfigError: the nodes do not see what it needs.
        """
        if missing := self._unseen(script):
            raise ConfigError("; ".join(missing))

    def _unseen(self, script: Path) -> list[str]:
        return unseen([script, *_needed()], [*self.where, *self._gpus()])

    def _beyond_the_limit(self) -> list[str]:
        """That the partition gives less time: Slurm lets such a job wait for ever."""
        if self.time_min is None:
            return []
        where = [one for one in self.where if one.startswith("--partition=")]
        lines = asked(["sinfo", "--noheader", "--format=%P|%l", *where]).split()
        limits = dict(line.split("|") for line in lines)
        own = {name: limit for name, limit in limits.items() if where or name.endswith("*")}
        return [
            f"launcher.time_min={self.time_min}: partition {name.rstrip('*')} gives {limit}"
            for name, limit in own.items()
            if (given := minutes(limit)) is not None and given < self.time_min
        ]

    def _refuse_unfit(self, work: Assignment) -> None:
        """Refuse jobs with fewer GPUs than a run trains on, or with more runs than may share."""
        if 0 < self.gpus < work.devices:
            raise ConfigError(
                f"launcher.gpus = {self.gpus}: a run with trainer.devices = {work.devices} needs "
                "as many on each of its nodes"
            )
        refuse_sharing(self.runs_per_gpu, work)

    def script(self, work: Assignment, array: Array) -> str:
        """What a task of the array runs."""
        folder = work.folder.resolve() / FOLDER
        options = [
            f"--job-name={array.name}",
            f"--array=0-{array.tasks - 1}%{array.workers}",
            f"--output={_literally(folder)}/%A_%a.log",
            "--open-mode=append",
            "--requeue",
            *self._tasks(work),
            *self._gpus(),
            *self._memory(self.runs_per_gpu),
        ]
        ends = []
        if self.time_min is not None:
            # for clusters that do not tell a job when it ends
            notice_s = min(SIGNAL_S, 60 * self.time_min // 4)
            options += [f"--time={self.time_min}", f"--signal=B:USR1@{notice_s}"]
            ends = [_END % (60 * self.time_min)]
        done = shlex.quote(str(folder / f"{array.name}.done"))
        command, term = list(work.command), "TERM"
        if work.ranks > 1:
            # Slurm sends SIGTERM to the tasks itself; from us, `srun` would take it as an order to
            # kill them.
            # In a job that was started without its environment, steps would be, too.
            own = ["--kill-on-bad-exit=1", "--export=ALL"]
            command = ["srun", *own, *self._tasks(work), *command]
            term = "USR1"
        told = {"run": shlex.join(command), "done": done, "term": term}
        run = _WORKERS % {**told, "count": self.runs_per_gpu}
        return "\n".join([*self._head(options, work), *ends, run])

    def report_script(self, work: Assignment, array: Array) -> str:
        """What runs when no task of the array is left."""
        folder = work.folder.resolve() / FOLDER
        options = [
            f"--job-name={array.report}",
            f"--output={_literally(folder)}/%j-report.log",
            "--ntasks=1",
            *self._memory(1),
            *self._time(REPORT_MIN),
        ]
        run = shlex.join(own_command("report", work.names))
        return "\n".join([*self._head(options, work), f"exec {run}\n"])

    def _count(self, work: Assignment) -> int:
        """Tasks that find something to do."""
        return min(self.workers, -(-work.most // self.runs_per_gpu))

    def _array(self, work: Assignment, workers: int) -> Array:
        tasks = self.limit or min(32 * workers, LONGEST_ARRAY)
        name = f"lightning-sep-{work.names[0]}-{uuid4().hex[:8]}"
        return Array(name, workers=workers, tasks=max(tasks, workers), sweeps=tuple(work.names))

    def _gpus(self) -> list[str]:
        return [f"--gres=gpu:{self.gpus}"] if self.gpus else []

    def _tasks(self, work: Assignment) -> list[str]:
        """What a worker needs, of ``sbatch`` and of ``srun``."""
        several = [f"--nodes={work.nodes}", f"--ntasks-per-node={work.devices}"]
        return [
            f"--ntasks={work.ranks}",
            *(several if work.ranks > 1 else []),
            f"--cpus-per-task={self.runs_per_gpu * (self.cpus or work.threads)}",
        ]

    def _time(self, most_min: int) -> list[str]:
        """The limit of a short job; none where tasks have none, since Slurm might allow less."""
        return [f"--time={min(most_min, self.time_min)}"] if self.time_min else []

    def _memory(self, workers: int) -> list[str]:
        return (
            [] if self.memory_gb is None else [f"--mem={round(1024 * workers * self.memory_gb)}M"]
        )

    def _head(self, options: Sequence[str], work: Assignment) -> list[str]:
        # A site may start jobs without the environment they were submitted from.
        plugins = {name: os.environ[name] for name in _PLUGINS if name in os.environ}
        kept = {
            **plugins,
            **thread_environment(work.threads),
            "LIGHTNING_SEP_HOME": str(work.home.resolve()),
            "LIGHTNING_SEP_DATA": str(data_home().resolve()),
        }
        every = [f"--chdir={Path.cwd()}", *self.where]
        return [
            "#!/bin/bash",
            *(f"#SBATCH {_quoted(option)}" for option in [*options, *every]),
            *(f"#SBATCH {option}" for option in self.extra),
            *self.setup,
            *(f"export {name}={shlex.quote(value)}" for name, value in kept.items()),
        ]


def _needed() -> list[Path]:
    """What a worker takes from the disk besides the home."""
    package = Path(__file__).parents[1]
    found = [Path(sys.executable), package, Path.cwd(), data_home()]
    return [path for path in found if path.exists()]


def minutes(limit: str) -> float | None:
    """A time as Slurm writes it, such as ``1-12:00:00``; ``None`` where nothing bounds it.

    Example:
        >>> minutes("1-12:00:00"), minutes("30:00"), minutes("infinite")
        (2160.0, 30.0, None)
    """
    days, _, clock = limit.rpartition("-")
    parts = clock.split(":")
    if not all(part.isdecimal() for part in parts) or not (days or "0").isdecimal():
        return None
    hours, rest = (parts[0], parts[1:]) if len(parts) == 3 else ("0", parts)
    seconds = int(rest[1]) if len(rest) > 1 else 0
    return 1440.0 * int(days or 0) + 60 * int(hours) + int(rest[0]) + seconds / 60


def _quoted(option: str) -> str:
    """An option with any path in it, as ``sbatch`` reads it behind ``#SBATCH``."""
    if re.fullmatch(r"[\w@%+=:,./-]*", option, re.ASCII):
        return option
    return '"' + re.sub(r'(["\\])', r"\\\1", option) + '"'


def _literally(folder: Path) -> str:
    """A folder in whose name Slurm replaces nothing."""
    return str(folder).replace("%", "%%")


def _watch(work: Assignment) -> str:
    return (
        f"`lightning-sep status {work.names[0]}` shows how far it is, `stop` ends it; "
        f"logs: {work.folder / FOLDER}"
    )


# That something was found (2) is no failure of the job.
_STEP = """\
%s
code=$?
[ $code = 2 ] && exit 0
exit $code
"""

# Slurm says when a job ends from version 23.02 on.
_END = 'export SLURM_JOB_END_TIME="${SLURM_JOB_END_TIME:-$(($(date +%%s) + %d))}"'

# The shell waits, so that it passes signals on and says what follows the workers' end: 0 as soon
# as one found nothing left. Tasks that still run are then not begun again, whatever becomes of
# their nodes: Slurm might hold them, and the report waits for all. Those that wait are withdrawn or
# end at once where `scancel` is missing (as in a container). A node on which nothing can start (2)
# must not swallow one task after the other.
_WORKERS = """\
[ -e %(done)s ] && exit 0
workers=()
for _ in {1..%(count)d}; do
    %(run)s &
    workers+=($!)
done
trap 'told=1; kill -%(term)s "${workers[@]}" 2>/dev/null' TERM
trap 'told=1; kill -USR1 "${workers[@]}" 2>/dev/null' USR1
code=2
for worker in "${workers[@]}"; do
    while :; do
        told=
        wait $worker
        ended=$?
        [ $ended -gt 128 ] && [ -n "$told" ] || break  # else the signal ended the waiting alone
    done
    [ $ended = 0 ] && code=0
    [ $code = 2 ] && code=$ended
done
if [ $code = 0 ]; then
    : > %(done)s
    command -v scontrol >/dev/null && scontrol update JobId="$SLURM_ARRAY_JOB_ID" Requeue=0
    command -v scancel >/dev/null && scancel --state=PENDING "$SLURM_ARRAY_JOB_ID"
fi
[ $code = 2 ] && sleep 20
exit $code
"""
