"""Who a process is, so that another one can tell whether it still lives."""

import os
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Owner:
    """A process, told from every other one on every machine.

    ``world`` is the boot of the machine and the pid namespace: only within one of them can a pid
    be looked up. ``start`` tells a process from a later one with the same number. ``job`` is its
    Slurm job, for people.
    """

    host: str
    world: str
    pid: int
    start: str
    job: str = ""

    @classmethod
    def read(cls, record: object) -> "Owner | None":
        """An owner from a file, whichever version wrote it; None when it says too little."""
        if not isinstance(record, Mapping):
            return None
        try:
            return cls(
                host=str(record["host"]),
                world=str(record["world"]),
                pid=int(record["pid"]),
                start=str(record["start"]),
                job=str(record.get("job", "")),
            )
        except (KeyError, TypeError, ValueError):
            return None

    def alive(self) -> bool | None:
        """Whether the process still exists; None where that cannot be seen from here."""
        if not self.world or self.world != _world():
            return None
        try:
            return _start(self.pid) == self.start
        except OSError:  # /proc does not answer: not a word about the process
            return None

    def as_json(self) -> dict[str, Any]:
        """The same as JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        job = f", job {self.job}" if self.job else ""
        return f"process {self.pid} on {self.host}{job}"


def this_process() -> Owner:
    """This process; a fork is another one."""
    return _owner(os.getpid())


@cache
def _owner(pid: int) -> Owner:
    array = os.environ.get("SLURM_ARRAY_JOB_ID", ""), os.environ.get("SLURM_ARRAY_TASK_ID", "")
    job = "_".join(array) if all(array) else os.environ.get("SLURM_JOB_ID", "")
    return Owner(socket.gethostname(), _world(), pid, _start(pid) or "", job)


@cache
def _world() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""  # no /proc: others judge by signs of life alone


def _start(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot; None when it is gone or a zombie."""
    try:
        # The name in it is whatever the process calls itself: not always UTF-8.
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].decode().split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else fields[19]
