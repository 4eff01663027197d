"""What a launcher promises: it runs the same worker command some number of times."""

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_sep.errors import ConfigError


def worker_command(sweeps: Sequence[str]) -> list[str]:
    """The command of a worker that takes these sweeps one after the other."""
    return own_command("worker", sweeps)


def own_command(name: str, sweeps: Sequence[str]) -> list[str]:
    """One of our commands, for some sweeps, as another process or machine runs it."""
    return [sys.executable, "-m", "lightning_sep", name, ",".join(sweeps)]


@dataclass(frozen=True)
class Assignment:
    """What workers are started for.

    Args:
        names: the sweeps that they take one after the other.
        command: of a worker.
        folders: the sweeps' folders; logs and scripts go to the first.
        home: folder of all runs.
        most: more workers than this would find nothing to do.
        devices: that each run trains on, on each node;
        nodes: and the nodes.
        threads: what each process of a run computes with. It is a setting of the runs, never a
            consequence of how many workers there are: it changes the last digits of a result.
    """

    names: Sequence[str]
    command: Sequence[str]
    folders: Sequence[Path]
    home: Path
    most: int
    threads: int = 1
    devices: int = 1
    nodes: int = 1

    @property
    def ranks(self) -> int:
        """Processes that train one run together."""
        return self.devices * self.nodes

    @property
    def folder(self) -> Path:
        """Where logs and scripts go."""
        return self.folders[0]


def refuse_sharing(runs_per_gpu: int, work: Assignment) -> None:
    """Refuse that runs share GPUs of which one run takes several.

    Raises:
        ConfigError: they would.
    """
    if runs_per_gpu > 1 and work.ranks > 1:
        raise ConfigError(
            f"launcher.runs_per_gpu = {runs_per_gpu}: a run with trainer.devices = {work.devices} "
            f"and trainer.nodes = {work.nodes} has its GPUs to itself"
        )


class Crew(ABC):
    """Workers that end with the command that started them, and are watched by it."""

    count: int
    """How many were started."""

    @property
    @abstractmethod
    def logs(self) -> str:
        """Where they write what they do."""

    def idle(self) -> str | None:
        """What of the machine is not used, and how it could be; ``None`` when nothing is."""
        return None

    @abstractmethod
    def poll(self) -> int:
        """How many workers run or will run again; those that died are started anew here."""

    @abstractmethod
    def troubles(self) -> list[tuple[int, str]]:
        """Why workers ended that will not be started again: exit code and one line each."""

    @abstractmethod
    def terminate(self, grace_s: float, hurry: Callable[[], bool] = lambda: False) -> None:
        """Ask all workers to stop; end those that have not after ``grace_s``, or once ``hurry``."""

    @abstractmethod
    def forgive(self) -> None:
        """The sweep got further: deaths of workers before this no longer count."""


class Launcher(ABC):
    """Starts workers."""

    patience_s: float | None = None
    """How long a sign of life may stand still where these workers run; ``None``: as usual."""

    @abstractmethod
    def plan(self, work: Assignment) -> str:
        """What `start` would do, as text; nothing is done.

        Raises:
            ConfigError: no worker can be started with these settings.
        """

    def check(self, work: Assignment) -> list[str]:
        """What would keep the workers from working, a line each; nothing is started."""
        return []

    def step(
        self, work: Assignment, command: Sequence[str], wait_s: float, tell: Callable[[str], None]
    ) -> str | None:
        """What a command prints where the workers would run, with what they get.

        Args:
            work: what workers would be started for.
            command: the command; its exit code 2 is an answer too.
            wait_s: how long room for it is waited for.
            tell: takes each line that it writes on stderr.

        Returns:
            Its output; ``None`` where they would run on this machine.

        Raises:
            ConfigError: it cannot run there, or fails.
            NoRoom: nobody lets it run for ``wait_s``.
        """
        return None

    @abstractmethod
    def start(self, work: Assignment) -> Crew | str:
        """Start workers.

        Returns:
            The workers, or what is said of those that go on by themselves.

        Raises:
            ConfigError: no worker can be started with these settings.
        """
