"""Runs side by side: what differs in settings, metrics and environment, and by how much."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightning_sep.errors import ConfigError, one_line
from lightning_sep.leaderboard.axes import dotted, shown
from lightning_sep.leaderboard.metric import Metric, metric_of
from lightning_sep.leaderboard.ranking import Scores, compare
from lightning_sep.leaderboard.rows import by_seed, is_scored, table_of
from lightning_sep.leaderboard.runs import Run, read_run
from lightning_sep.leaderboard.statistics import Difference, seed_interval
from lightning_sep.leaderboard.tables import Damaged, Values, values_of
from lightning_sep.leaderboard.words import PERCENT

FORMAT = 1


@dataclass(frozen=True)
class Gap:
    """Difference of two settings, or of two single runs.

    Args:
        first: run ids of the one.
        second: run ids of the other; the difference is its mean less that of ``first``.
        difference: with its interval, where there is one.
        holds_for: what the interval speaks of.
    """

    first: list[str]
    second: list[str]
    difference: Difference
    holds_for: str


@dataclass(frozen=True)
class Comparison:
    """Runs, and what differs between them: a value for each run, in their order."""

    runs: list[Run]
    metric: Metric | None  # None where the runs are of several tasks
    settings: dict[str, list[Any]]
    environment: dict[str, list[Any]]
    metrics: dict[str, list[float | None]]
    gaps: list[Gap]


def compare_runs(folders: Sequence[Path]) -> Comparison:
    """Compare the runs in these folders.

    Runs that differ in nothing but the seed are one setting. The settings after the first are
    compared with it: seed by seed where they share their seeds, example by example where both kept
    values of the same ones.

    Raises:
        ConfigError: fewer than two runs, one of them twice, or a record that cannot be used.
    """
    runs = []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except (OSError, ValueError, RecursionError) as problem:
            raise ConfigError(
                f"run {folder.name} cannot be compared: {one_line(problem)}"
            ) from problem
    ids = [run.run_id for run in runs]
    if len(set(ids)) < 2 or len(set(ids)) < len(ids):
        raise ConfigError(f"two runs or more are compared, each given once; got {', '.join(ids)}")
    tasks = {run.task for run in runs}
    metric = metric_of(runs[0]) if len(tasks) == 1 else None
    names = dict.fromkeys(name for run in runs for name in run.metrics)
    return Comparison(
        runs=runs,
        metric=metric,
        settings=_differing(_settings(runs)),
        environment=_differing([dotted(run.environment) for run in runs]),
        metrics={name: [run.metrics.get(name) for run in runs] for name in names},
        gaps=[] if metric is None else _gaps(runs, metric),
    )


def comparison_json(found: Comparison) -> dict[str, Any]:
    """A comparison as JSON types; lists have a value for each run."""
    return {
        "format": FORMAT,
        "runs": [
            {"run_id": run.run_id, "task": run.task, "seed": run.seed, "state": run.state}
            | {"config_hash": run.config_hash, "data": run.data}
            for run in found.runs
        ],
        "settings": found.settings,
        "environment": found.environment,
        "metrics": found.metrics,
        "differences": [
            {
                "metric": found.metric.key if found.metric else None,
                "of": gap.second,
                "minus": gap.first,
                "mean": gap.difference.mean,
                "interval": None
                if gap.difference.low is None
                else [gap.difference.low, gap.difference.high],
                "p_value": gap.difference.p_value,
                "holds_for": gap.holds_for,
            }
            for gap in found.gaps
        ],
    }


def comparison_text(found: Comparison) -> str:
    """A comparison as aligned text."""
    ids = [run.run_id for run in found.runs]
    seeds = ["–" if run.seed is None else str(run.seed) for run in found.runs]
    lines = [["run", *ids], ["task", *(run.task for run in found.runs)], ["seed", *seeds]]
    parts = [_aligned(lines)]
    for title, table in (
        ("settings that differ", found.settings),
        ("environment that differs", found.environment),
    ):
        rows = [[name, *map(_words, values)] for name, values in table.items()]
        parts.append(f"{title}:\n{_aligned(rows)}" if rows else f"{title}: none")
    rows = [
        [name, *("–" if value is None else f"{value:.6g}" for value in values)]
        for name, values in found.metrics.items()
        if name.startswith(("test/", "val/"))
    ]
    if rows:
        parts.append(f"metrics:\n{_aligned(rows)}")
    metric = found.metric
    if metric is not None:
        parts += [_gap_text(gap, metric) for gap in found.gaps]
    return "\n\n".join(parts) + "\n"


def _gap_text(gap: Gap, metric: Metric) -> str:
    one = gap.difference
    words = f"{metric.label}: {', '.join(gap.second)} minus {', '.join(gap.first)} is "
    words += f"{metric.number(one.mean, signed=True)} {metric.unit}".rstrip()
    if one.low is None or one.high is None:
        return f"{words}; {gap.holds_for}"
    ends = " to ".join(metric.number(end, signed=True) for end in (one.low, one.high))
    return f"{words} ({PERCENT} interval {ends}) for {gap.holds_for}"


def _gaps(runs: Sequence[Run], metric: Metric) -> list[Gap]:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in by_seed(run for run in runs if is_scored(run, metric)):
        groups.setdefault((run.config_hash, str(sorted(run.data.items()))), []).append(run)
    order = {run.run_id: place for place, run in enumerate(runs)}
    settings = sorted(
        groups.values(), key=lambda members: min(order[one.run_id] for one in members)
    )
    seeds = [[run.seed for run in members if run.seed is not None] for members in settings]
    twice = any(len(set(own)) < len(own) for own in seeds)
    if len(settings) == 1 or twice:  # one setting, or a seed trained twice: runs by themselves
        settings = [[run] for run in runs if is_scored(run, metric)]
    return [_gap(settings[0], other, metric) for other in settings[1:]]


def _gap(first: Sequence[Run], second: Sequence[Run], metric: Metric) -> Gap:
    tables = [[_values(run, metric) for run in members] for members in (first, second)]
    every = [one for table in tables for one in table]
    known = [one for one in every if one is not None]
    shared = len(known) == len(every) and len({one.units for one in known}) == 1
    sides = [
        Scores(
            tuple(run.seed for run in members),
            np.array([run.metrics[metric.key] for run in members]),
            table_of(table) if shared else None,
        )
        for members, table in zip((first, second), tables, strict=True)
    ]
    ids = [run.run_id for run in first], [run.run_id for run in second]
    units = f"{metric.unit_name}s"
    if len(first) == len(second) == 1 and shared:
        one, other = sides
        assert one.table is not None
        assert other.table is not None
        within = seed_interval(other.table[0] - one.table[0])  # Student's t over the examples
        mean = float(other.means[0] - one.means[0])
        shift = mean - within.mean
        difference = Difference(
            mean,
            None if within.low is None else within.low + shift,
            None if within.high is None else within.high + shift,
            None,
            within.degrees,
        )
        return Gap(*ids, difference, f"these two trained models on new test {units}")
    difference = compare(sides[1], sides[0])
    if difference.low is None:
        return Gap(*ids, difference, "one seed says nothing of others")
    said = f"new seeds and new test {units}" if shared else "new seeds on these test sets"
    return Gap(*ids, difference, said)


def _values(run: Run, metric: Metric) -> Values | None:
    try:
        return values_of(run, metric)
    except Damaged as problem:
        raise ConfigError(f"run {run.run_id} cannot be compared: {problem}") from problem


def _settings(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Flat settings, a group by the name of its entry where all records tell it."""
    flats = [dotted(run.settings) for run in runs]
    for group in {group for run in runs for group in run.choices}:
        if all(group in run.choices for run in runs):
            for run, flat in zip(runs, flats, strict=True):
                flat.pop(f"{group}._target_", None)
                flat[group] = run.choices[group]
    return flats


def _differing(flats: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = sorted({name for flat in flats for name in flat})
    table = {name: [flat.get(name) for flat in flats] for name in names}
    return {
        name: values
        for name, values in table.items()
        if any((type(one), one) != (type(values[0]), values[0]) for one in values)
    }


def _words(value: Any) -> str:
    if value is None or isinstance(value, str | int | float | bool):
        return shown(value)
    return str(value)


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  "
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
