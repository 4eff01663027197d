"""Who a process is, so that another one can tell whether it still lives."""

import os
import socket
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Owner:
    """A process, told from every other one on every machine.

    ``world`` is the boot of the machine and the pid namespace: only within one of them can a pid
    be looked up. ``start`` tells a process from a later one with the same number.
    """

    host: str
    world: str
    pid: int
    start: str

    def alive(self) -> bool | None:
        """Whether the process still exists; None where that cannot be seen from here."""
        if not self.world or self.world != _world():
            return None
        return _start(self.pid) == self.start

    def as_json(self) -> dict[str, Any]:
        """The same as JSON types."""
        return asdict(self)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def this_process() -> Owner:
    """This process; asked anew each time, since a fork is another one."""
    pid = os.getpid()
    return Owner(socket.gethostname(), _world(), pid, _start(pid) or "")


@cache
def _world() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}-{os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return ""  # no /proc: others judge by the counter alone


def _start(pid: int) -> str | None:
    """Start time of a process in clock ticks since boot; None when it is gone or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
