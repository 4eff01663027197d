"""The rows of a board: a setting, its runs, what they scored and how well that is known."""

import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from lightning_sep.leaderboard.axes import Value, label_text
from lightning_sep.leaderboard.metric import PERCENTILES, Metric
from lightning_sep.leaderboard.ranking import Scores, Standing
from lightning_sep.leaderboard.runs import VERIFIED, Run
from lightning_sep.leaderboard.statistics import (
    Floats,
    Interval,
    crossed_interval,
    prediction_interval,
    seed_interval,
)
from lightning_sep.leaderboard.tables import Values, interquartile_mean


@dataclass(frozen=True)
class SeedScore:
    """One dot of a row: a finished run's test score and the command that repeats the run."""

    seed: int | None
    value: float
    run: Run
    command: str


@dataclass(frozen=True, eq=False)
class Row:
    """One setting of a board, judged by all its seeds; those that are ranked have all of them."""

    config_hash: str
    label: list[tuple[str, Value]]
    scores: list[SeedScore]
    failed: list[Run]
    validation: float | None  # mean over the seeds of what the runs monitored, or None
    trial: int | None
    interval: Interval | None  # for the board's truth
    seed_interval: Interval | None
    prediction: Interval | None
    standing: Standing | None  # None where it is not ranked
    percentiles: dict[int, Interval]  # for new seeds on this test set
    interquartile: Interval | None  # mean of the middle half of the examples, the same way
    extras: dict[str, float]
    parameters: int | None
    wall_s: float | None
    device: str

    @property
    def runs(self) -> list[Run]:
        """The final runs, finished or failed, by seed."""
        return by_seed([*(score.run for score in self.scores), *self.failed])

    @cached_property
    def name(self) -> str:
        """The settings that set this row apart, as overrides."""
        return label_text(self.label)

    @property
    def run_id(self) -> str:
        """The run that validated best, which is the one to use; the first where none says so."""
        valued = [score.run for score in self.scores if score.run.monitor_value is not None]
        if not valued:
            return self.runs[0].run_id
        sign = 1.0 if valued[0].monitor_mode == "min" else -1.0
        return min(valued, key=lambda run: sign * (run.monitor_value or 0.0)).run_id

    @property
    def verified(self) -> int:
        """How often one of its runs was reproduced and agreed with its record."""
        return sum(grade in VERIFIED for run in self.runs for grade in run.grades)

    @property
    def differed(self) -> int:
        """How often one of its runs was reproduced and gave something else."""
        return sum(len(run.grades) for run in self.runs) - self.verified

    @property
    def verified_text(self) -> str:
        """``verified 2 times``; empty where nobody has tried."""
        times = {0: "", 1: "once"}
        said = [
            f"{word} {times.get(count, f'{count} times')}"
            for word, count in (("verified", self.verified), ("differed", self.differed))
            if count
        ]
        return ", ".join(said)

    @property
    def commit(self) -> str | None:
        """The commit that all its runs were made with; None where there is no one such."""
        found = {
            None if run.uncommitted else run.environment.get("code_revision") for run in self.runs
        }
        (first, *others) = found
        return first if not others and isinstance(first, str) else None

    @property
    def ranks(self) -> tuple[int, int] | None:
        """The ranks that the row may truly have; None where nothing is said about them."""
        return None if self.standing is None else self.standing.ranks

    @property
    def may_be_best(self) -> bool:
        """Whether no other row is distinguishably better."""
        return self.standing is not None and self.standing.may_be_best

    @property
    def rank_text(self) -> str:
        """``1-3`` for "first to third"; the place alone on a long board; ``-`` without a score."""
        if self.standing is None:
            return "–"
        if self.ranks is None:
            return f"{self.standing.place}."
        low, high = self.ranks
        return str(low) if low == high else f"{low}–{high}"


@dataclass(frozen=True)
class Apart:
    """A setting that the board lists and does not rank, and why."""

    row: Row
    reasons: list[str]


def by_seed(runs: Iterable[Run]) -> list[Run]:
    """Runs in the order of their seeds."""
    return sorted(runs, key=lambda run: (run.seed is None, run.seed or 0, run.run_id))


def is_scored(run: Run, metric: Metric) -> bool:
    """Whether a run finished with a finite test score."""
    return run.state == "finished" and metric.key in run.metrics


def why_unscored(run: Run, metric: Metric) -> str:
    """What became of a run that has no score."""
    if run.state == "finished":
        return f"finished, and its record has no finite {metric.key}"
    return f"{run.state}: {run.error or 'no reason was recorded'}"


def newest_per_seed(runs: Sequence[Run]) -> list[Run]:
    """One run per seed: a seed run again (with another version, say) must not count twice."""
    newest: dict[int | str, Run] = {}
    rank = {"finished": 1}
    for run in sorted(runs, key=lambda run: (rank.get(run.state, 0), run.finished, run.run_id)):
        newest[run.run_id if run.seed is None else run.seed] = run
    return by_seed(newest.values())


def make_row(
    runs: Sequence[Run],
    metric: Metric,
    label: list[tuple[str, Value]],
    values: Sequence[Values | None],
) -> Row:
    """A row of runs that differ in nothing but the seed.

    Args:
        runs: one per seed, by seed.
        metric: what the board ranks by.
        label: the settings that set it apart.
        values: of each scored run, per unit of the test set; all None where the board has none.
    """
    scored = [run for run in runs if is_scored(run, metric)]
    means = [run.metrics[metric.key] for run in scored]
    over_seeds = seed_interval(means) if means else None
    table = table_of(values)
    sizes = [run.parameters for run in runs if run.parameters is not None]
    times = [run.wall_s for run in scored if run.wall_s is not None]
    middle = None
    if table is not None and metric.per_unit == "mean":
        middle = seed_interval([interquartile_mean(one) for one in table])
    return Row(
        config_hash=runs[0].config_hash,
        label=label,
        scores=[
            SeedScore(run.seed, run.metrics[metric.key], run, command_of(run)) for run in scored
        ],
        failed=[run for run in runs if not is_scored(run, metric)],
        validation=_validation(scored),
        trial=min((run.trial for run in runs if run.trial is not None), default=None),
        interval=over_seeds if table is None or over_seeds is None else _wide(table, over_seeds),
        seed_interval=over_seeds,
        prediction=prediction_interval(means) if means else None,
        standing=None,
        percentiles=_percentiles(scored, metric),
        interquartile=middle,
        extras={
            key: value for key, _ in metric.extras if (value := mean_of(scored, key)) is not None
        },
        parameters=sizes[0] if sizes else None,
        wall_s=sum(times) / len(times) if times else None,
        device=", ".join(sorted({run.device for run in runs if run.device})),
    )


def scores_of(row: Row, values: Sequence[Values | None]) -> Scores:
    """What a row is compared by."""
    return Scores(
        tuple(score.seed for score in row.scores),
        np.array([score.value for score in row.scores]),
        table_of(values),
    )


def table_of(values: Sequence[Values | None]) -> Floats | None:
    """``[seed, unit]`` of a row whose runs all have values."""
    present = [one.scores for one in values if one is not None]
    return np.stack(present) if present and len(present) == len(values) else None


def with_standing(row: Row, standing: Standing) -> Row:
    """The row, where it stands among the others."""
    return replace(row, standing=standing)


def command_of(run: Run) -> str:
    """The command that repeats a run from its settings, or from its record if they are not said."""
    if not run.overrides:
        return f"lightning-sep reproduce {shlex.quote(run.run_id)}"
    words = list(run.overrides)
    if run.seed is not None and not any(word.startswith("seed=") for word in words):
        words.append(f"seed={run.seed}")
    return " ".join(["lightning-sep train", *map(shlex.quote, words)])


def mean_of(runs: Iterable[Run], key: str) -> float | None:
    """Mean of a metric over the runs that have it."""
    values = [run.metrics[key] for run in runs if key in run.metrics]
    return sum(values) / len(values) if values else None


def _wide(table: Floats, over_seeds: Interval) -> Interval:
    """Interval for new seeds and new examples, around the mean of the runs' own scores."""
    wide = crossed_interval(table)
    if wide.low is None or wide.high is None:
        return over_seeds
    shift = over_seeds.mean - wide.mean  # a jackknife's correction is left out
    return Interval(over_seeds.mean, wide.low + shift, wide.high + shift, wide.degrees)


def _validation(runs: Sequence[Run]) -> float | None:
    values = [run.monitor_value for run in runs if run.monitor_value is not None]
    return math.fsum(values) / len(values) if values and len(values) == len(runs) else None


def _percentiles(runs: Sequence[Run], metric: Metric) -> dict[int, Interval]:
    found = {}
    for q in PERCENTILES:
        values = [run.metrics[key] for run in runs if (key := f"{metric.key}_q{q}") in run.metrics]
        if values and len(values) == len(runs):
            found[q] = seed_interval(values)
    return found
