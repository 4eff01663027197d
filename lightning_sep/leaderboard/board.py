"""A board: one fixed protocol and the settings ranked under it.

Rows come from final runs alone, fresh seeds of settings that were chosen on validation; the
search that chose them feeds plots and never a score, since the best of many single runs looks
better than it is.
"""

import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path

import numpy as np

from lightning_sep.errors import ConfigError
from lightning_sep.leaderboard.asks import Asks, asks_of
from lightning_sep.leaderboard.axes import Value, axes, label_of, label_text, settings_of
from lightning_sep.leaderboard.metric import PERCENTILES, Metric, metric_of
from lightning_sep.leaderboard.runs import Run, Skipped, read_runs, reused_finals
from lightning_sep.leaderboard.statistics import (
    Crossed,
    Floats,
    Interval,
    crossed,
    crossed_difference,
    crossed_interval,
    prediction_interval,
    rank_intervals,
    seed_difference,
    seed_interval,
)

SINGLE = "single"  # the board of runs that belong to no sweep
SEEDS_WANTED = 5  # fewer seeds leave wide intervals; the board says so
ON_VALIDATION = "mean validation score of the final runs"
ON_TEST = "mean test score, for want of validation scores"
NEW_SEEDS = "new seeds on this test set"
NEW_SEEDS_AND_EXAMPLES = "new seeds and new test examples"


@dataclass(frozen=True)
class SeedScore:
    """One dot of a row: a finished run's test score and the command that repeats the run."""

    seed: int | None
    value: float
    run: Run
    command: str


@dataclass(frozen=True)
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
    ranks: tuple[int, int] | None
    percentiles: dict[int, float]
    extras: dict[str, float]
    parameters: int | None
    wall_s: float | None
    device: str

    @property
    def runs(self) -> list[Run]:
        """The final runs, finished or failed, by seed."""
        runs = [*(score.run for score in self.scores), *self.failed]
        return sorted(runs, key=lambda run: (run.seed is None, run.seed or 0, run.run_id))

    @property
    def name(self) -> str:
        """The settings that set this row apart, as overrides."""
        return label_text(self.label)

    @property
    def rank_text(self) -> str:
        """``1-3`` for "first to third", ``-`` without a score."""
        if self.ranks is None:
            return "–"
        low, high = self.ranks
        return str(low) if low == high else f"{low}–{high}"


@dataclass(frozen=True)
class Apart:
    """A setting that the board lists and does not rank, and why."""

    row: Row
    reasons: list[str]


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


@dataclass(frozen=True)
class Board:
    """The ranked settings of one sweep and what is needed to read and to repeat them."""

    name: str
    task: str
    metric: Metric
    truth: str
    rows: list[Row]  # the best one first, the others by their mean
    apart: list[Apart]
    chosen_by: str  # what the best one is chosen by
    baselines: list[tuple[str, float]]
    notes: list[str]
    search: Search | None
    axes: list[str]

    @property
    def best(self) -> Row | None:
        """The best setting: chosen by the finals' scores on validation."""
        return self.rows[0] if self.rows else None

    @property
    def may_be_best(self) -> list[Row]:
        """The rows that no other row is distinguishably better than."""
        return [row for row in self.rows if row.ranks is not None and row.ranks[0] == 1]


@dataclass(frozen=True)
class Boards:
    """What a home holds: boards by name, and the records that are not used."""

    boards: list[Board]
    skipped: list[Skipped]
    singles: int  # runs outside of any sweep that are not among ``boards``


def load_boards(
    home: Path, names: Sequence[str] | None = None, *, missing_ok: bool = False
) -> Boards:
    """Read all records under ``home`` and rank them.

    Args:
        home: folder of runs.
        names: sweeps to show, or ``["single"]`` for the runs outside of sweeps, a board per
            task, in this order. None shows every sweep by name, and the single runs where there
            is no sweep yet.
        missing_ok: pass over names that no record knows.

    Raises:
        ConfigError: a name that no record knows.
    """
    runs, skipped = read_runs(home)
    groups: dict[tuple[str, str], list[Run]] = {}
    singles: dict[tuple[str, str], list[Run]] = {}
    for run in [*runs, *reused_finals(home, runs)]:
        if run.sweep is not None:
            groups.setdefault((run.sweep, run.task), []).append(run)
        elif run.purpose == "single":
            singles.setdefault((SINGLE, run.task), []).append(run)
    sweeps = sorted({sweep for sweep, _ in groups})
    if names is None:
        chosen = groups or singles
    else:
        known = [*sweeps, *([SINGLE] if singles else [])]
        for name in names:
            if name not in known and not missing_ok:
                raise ConfigError(_unknown(name, known, home))
        chosen = {
            key: value for key, value in {**groups, **singles}.items() if key[0] in set(names)
        }
    places = {name: place for place, name in enumerate(names or ())}
    tasks: dict[str, int] = {}
    for sweep, _ in chosen:
        tasks[sweep] = tasks.get(sweep, 0) + 1
    boards = [
        build_board(
            f"{sweep}/{task}" if tasks[sweep] > 1 else sweep, members, asks=asks_of(home, sweep)
        )
        for (sweep, task), members in sorted(
            chosen.items(), key=lambda item: (places.get(item[0][0], 0), item[0])
        )
    ]
    left = 0 if any(key in chosen for key in singles) else sum(map(len, singles.values()))
    return Boards(boards, skipped, left)


def build_board(name: str, runs: Sequence[Run], asks: Asks | None = None) -> Board:
    """Rank the final (or single) runs of one task; its search runs become plots.

    Args:
        name: name of the board.
        runs: all runs of one sweep and task, at least one.
        asks: what the sweep asks for, where that is known.
    """
    metric = metric_of(next((run for run in runs if run.monitor_name), runs[0]))
    entrants = [
        run
        for run in runs
        if run.purpose in ("final", SINGLE) and run.state in ("finished", "failed")
    ]
    names = axes(entrants)
    groups: dict[tuple[str, tuple[tuple[str, str], ...]], list[Run]] = {}
    for run in entrants:
        groups.setdefault((run.config_hash, tuple(sorted(run.data.items()))), []).append(run)
    settled = [_newest_per_seed(members) for members in groups.values()]
    rows, apart = [], []
    for members in settled:
        row = _row(members, metric, names, None)
        missing = _missing_seeds(row, settled, asks)
        if missing:
            apart.append(Apart(row, missing))
        else:
            rows.append(row)
    tables = _example_tables([row.runs for row in rows], metric)
    rows = [_row(row.runs, metric, names, table) for row, table in zip(rows, tables, strict=True)]
    told = next((run for run in runs if run.monitor_name), runs[0])
    by_validation = any(row.validation is not None for row in rows)
    best = _best(rows, metric, higher_validates=told.monitor_mode != "min")
    order = sorted(range(len(rows)), key=lambda place: (place != best, _order(rows[place], metric)))
    rows, tables = [rows[place] for place in order], [tables[place] for place in order]
    rows = _with_ranks(rows, tables, metric)
    whole = bool(rows) and all(table is not None for table in tables)
    return Board(
        name=name,
        task=runs[0].task,
        metric=metric,
        truth=NEW_SEEDS_AND_EXAMPLES if whole else NEW_SEEDS,
        rows=rows,
        apart=sorted(apart, key=lambda one: _order(one.row, metric)),
        chosen_by=ON_VALIDATION if by_validation or not rows else ON_TEST,
        baselines=_baselines(rows, metric),
        notes=_notes(rows, len({data for _, data in groups})),
        search=_search(
            [
                run
                for run in runs
                if run.purpose == "search" and run.state in ("finished", "pruned", "failed")
            ]
        ),
        axes=names,
    )


def _missing_seeds(row: Row, groups: Sequence[Sequence[Run]], asks: Asks | None) -> list[str]:
    """Why a row has not all the seeds that the board asks for; nothing where it has.

    A sweep says how many fresh seeds each finalist gets. Where nobody says, finals owe as many as
    the setting with the most has, and single runs as many as were begun: what failed is never
    made up for by what did not.
    """
    final = row.runs[0].purpose == "final"
    if asks is not None and final:
        wanted = asks.final_seeds
    elif final:
        wanted = max(len(members) for members in groups)
    else:
        wanted = len(row.runs)
    if len(row.scores) >= max(1, wanted):
        return []
    fresh = "fresh seed" if final else "seed"
    reasons = [f"{len(row.scores)} of {wanted} {fresh}{'' if wanted == 1 else 's'} finished"]
    return reasons + [
        f"{'run' if run.seed is None else f'seed {run.seed}'} failed: "
        f"{run.error or 'no reason was recorded'}"
        for run in row.failed
    ]


def _best(rows: Sequence[Row], metric: Metric, *, higher_validates: bool) -> int | None:
    """Place of the row with the best mean of its final runs' validation scores.

    The same rule as that of a sweep's ``trials.json``: ties go to the earlier trial. A row that
    lacks validation scores is chosen only where all lack them, by its test score.
    """

    def key(place: int) -> tuple[bool, float, float, str]:
        row = rows[place]
        value, higher = row.validation, higher_validates
        if value is None:
            value, higher = _mean(row), metric.higher_is_better
        trial = math.inf if row.trial is None else row.trial
        return row.validation is None, -value if higher else value, trial, row.name

    return min(range(len(rows)), key=key, default=None)


def _unknown(name: str, known: Sequence[str], home: Path) -> str:
    if not known:
        return (
            f"no board {name!r}: {home} holds no runs of a sweep. "
            "`lightning-sep sweep SWEEP.py` makes one."
        )
    close = get_close_matches(name, known, n=3)
    hint = f" Did you mean {' or '.join(map(repr, close))}?" if close else ""
    return f"no board {name!r} in {home}.{hint} Known: {', '.join(known)}."


def _newest_per_seed(runs: Sequence[Run]) -> list[Run]:
    """One run per seed: a seed run again (with another version, say) must not count twice."""
    newest: dict[int | str, Run] = {}
    rank = {"finished": 1}
    for run in sorted(runs, key=lambda run: (rank.get(run.state, 0), run.finished, run.run_id)):
        newest[run.run_id if run.seed is None else run.seed] = run
    return sorted(newest.values(), key=lambda run: (run.seed is None, run.seed or 0, run.run_id))


def _is_scored(run: Run, metric: Metric) -> bool:
    return run.state == "finished" and metric.key in run.metrics


def _example_tables(groups: Sequence[Sequence[Run]], metric: Metric) -> list[Crossed | None]:
    """Analysis of variance over seeds x examples per group, None for all unless it fits them all.

    Per-example values are used only where their mean is the metric (it is not for R² or an equal
    error rate), and only if all rows were tested on the same examples; examples that any run
    masked (silence) leave every run.
    """
    nothing: list[Crossed | None] = [None] * len(groups)
    scored = [[run for run in group if _is_scored(run, metric)] for group in groups]
    tables: list[Floats | None] = []
    data, lengths = set(), set()
    for group in scored:
        rows = []
        for run in group:
            values = run.examples(metric.key)
            if values is None:
                return nothing
            row = np.array([math.nan if v is None else v for v in values], dtype=np.float64)
            kept = row[np.isfinite(row)]
            score = run.metrics[metric.key]
            # float32 sums over thousands of examples agree to about 1e-5 of their size
            if kept.size < 2 or not math.isclose(
                float(kept.mean()), score, rel_tol=1e-3, abs_tol=1e-3
            ):
                return nothing
            rows.append(row)
            data.add(tuple(sorted(run.data.items())))
            lengths.add(row.size)
        if len(lengths) > 1 or len(data) > 1:
            return nothing
        tables.append(np.stack(rows) if rows else None)
    present = [table for table in tables if table is not None]
    if not present:
        return nothing
    kept_by_all = np.isfinite(np.concatenate(present)).all(axis=0)
    if kept_by_all.sum() < 2:
        return nothing
    return [None if table is None else crossed(table[:, kept_by_all]) for table in tables]


def _row(runs: Sequence[Run], metric: Metric, names: Sequence[str], table: Crossed | None) -> Row:
    scored = [run for run in runs if _is_scored(run, metric)]
    means = [run.metrics[metric.key] for run in scored]
    by_seed = seed_interval(means) if means else None
    interval = by_seed
    if table is not None and by_seed is not None:
        wide = crossed_interval(table)
        # the mean that is shown is the mean of the runs' own scores, masked examples or not
        shift = by_seed.mean - wide.mean
        interval = Interval(
            by_seed.mean,
            None if wide.low is None else wide.low + shift,
            None if wide.high is None else wide.high + shift,
            wide.degrees,
        )
    sizes = [run.parameters for run in runs if run.parameters is not None]
    times = [run.wall_s for run in scored if run.wall_s is not None]
    return Row(
        config_hash=runs[0].config_hash,
        label=label_of(settings_of(runs[0]), names),
        scores=[
            SeedScore(run.seed, run.metrics[metric.key], run, command_of(run)) for run in scored
        ],
        failed=[run for run in runs if not _is_scored(run, metric)],
        validation=_mean_validation(scored),
        trial=min((run.trial for run in runs if run.trial is not None), default=None),
        interval=interval,
        seed_interval=by_seed,
        prediction=prediction_interval(means) if means else None,
        ranks=None,
        percentiles={
            q: value
            for q in PERCENTILES
            if (value := _mean_of(scored, f"{metric.key}_q{q}")) is not None
        },
        extras={
            key: value for key, _ in metric.extras if (value := _mean_of(scored, key)) is not None
        },
        parameters=sizes[0] if sizes else None,
        wall_s=sum(times) / len(times) if times else None,
        device=", ".join(sorted({run.device for run in runs if run.device})),
    )


def command_of(run: Run) -> str:
    """The command that repeats a run from its settings, or from its record if they are not said."""
    if not run.overrides:
        return f"lightning-sep reproduce {shlex.quote(run.run_id)}"
    words = list(run.overrides)
    if run.seed is not None and not any(word.startswith("seed=") for word in words):
        words.append(f"seed={run.seed}")
    return " ".join(["lightning-sep train", *map(shlex.quote, words)])


def _order(row: Row, metric: Metric) -> tuple[bool, float, str]:
    if row.interval is None:
        return True, 0.0, row.name
    return False, -row.interval.mean if metric.higher_is_better else row.interval.mean, row.name


def _with_ranks(rows: Sequence[Row], tables: Sequence[Crossed | None], metric: Metric) -> list[Row]:
    scored = [place for place, row in enumerate(rows) if row.scores]
    pairs: list[tuple[int, int, float | None]] = []
    for first, second in combinations(range(len(scored)), 2):
        a, b = tables[scored[first]], tables[scored[second]]
        if a is not None and b is not None:
            difference = crossed_difference(a, b)
        else:
            difference = seed_difference(
                [score.value for score in rows[scored[first]].scores],
                [score.value for score in rows[scored[second]].scores],
            )
        pairs.append((first, second, difference.p_value))
    means = [_mean(rows[place]) for place in scored]
    ranks = rank_intervals(means, pairs, higher_is_better=metric.higher_is_better)
    found = dict(zip(scored, ranks, strict=True))
    return [Row(**{**vars(row), "ranks": found.get(place)}) for place, row in enumerate(rows)]


def _mean(row: Row) -> float:
    return math.nan if row.interval is None else row.interval.mean


def _mean_validation(runs: Sequence[Run]) -> float | None:
    values = [run.monitor_value for run in runs if run.monitor_value is not None]
    return math.fsum(values) / len(values) if values and len(values) == len(runs) else None


def _mean_of(runs: Iterable[Run], key: str) -> float | None:
    values = [run.metrics[key] for run in runs if key in run.metrics]
    return sum(values) / len(values) if values else None


def _baselines(rows: Sequence[Row], metric: Metric) -> list[tuple[str, float]]:
    runs = [score.run for row in rows for score in row.scores]
    found = []
    for baseline in metric.baselines:
        measured = _mean_of(runs, baseline.key) if baseline.key else None
        value = measured if measured is not None else baseline.value
        if value is not None:
            found.append((baseline.label, value))
    return found


def _notes(rows: Sequence[Row], data_sets: int) -> list[str]:
    notes = []
    counts = [len(row.scores) for row in rows if row.scores]
    if counts and min(counts) < SEEDS_WANTED:
        few = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
        notes.append(
            f"{few} seed{'' if few == '1' else 's'} per setting: {SEEDS_WANTED} or more make the "
            "intervals narrow enough to compare."
        )
    if data_sets > 1:
        notes.append(
            f"Runs used {data_sets} different versions of the data: rows are compared over seeds, "
            "not over the same examples, and a gap may come from the data."
        )
    devices = {row.device for row in rows if row.device}
    if len(devices) > 1:
        notes.append(f"Runs come from different devices: {'; '.join(sorted(devices))}.")
    return notes


def _search(runs: Sequence[Run]) -> Search | None:
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
