"""The search that a board's settings were chosen from."""

import math
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from lightning_sep.leaderboard.axes import Value, label_text, typed
from lightning_sep.leaderboard.metric import told_by_most
from lightning_sep.leaderboard.rows import by_seed
from lightning_sep.leaderboard.runs import Run


@dataclass(frozen=True)
class Trial:
    """One trial of the search, its repeats averaged."""

    number: int
    value: float | None
    state: str
    settings: dict[str, Value]
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True)
class Search:
    """The trials that a board's settings were chosen from; for plots only."""

    trials: list[Trial]
    axes: list[str]
    monitor: str
    higher_is_better: bool

    def count(self, state: str) -> int:
        """Number of trials in a state."""
        return sum(trial.state == state for trial in self.trials)


@dataclass(frozen=True)
class Tried:
    """A setting that only the search saw.

    Args:
        label: the settings that set it apart.
        config_hash: of its settings without the seed.
        state: finished, pruned or failed.
        validation: mean of what its runs monitored; None unless it finished.
        runs: its runs, by seed.
    """

    label: list[tuple[str, Value]]
    config_hash: str
    state: str
    validation: float | None
    runs: list[Run]

    @cached_property
    def name(self) -> str:
        """The settings that set it apart, as overrides."""
        return label_text(self.label)


def tried_of(
    runs: Sequence[Run],
    ranked: Container[str],
    labels: Mapping[str, list[tuple[str, Value]]],
    *,
    higher_is_better: bool,
) -> list[Tried]:
    """The settings that only the search saw, best validation score first.

    Args:
        runs: of the search.
        ranked: config hashes of the settings that have runs on fresh seeds.
        labels: of all settings, by config hash.
        higher_is_better: direction of what is monitored.
    """
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if run.config_hash not in ranked:
            groups.setdefault(run.config_hash, []).append(run)
    found = []
    for config, members in groups.items():
        states = {run.state for run in members}
        state = next((one for one in ("failed", "pruned") if one in states), "finished")
        values = [run.monitor_value for run in members if run.monitor_value is not None]
        known = state == "finished" and len(values) == len(members)
        mean = math.fsum(values) / len(values) if known else None
        found.append(Tried(labels[config], config, state, mean, by_seed(members)))
    sign = -1.0 if higher_is_better else 1.0
    return sorted(
        found,
        key=lambda one: (
            one.validation is None,
            sign * (one.validation or 0.0),
            one.state,
            one.name,
        ),
    )


def search_of(
    runs: Sequence[Run], names: Sequence[str], labels: Mapping[str, list[tuple[str, Value]]]
) -> Search | None:
    """The trials of search runs; None without any.

    Args:
        runs: of the search.
        names: the settings that it varied.
        labels: of all settings, by config hash.
    """
    if not runs:
        return None
    by_trial: dict[int, list[Run]] = {}
    free = 1 + max((run.trial for run in runs if run.trial is not None), default=-1)
    for place, run in enumerate(sorted(runs, key=lambda run: (run.started, run.run_id))):
        by_trial.setdefault(free + place if run.trial is None else run.trial, []).append(run)
    trials = []
    for number, members in sorted(by_trial.items()):
        states = {run.state for run in members}
        state = next((s for s in ("finished", "pruned") if s in states), "failed")
        values = [
            run.monitor_value
            for run in members
            if run.state == state and run.monitor_value is not None
        ]
        if not values:
            state = "failed" if state == "finished" else state
        trials.append(
            Trial(
                number=number,
                value=sum(values) / len(values) if values and state != "failed" else None,
                state=state,
                settings={
                    name: typed(value) if isinstance(value, str) else value
                    for name, value in labels[members[0].config_hash]
                },
                runs=tuple(by_seed(members)),
            )
        )
    told = told_by_most(runs)
    return Search(
        trials=trials,
        axes=list(names),
        monitor=told.monitor_name,
        higher_is_better=told.monitor_mode != "min",
    )
