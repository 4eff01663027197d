"""Workers as processes on this machine."""

import os
import re
import shlex
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lightning_sep.checks import whole_number
from lightning_sep.errors import ConfigError
from lightning_sep.fsio import storage_errors
from lightning_sep.launchers.base import Assignment, Crew, Launcher, refuse_sharing

LAUNCHER_PID = "LIGHTNING_SEP_LAUNCHER_PID"  # a worker stops when its parent is no longer this
RESTARTS = 3


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    log: Path
    deaths: int = 0
    ended: bool = False


_OF_STACKS = re.compile(r'  File "|  \.\.\.$|(Current t|T)hread 0x[0-9a-f]+ ')


class Local(Launcher):
    """One process per GPU (or per so many as a run trains on), or as many as the cores can serve
    where there is no GPU.

    How many threads a run computes with is its own setting (``trainer.threads``); it is set in the
    children's environment, where it holds before torch is imported.

    Args:
        workers: number of processes; None chooses by the machine.
        runs_per_gpu: small runs that share a GPU, each with a process of its own.
    """

    def __init__(self, workers: int | None = None, runs_per_gpu: int = 1) -> None:
        if workers is not None:
            meaning = "null: one per GPU, or per core where a run takes one thread"
            whole_number("workers", workers, meaning=meaning)
        whole_number("runs_per_gpu", runs_per_gpu)
        self.workers, self.runs_per_gpu = workers, runs_per_gpu

    def plan(self, work: Assignment) -> str:
        """How many processes would run which command."""
        count, _ = self._count(work)
        return f"{count} x {shlex.join(work.command)}"

    def start(self, work: Assignment) -> "Processes":
        """Start the processes; each writes to ``worker-<n>.log`` in the first sweep's folder."""
        count, devices = self._count(work)
        return Processes(work, count, devices)

    def _count(self, work: Assignment) -> tuple[int, list[str]]:
        if work.nodes > 1:
            raise ConfigError(
                f"trainer.nodes = {work.nodes}: these workers run on this machine alone; "
                "launcher=slurm starts them on several"
            )
        refuse_sharing(self.runs_per_gpu, work)
        devices = gpus(os.environ)
        shares = [
            ",".join(devices[first : first + work.devices])
            for first in range(0, len(devices) - work.devices + 1, work.devices)
        ]
        sharing = self.runs_per_gpu * len(shares)
        fitting = max(1, cores() // (work.threads * work.devices))
        return max(1, min(self.workers or sharing or fitting, work.most)), shares


class Processes(Crew):
    """Processes of this machine that all run a worker's command.

    Args:
        work: what they are started for.
        count: how many.
        gpus: of this machine, those of one worker after the other, given to them in turn.
    """

    def __init__(self, work: Assignment, count: int, gpus: Sequence[str]) -> None:
        self.count = count
        self._work = work
        self._gpus = list(gpus)
        self._children: list[_Child] = []
        with storage_errors(work.folder):
            work.folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            log = work.folder / f"worker-{number}.log"
            self._children.append(_Child(self._spawn(number, log), log))

    @property
    def logs(self) -> str:
        """The pattern of their logs' paths."""
        return str(self._work.folder / "worker-*.log")

    def idle(self) -> str | None:
        """The cores that no worker uses."""
        threads, devices = self._work.threads, self._work.devices
        unused = cores() - self.count * threads * devices
        if unused < 1 or self._gpus:
            return None
        several = f" on trainer.devices={devices}" if devices > 1 else ""
        return (
            f"{unused} of {cores()} cores stay idle: a run takes trainer.threads={threads}"
            f"{several}, and threads never change by themselves, since they change the last digits "
            "of a result"
        )

    def _spawn(self, number: int, log: Path) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            **thread_environment(self._work.threads),
            "LIGHTNING_SEP_HOME": str(self._work.home.resolve()),
            LAUNCHER_PID: str(os.getpid()),
        }
        if self._gpus:
            environment["CUDA_VISIBLE_DEVICES"] = self._gpus[number % len(self._gpus)]
        with storage_errors(log), log.open("ab") as output:
            # A session of its own: Ctrl-C reaches the launcher alone, which then asks its workers.
            return subprocess.Popen(
                self._work.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                start_new_session=True,
            )

    def poll(self) -> int:
        """How many workers run; one that left work behind is started again, thrice in a row."""
        for number, child in enumerate(self._children):
            code = child.process.poll()
            if code is None or child.ended:
                continue
            if code in (0, 2) or child.deaths >= RESTARTS:
                child.ended = True
            else:
                child.deaths += 1
                child.process = self._spawn(number, child.log)
        return sum(not child.ended for child in self._children)

    def forgive(self) -> None:
        """The sweep got further: ends of workers before this no longer count."""
        for child in self._children:
            child.deaths = 0

    def troubles(self) -> list[tuple[int, str]]:
        """Exit code and last line of the log of each worker that ended badly."""
        found = []
        for child in self._children:
            code = child.process.poll()
            if child.ended and code:
                end = f"worker ended by signal {-code}" if code < 0 else last_line(child.log)
                found.append((code, f"{end} (log: {child.log})"))
        return found

    def terminate(self, grace_s: float, hurry: Callable[[], bool] = lambda: False) -> None:
        """Send SIGTERM, wait, then SIGKILL what is left."""
        for child in self._children:
            child.ended = True
            if child.process.poll() is None:
                child.process.terminate()
        until_s = time.monotonic() + grace_s
        while any(child.process.poll() is None for child in self._children):
            if time.monotonic() > until_s or hurry():
                break
            time.sleep(0.05)
        for child in self._children:
            if child.process.poll() is None:
                child.process.kill()
                child.process.wait()


def thread_environment(threads: int) -> dict[str, str]:
    """Environment of a process with that many threads; must be set before torch is imported."""
    return {
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_WAIT_POLICY": "passive",  # spinning threads starve the other workers
    }


def cores() -> int:
    """Cores that this process may use: its affinity, bounded by the control group's quota."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    quota = _quota(Path("/sys/fs/cgroup"))
    return max(1, min(allowed or 1, int(quota) if quota is not None else allowed or 1))


def _quota(root: Path) -> float | None:
    """Cores that the control group grants; None without a bound."""
    with suppress(OSError, ValueError):
        limit, period = (root / "cpu.max").read_text().split()
        return None if limit == "max" else int(limit) / int(period)
    with suppress(OSError, ValueError):
        limit_us = int((root / "cpu/cpu.cfs_quota_us").read_text())
        period_us = int((root / "cpu/cpu.cfs_period_us").read_text())
        return limit_us / period_us if limit_us > 0 else None
    return None


def gpus(environment: Mapping[str, str], devices: Path = Path("/dev")) -> list[str]:
    """GPUs that workers may use, as values for CUDA_VISIBLE_DEVICES; found without torch."""
    visible = environment.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [gpu.strip() for gpu in visible.split(",") if gpu.strip() not in ("", "-1")]
    found = [m[1] for p in devices.glob("nvidia*") if (m := re.fullmatch(r"nvidia(\d+)", p.name))]
    return [str(index) for index in range(len(found))]


def last_line(log: Path) -> str:
    """The last line of a log that is neither empty nor of the stacks of a process that hung."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return "no log"
    said = [line.strip() for line in lines if line.strip() and not _OF_STACKS.match(line)]
    return said[-1] if said else "no output"
