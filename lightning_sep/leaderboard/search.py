"""The search that a board's settings were chosen from."""

from collections.abc import Sequence
from dataclasses import dataclass

from lightning_sep.leaderboard.axes import Value, axes, settings_of
from lightning_sep.leaderboard.runs import Run


@dataclass(frozen=True)
class Trial:
    """One trial of the search, its repeats averaged."""

    number: int
    value: float | None
    state: str
    settings: dict[str, Value]


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


def search_of(runs: Sequence[Run]) -> Search | None:
    """The trials of search runs; None without any."""
    if not runs:
        return None
    by_trial: dict[int, list[Run]] = {}
    for place, run in enumerate(sorted(runs, key=lambda run: (run.started, run.run_id))):
        by_trial.setdefault(place if run.trial is None else run.trial, []).append(run)
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
                settings=settings_of(members[0]),
            )
        )
    told = next((run for run in runs if run.monitor_name), runs[0])  # a failed run says nothing
    return Search(
        trials=trials,
        axes=axes(runs),
        monitor=told.monitor_name,
        higher_is_better=told.monitor_mode != "min",
    )
