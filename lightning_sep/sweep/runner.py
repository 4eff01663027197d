"""What a worker runs: one setting with one seed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from lightning_sep.errors import ConfigError
from lightning_sep.leases.presence import Presence
from lightning_sep.leases.process import Owner
from lightning_sep.memory import load
from lightning_sep.run_folder import RunFolder
from lightning_sep.sweep.definition import Definition
from lightning_sep.sweep.watchdog import watched

# What a run imports before its first step: that takes seconds, on a busy machine many, and is no
# step that hangs.
_IMPORTED_LATE = ("lightning_sep.training", "torch._dynamo")


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


@dataclass(frozen=True)
class Errand:
    """On whose behalf a run is done, and whom it asks.

    Args:
        sweep: the sweep's name.
        trial: the trial's number.
        purpose: ``"search"`` or ``"final"``.
        report: gets epoch and value after each validation; ``True`` prunes.
        should_stop: asked after each batch.
        guard: called before each write.
        presence: this worker's sign of life.
        busy: called while another process has the run; returning waits for it.
        judged: whether values of this trial have been reported before.
    """

    sweep: str
    trial: int
    purpose: str
    report: Callable[[int, float], bool]
    should_stop: Callable[[], bool]
    guard: Callable[[], None]
    presence: Presence
    busy: Callable[[Owner | None], None]
    judged: bool = False


@dataclass(frozen=True)
class Examined:
    """What a definition comes to.

    Args:
        targets: the class paths that its settings name.
        entries: the entries of ``conf/`` that its settings are made of, as ``group/entry``.
        threads: the most threads that one of its runs uses,
        devices: the most devices of a node,
        nodes: and the most nodes.
    """

    targets: list[str] = field(default_factory=list)
    entries: list[str] = field(default_factory=list)
    threads: int = 1
    devices: int = 1
    nodes: int = 1


class Runner(Protocol):
    """Turns overrides into a trained run."""

    def examine(self, definition: Definition) -> Examined:
        """Refuse what can be refused before any work, and prepare what all runs need."""
        ...

    def prepare(self, overrides: Sequence[str]) -> tuple[str, Any]:
        """The run id of these overrides, and what `run` needs."""
        ...

    def run(self, prepared: Any, errand: Errand) -> Outcome:
        """Train and test, resume, or return what was finished before."""
        ...

    def reached(self, run_id: str) -> int:
        """How far a run has got, by what it could go on from."""
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

    def examine(self, definition: Definition) -> Examined:
        """Compose settings from all over the space and open their data.

        Raises:
            ConfigError: a setting cannot be used, or the metric is not what the task monitors.
            DataError: data are neither prepared nor can be by themselves.
        """
        from lightning_sep.run_id import counted, targets
        from lightning_sep.settings.fitting import refuse_unfit

        data: dict[str, Any] = {}
        paths: set[str] = set()
        entries: set[str] = set()
        most = {"threads": 1, "devices": 1, "nodes": 1}

        def compose(overrides: list[str]) -> None:
            settings = self._compose(overrides)
            refuse_unfit(settings.tree, settings.choices)
            if settings.tree["trainer"].get("fast_dev_run"):
                raise ConfigError(
                    "trainer.fast_dev_run is for one run: `lightning-sep preflight` takes real "
                    "steps with the settings of a sweep"
                )
            data.setdefault(repr(settings.tree["data"]), settings)
            paths.update(targets(counted(settings.tree)))
            entries.update(f"{group}/{name}" for group, name in settings.choices.items())
            for name in most:
                most[name] = max(most[name], settings.tree["trainer"].get(name, 1))

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
        from lightning_sep.parts import open_data, refuse_tracking

        for settings in data.values():
            refuse_tracking(settings.tree)
            open_data(settings)  # once, not by all workers at the same time
        return Examined(sorted(paths), sorted(entries), **most)

    def prepare(self, overrides: Sequence[str]) -> tuple[str, Any]:
        """The run id, and the composed settings with their data, whose hash is part of the id."""
        load("lightning_sep.experiment")
        from lightning_sep.parts import identify, open_data

        settings = self._compose(overrides)
        data = open_data(settings)
        return identify(settings, data), (settings, data)

    def run(self, prepared: Any, errand: Errand) -> Outcome:
        """Train and test, resume, or return what was finished before."""
        from lightning_sep import experiment

        load(*_IMPORTED_LATE)
        settings, data = prepared
        with watched(settings.tree["trainer"]["hang_s"]) as alive:
            result = experiment.run(
                settings,
                data=data,
                home=self.home,
                sweep=errand.sweep,
                trial=errand.trial,
                purpose=errand.purpose,
                report=errand.report,
                should_stop=errand.should_stop,
                guard=errand.guard,
                alive=alive,
                presence=errand.presence,
                busy=errand.busy,
                judged=errand.judged,
            )
        pruned = result.state == "pruned"
        return Outcome(result.run_id, "pruned" if pruned else "finished", float(result.monitored))

    def reached(self, run_id: str) -> int:
        """The step of the newest checkpoint."""
        return max((one.step for one in RunFolder(self.home / run_id).steps()), default=0)

    def _compose(self, overrides: Sequence[str]) -> Any:
        from lightning_sep.settings import compose
        from lightning_sep.warm_start import pinned

        return pinned(compose(list(overrides), self.config_dir), self.home)


def task_monitor(
    overrides: Sequence[str], config_dir: str | None = None
) -> tuple[str, Literal["maximize", "minimize"]]:
    """The validation metric that the task of these settings is judged by, and its direction."""
    from lightning_sep.settings import compose, locate

    target: Any = locate(compose(list(overrides), config_dir).tree["task"])
    metric, mode = target.monitor
    return metric, "maximize" if mode == "max" else "minimize"
