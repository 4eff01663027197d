"""The Slurm jobs of a sweep: what was submitted, what Slurm says of it, and how to steer it.

A job is found by its name, which is written down before it is submitted: no crash between the two
loses it. Each question is one call of ``squeue``, since a scheduler serves everybody.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lightning_sep.errors import ConfigError, NoRoom
from lightning_sep.fsio import write_json
from lightning_sep.launchers.slurm_words import FULL, in_words
from lightning_sep.leases.lock import FileLock

FORMAT = 1
FILE = "jobs.json"  # in a sweep's folder
FOLDER = "slurm"  # there too: scripts and logs
_PATIENCE_S = 60

# What Slurm calls tasks that have no node: those that wait, and those that somebody has to let go.
_HELD = ("REQUEUE_HOLD", "SPECIAL_EXIT", "RESV_DEL_HOLD")
_WAITS = ("PENDING", "REQUEUED", "REQUEUE_FED", *_HELD)
# Which cluster is meant.
_CLUSTER = ("SLURM_CONF", "SLURM_CLUSTERS", "SLURM_JWT")
# A worker's last words where it could not work.
_REFUSAL = re.compile(r"\d\d:\d\d:\d\d (\w+Error: .*)")
_TAIL = 8192  # bytes of a log that hold them


@dataclass(frozen=True)
class Array:
    """A job array that was submitted, or is about to be.

    Args:
        name: of its jobs, unlike any other's.
        workers: tasks that run at once.
        tasks: in all.
        sweeps: that they work on.
        stopped: its workers were asked to stop, so that nobody counts on them.
    """

    name: str
    workers: int
    tasks: int
    sweeps: tuple[str, ...]
    stopped: bool = False

    @property
    def report(self) -> str:
        """Name of the job that writes the report after it."""
        return f"{self.name}-report"


@dataclass(frozen=True)
class Task:
    """A line of ``squeue``: a task that runs, or some that wait.

    Args:
        job: number of the array, or of a single job.
        task: number within the array; empty for those that wait together.
        count: how many tasks.
        throttle: how many of them may run at once; ``None`` where nothing bounds them.
        state: as Slurm calls it: ``PENDING``, ``RUNNING``, …
        reason: why it waits.
        nodes: where it runs.
        name: of the job.
    """

    job: str
    task: str
    count: int
    throttle: int | None
    state: str
    reason: str
    nodes: str
    name: str

    @property
    def waits(self) -> bool:
        """Whether it does not run yet."""
        return self.state in _WAITS

    @property
    def ends(self) -> bool:
        """Whether Slurm is ending it, or waits for the last of its processes."""
        return self.state == "COMPLETING"

    @property
    def held(self) -> bool:
        """Whether somebody has to let it go; some of several that wait together do not count."""
        reasons = self.reason.lower().split(",")
        named = all("held" in one or "hold" in one for one in reasons)
        return self.state in _HELD or (self.waits and named)


@dataclass(frozen=True)
class Queue:
    """What Slurm has of a sweep's tasks: those that wait or run."""

    tasks: tuple[Task, ...]

    @property
    def jobs(self) -> list[str]:
        """Numbers of the jobs that they belong to, the oldest first."""
        return sorted({task.job for task in self.tasks}, key=int)

    @property
    def running(self) -> list[Task]:
        """Tasks that have a node."""
        return [task for task in self.tasks if not task.waits]

    @property
    def waiting(self) -> list[Task]:
        """Tasks that have none yet, some of them together."""
        return [task for task in self.tasks if task.waits]

    @property
    def workers(self) -> int:
        """How many will run at once, once Slurm has room."""
        total = 0
        for job in self.jobs:
            own = [task for task in self.tasks if task.job == job]
            count = sum(task.count for task in own if not task.held and not task.ends)
            bounds = [task.throttle for task in own if task.throttle]
            if not bounds and any("JobArrayTaskLimit" in task.reason for task in own):
                # Slurm leaves the bound out where a task was requeued: as many run as may
                bounds = [len([task for task in own if not task.waits])]
            total += min([count, *bounds])
        return total

    def line(self) -> str:
        """All of it in one line; empty when Slurm has nothing."""
        if not self.tasks:
            return ""
        said = []
        if self.running:
            nodes = sorted({task.nodes for task in self.running})
            said.append(f"{len(self.running)} run on {', '.join(nodes)}")
        why = Counter[str]()
        for task in self.waiting:
            why[task.reason] += task.count
        for reason, count in why.items():
            said.append(f"{count} wait ({in_words(reason)})")
        return f"job {', '.join(self.jobs)}: {', '.join(said)}"

    def as_json(self) -> dict[str, Any]:
        """The same as JSON types."""
        return {
            "jobs": self.jobs,
            "running": len(self.running),
            "waiting": sum(task.count for task in self.waiting),
            "workers": self.workers,
            "tasks": [asdict(task) for task in self.tasks],
        }


class Jobs:
    """The jobs of sweeps that are worked on together.

    Args:
        folders: the sweeps' folders; each keeps all of it.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(folders)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """No two commands submit at the same time."""
        with FileLock(self.folders[0] / "jobs.lock"):
            yield

    def arrays(self) -> list[Array]:
        """What was submitted so far, the latest last.

        Raises:
            ConfigError: what is kept of it is damaged.
        """
        path = self.folders[0] / FILE
        try:
            record = json.loads(path.read_text())
            return [Array(**{**one, "sweeps": tuple(one["sweeps"])}) for one in record["arrays"]]
        except FileNotFoundError:
            return []
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} is damaged ({error}): move it away") from error

    def add(self, array: Array) -> None:
        """Keep an array, or what has become of it."""
        self._write([*(one for one in self.arrays() if one.name != array.name), array])

    def forget(self, array: Array) -> None:
        """An array that could not be submitted."""
        left = [one for one in self.arrays() if one.name != array.name]
        if left:
            self._write(left)
        else:
            for folder in self.folders:
                (folder / FILE).unlink(missing_ok=True)

    def _write(self, arrays: Sequence[Array]) -> None:
        content = {"format": FORMAT, "arrays": [asdict(one) for one in arrays]}
        for folder in self.folders:
            write_json(folder / FILE, content)

    def queue(self) -> Queue:
        """What Slurm has of them: the tasks that wait or run.

        Raises:
            ConfigError: Slurm does not answer.
        """
        return self.named(*(array.name for array in self.arrays()))

    def reports(self) -> Queue:
        """What Slurm has of the jobs that write the report.

        Raises:
            ConfigError: Slurm does not answer.
        """
        return self.named(*(array.report for array in self.arrays()))

    def others(self) -> bool:
        """Whether somebody else has submitted them: a site may hide the jobs of other users."""
        return (self.folders[0] / FILE).stat().st_uid != os.getuid()

    def relied_on(self) -> Queue:
        """Those of them whose workers nobody has asked to stop.

        Raises:
            ConfigError: Slurm does not answer.
        """
        return self.named(*(array.name for array in self.arrays() if not array.stopped))

    def refusals(self) -> Counter[str]:
        """Why tasks of the latest array ended that could not work, and how many."""
        found = Counter[str]()
        folder = self.folders[0] / FOLDER
        for array in self.arrays()[-1:]:
            with suppress(OSError):
                since_s = (folder / f"{array.name}.sh").stat().st_mtime
                logs = [one for one in folder.glob("*_*.log") if one.stat().st_mtime >= since_s]
                found.update(said for one in logs if (said := _refusal(one)))
        return found

    @staticmethod
    def named(*names: str) -> Queue:
        """What Slurm has of the jobs of these names.

        Raises:
            ConfigError: Slurm does not answer.
        """
        if not names:
            return Queue(())
        shape = "%F|%K|%T|%r|%N|%j"
        lines = asked(["squeue", "--noheader", f"--name={','.join(names)}", f"--format={shape}"])
        return Queue(tuple(_task(line) for line in lines.splitlines() if line.count("|") >= 5))

    def cancel(self, jobs: Sequence[str], *, waiting_only: bool = False) -> None:
        """End jobs; their workers save first."""
        if jobs:
            asked(["scancel", *(["--state=PENDING"] if waiting_only else []), *jobs], late=True)

    def stop(self, arrays: Sequence[Array]) -> None:
        """Let these arrays end: tasks that wait at once, those that run when they have saved.

        Nobody counts on what else works on the sweep either: whoever was asked to leave it does not
        come back.
        """
        tasks = self.named(*(array.name for array in arrays))
        self.cancel(sorted({task.job for task in tasks.waiting}), waiting_only=True)
        _save_and_end(tasks.running)
        with self.locked():
            self._write([replace(array, stopped=True) for array in self.arrays()])

    def end(self, arrays: Sequence[Array]) -> None:
        """End these arrays, with the workers that run and the reports after them."""
        names = [name for array in arrays for name in (array.name, array.report)]
        self.cancel(self.named(*names).jobs)

    def scale(self, workers: int) -> str:
        """Let another number of tasks run at once; those that are too many save and end.

        The number is that of all arrays of the sweep together.

        Raises:
            ConfigError: nothing waits or runs, or Slurm refuses.
        """
        queue = self.queue()
        if not queue.tasks:
            raise ConfigError(
                "no job of this sweep waits or runs: `lightning-sep sweep … launcher=slurm "
                f"launcher.workers={workers}` submits some"
            )
        said, ends = [], 0
        left = workers
        for job in reversed(queue.jobs):  # the newest keeps what it has, and gets what is added
            own = [task for task in queue.tasks if task.job == job]
            share = min(left, Queue(tuple(own)).workers)
            if job == queue.jobs[-1]:
                share += max(0, workers - queue.workers)
            left -= share
            if share:
                limit = f"ArrayTaskThrottle={share}"
                asked(["scontrol", "update", f"JobId={job}", limit], late=True)
                said.append(f"job {job}: {share} at once")
            else:  # no number of tasks that Slurm knows of means none
                self.cancel([job], waiting_only=True)
            running = sorted((one for one in own if not one.waits), key=lambda one: int(one.task))
            surplus = running[share:]
            _save_and_end(surplus)
            ends += len(surplus)
        return ", ".join(said) + (f"; {ends} save what they have and end" if ends else "")


def _save_and_end(tasks: Sequence[Task]) -> None:
    """Let the workers of tasks that run save what they have and leave."""
    if tasks:
        named = [f"{one.job}_{one.task}" for one in tasks]
        asked(["scancel", "--batch", "--signal=USR1", *named], late=True)


def _refusal(log: Path) -> str | None:
    """The last words of a task's log where its worker could not work."""
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
        lines = file.read().decode(errors="replace").splitlines()
    said = [line for line in lines if re.match(r"\d\d:\d\d:\d\d ", line)]
    words = _REFUSAL.fullmatch(said[-1]) if said else None
    return words and words[1]


def surroundings() -> dict[str, str]:
    """The environment in which Slurm is asked: not that of a job in which this process may be.

    There `srun` would start a step of that job instead of a job of its own, and jobs would inherit
    what that job has of memory and cores, which `srun` takes for orders.
    """
    if "SLURM_JOB_ID" not in os.environ:
        return dict(os.environ)
    return {
        name: value
        for name, value in os.environ.items()
        if name in _CLUSTER or not name.startswith(("SLURM_", "SRUN_"))
    }


def submitted(command: Sequence[str]) -> str:
    """The number of a job that is handed to ``sbatch``.

    Raises:
        ConfigError: Slurm refuses it.
    """
    return asked(["sbatch", "--parsable", *command]).strip().partition(";")[0]


def stepped(name: str, command: Sequence[str], wait_s: float, tell: Callable[[str], None]) -> str:
    """What a command prints that ``srun`` lets run as a job of its own.

    Args:
        name: of the job, unlike any other's.
        command: options of ``srun``, and the command.
        wait_s: how long it may wait for a node.
        tell: takes each line that the command writes on stderr, and that the job waits.

    Raises:
        ConfigError: Slurm refuses it, or it fails.
        NoRoom: it has waited for so long.
    """
    if shutil.which("srun") is None:
        raise ConfigError("there is no `srun` on PATH: use a node of the cluster")
    own: list[str] = []

    def listen(lines: Iterable[str]) -> None:
        for line in lines:
            said, ours = re.subn(r"^srun: (error: )?", "", line.rstrip())
            if ours and "queued and waiting" not in said:
                own.append(said)
            else:
                tell(said)

    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(
            ["srun", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            env=surroundings(),
        ) as process,
    ):
        listener = threading.Thread(target=listen, args=(process.stderr,))
        listener.start()
        try:
            with suppress(subprocess.TimeoutExpired):
                process.wait(wait_s)
            if process.poll() is None and (waiting := Jobs.named(name).waiting):
                raise NoRoom(
                    f"job {waiting[0].job} has not begun within {wait_s:g} s: "
                    f"{in_words(waiting[0].reason)}"
                )
            process.wait()
        finally:
            if process.poll() is None:
                asked(["scancel", f"--name={name}"], late=True)
                process.terminate()
            listener.join()
        output.seek(0)
        said = output.read()
    if process.returncode:
        raise ConfigError(f"srun: {'; '.join(dict.fromkeys(own)) or 'the job failed'}")
    return said


def asked(command: Sequence[str], *, late: bool = False) -> str:
    """What a command of Slurm answers.

    Args:
        command: the command.
        late: that jobs have ended meanwhile is no refusal. ``scancel`` says so, or says nothing, of
            one that ends while it is told.

    Raises:
        ConfigError: it is not there, does not answer, or refuses.
    """
    if shutil.which(command[0]) is None:
        raise ConfigError(f"there is no `{command[0]}` on PATH: use a node of the cluster")
    with (
        tempfile.TemporaryFile("w+") as output,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            env=surroundings(),
        ) as process,
    ):
        assert process.stderr is not None
        timer = threading.Timer(_PATIENCE_S, process.kill)
        timer.start()
        said = []
        for line in process.stderr:
            said.append(line.rstrip())
            if FULL in line:  # `sbatch` would try again and again, for minutes
                process.kill()
        process.wait()
        silent = timer.finished.is_set()
        timer.cancel()
        output.seek(0)
        answer = output.read()
    if silent:
        raise ConfigError(
            f"`{command[0]}` has not answered for {_PATIENCE_S} s: try again when Slurm is back"
        )
    ended = late and all("already" in one or "No error" in one for one in said)
    if process.returncode and not ended:
        lines = [in_words(re.sub(r"^\w+: error: ", "", one)) for one in said if one]
        raise ConfigError(f"{command[0]}: {'; '.join(dict.fromkeys(lines)) or 'refused'}")
    return answer


def _task(line: str) -> Task:
    job, index, state, reason, nodes, name = line.split("|", 5)
    numbers, _, throttle = index.partition("%")
    count = 0
    for part in numbers.split(","):
        first, _, last = part.partition("-")
        # a single number, a job without an array ("N/A"), or more than Slurm lists ("...")
        count += int(last) - int(first) + 1 if last.isdecimal() and first.isdecimal() else 1
    single = numbers if numbers.isdecimal() else ""
    bound = int(throttle) if throttle.isdecimal() else None
    return Task(job, single, count, bound, state, reason, nodes, name)
