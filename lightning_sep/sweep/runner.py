"""What a worker runs: one setting with one seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from lightning_sep.errors import ConfigError
from lightning_sep.sweep.definition import Definition


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Args:
        run_id: the run.
        state: whether it was trained to its end.
        value: best value of the monitored validation metric.
    """

    run_id: str
    state: Literal["finished", "pruned"]
    value: float


class Runner(Protocol):
    """Turns overrides into a trained run."""

    def examine(self, definition: Definition) -> None:
        """Refuse what can be refused before any work, and prepare what all runs need."""
        ...

    def identify(self, overrides: Sequence[str]) -> str:
        """The run id of these overrides."""
        ...

    def run(
        self,
        overrides: Sequence[str],
        *,
        sweep: str,
        trial: int,
        purpose: str,
        report: Callable[[int, float], bool] | None,
        should_stop: Callable[[], bool],
        guard: Callable[[], None],
    ) -> Outcome:
        """Train and test, resume, or return what was finished before."""
        ...


class ExperimentRunner:
    """Runs `lightning_sep.experiment`; nothing heavy is imported before the first use.

    Args:
        home: folder of all runs.
        config_dir: a folder with the user's own entries.
    """

    def __init__(self, home: Path, config_dir: str | None = None) -> None:
        self.home = home
        self.config_dir = config_dir

    def examine(self, definition: Definition) -> None:
        """Compose settings from all over the space and open their data.

        Raises:
            ConfigError: a setting cannot be used, or the metric is not what the task monitors.
            DataError: data are neither prepared nor can be by themselves.
        """
        data: dict[str, Any] = {}

        def compose(overrides: list[str]) -> None:
            settings = self._compose(overrides)
            data.setdefault(repr(settings.tree["data"]), settings)

        definition.check(compose)
        sweep = definition.sweep
        metric, direction = task_monitor(
            [*sweep.settings, *definition.extra], definition.config_dir
        )
        if (sweep.metric, sweep.direction) != (metric, direction):
            raise ConfigError(
                f"{definition.path}: metric={sweep.metric!r}, direction={sweep.direction!r}: its "
                f"task monitors metric={metric!r}, direction={direction!r}"
            )
        from lightning_sep import experiment

        for settings in data.values():
            experiment.open_data(settings)  # once, not by all workers at the same time

    def identify(self, overrides: Sequence[str]) -> str:
        """The run id; opens the data, whose hash is part of it."""
        from lightning_sep import experiment

        return experiment.identify(self._compose(overrides))

    def run(
        self,
        overrides: Sequence[str],
        *,
        sweep: str,
        trial: int,
        purpose: str,
        report: Callable[[int, float], bool] | None,
        should_stop: Callable[[], bool],
        guard: Callable[[], None],
    ) -> Outcome:
        """Train and test, resume, or return what was finished before."""
        from lightning_sep import experiment

        result = experiment.run(
            self._compose(overrides),
            home=self.home,
            sweep=sweep,
            trial=trial,
            purpose=purpose,
            report=report,
            should_stop=should_stop,
            guard=guard,
        )
        pruned = result.state == "pruned"
        return Outcome(result.run_id, "pruned" if pruned else "finished", float(result.monitored))

    def _compose(self, overrides: Sequence[str]) -> Any:
        from lightning_sep.settings import compose

        return compose(list(overrides), self.config_dir)


def task_monitor(
    overrides: Sequence[str], config_dir: str | None = None
) -> tuple[str, Literal["maximize", "minimize"]]:
    """The validation metric that the task of these settings is judged by, and its direction."""
    from lightning_sep.settings import compose, locate

    target: Any = locate(compose(list(overrides), config_dir).tree["task"])
    metric, mode = target.monitor
    return metric, "maximize" if mode == "max" else "minimize"
