"""What a launcher promises: it runs the same worker command some number of times."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar


class Launcher(ABC):
    """Starts workers, keeps them going, and stops them."""

    detached: ClassVar[bool] = False
    """Whether the workers outlive the command that started them."""

    @abstractmethod
    def start(self, command: Sequence[str], *, folder: Path, most: int, threads: int = 1) -> int:
        """Start workers that all run ``command``; logs and scripts go to ``folder``.

        Args:
            most: more workers than this would find nothing to do.
            threads: what each run computes with. It is a setting of the runs, never a consequence
                of how many workers there are: it changes the last digits of a result.

        Returns:
            The number of workers.

        Raises:
            ConfigError: no worker can be started with these settings.
        """

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
