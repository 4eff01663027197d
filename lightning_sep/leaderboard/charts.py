"""What a board's charts show: one JSON object a board, which the page's script draws.

The numbers are those of the records in the metric's shown unit; nothing is computed in the page but
what depends on the reader's choice of rows.
"""

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from lightning_sep.leaderboard.axes import Value, settings_of, shown
from lightning_sep.leaderboard.board import Board
from lightning_sep.leaderboard.entries import Axis, Entry
from lightning_sep.leaderboard.metric import Metric
from lightning_sep.leaderboard.plots import HARD, far_behind, pareto_front
from lightning_sep.leaderboard.runs import Run
from lightning_sep.leaderboard.statistics import Interval

MOST_READ = 40  # settings whose curves and examples are on the page, from the top of the table
MOST_EPOCHS = 60  # points of a curve; of a longer one every k-th, and the last
MOST_EXAMPLES = 400  # of a larger test set every k-th
MOST_TRIALS = 3000  # on a page, the newest
MOST_TIMES = 2000  # runs of the timeline, the newest
CURVE_NUMBERS = 150_000  # of all curves of the page: the monitored metric first, then by name
EXAMPLE_NUMBERS = 60_000  # of all examples of the page

Json = dict[str, Any]


def board_json(board: Board, entries: Sequence[Entry], axes: Sequence[Axis], boards: int) -> Json:
    """Everything that the charts of a board draw.

    Args:
        board: a board.
        entries: its settings, in the order of the table.
        axes: their axes.
        boards: how many boards the page has, which share its room.
    """
    metric = board.metric
    monitor = board.monitor
    front = {id(row) for row in pareto_front(board)}
    is_far = far_behind(board)
    read = [(place, one) for place, one in enumerate(entries) if one.row][:MOST_READ]
    return {
        "metric": {
            "label": metric.heading,
            "unit": metric.unit,
            "higher": metric.higher_is_better,
            "digits": metric.digits,
            "unitName": metric.unit_name,
        },
        "monitor": {"label": metric.title_of(monitor), "higher": board.monitor_rises},
        "hard": HARD if metric.higher_is_better else 100 - HARD,
        "axes": [
            {"name": axis.name, "number": axis.is_number, "log": axis.is_logarithmic}
            for axis in axes
        ],
        "settings": [
            _setting(entry, place, metric, axes)
            | ({"front": 1} if entry.row and id(entry.row) in front else {})
            | ({"far": 1} if entry.row and is_far(entry.row) else {})
            for place, entry in enumerate(entries)
        ],
        "baselines": [[label, _brief(value, metric.scale)] for label, value in board.baselines],
        "trials": _trials(board, entries, axes, metric.scale_of(monitor)),
        "weights": [[name, _brief(share)] for name, share in importance(board)],
        "runs": _times(board, entries),
        "curves": _curves(read, metric, monitor, CURVE_NUMBERS // boards),
        "examples": _examples(read, metric, EXAMPLE_NUMBERS // boards),
        "differ": _differ(entries),
    }


def _setting(entry: Entry, place: int, metric: Metric, axes: Sequence[Axis]) -> Json:
    found: Json = {
        "name": entry.short,
        "kind": entry.kind,
        "values": [_value(axis, place) for axis in axes],
    }
    row = entry.row
    others = entry.runs if row is None else row.failed
    if others:
        found["ids"] = [run.run_id for run in others]
    if row is None:
        return found
    scale = metric.scale
    found["seeds"] = [
        [score.seed, _brief(score.value, scale), score.run.run_id] for score in row.scores
    ]
    if row.interval is not None:
        found["score"] = _ends(row.interval, metric)
    if row.standing is not None:
        one = row.standing.difference
        found["difference"] = [_brief(v, scale) for v in (one.mean, one.low, one.high)]
        found["may"] = row.may_be_best
    hard = row.percentiles.get(HARD if metric.higher_is_better else 100 - HARD)
    if hard is not None:
        found["hard"] = _ends(hard, metric)
    return found


def _value(axis: Axis, place: int) -> float | str | None:
    one = axis.values[place]
    if one is None:
        return None
    return _plain(one[0], axis)


def _plain(value: Value, axis: Axis) -> float | str:
    if axis.is_number and isinstance(value, int | float):
        return float(value)
    return shown(value)


def _ends(interval: Interval, metric: Metric) -> list[float | None]:
    low, high = metric.clipped(interval.low, interval.high)
    return [_brief(value, metric.scale) for value in (interval.mean, low, high)]


def _brief(value: float | None, scale: float = 1.0) -> float | None:
    """A number to six digits, which is finer than what can be seen."""
    return None if value is None or not math.isfinite(value) else float(f"{value * scale:.6g}")


def _trials(
    board: Board, entries: Sequence[Entry], axes: Sequence[Axis], scale: float
) -> list[list[Any]]:
    """``[number, state, value, value of each axis ...]`` of the newest trials."""
    if board.search is None:
        return []
    return [
        [trial.number, trial.state, _brief(trial.value, scale)]
        + [
            _plain(trial.settings[axis.name], axis) if axis.name in trial.settings else None
            for axis in axes
        ]
        for trial in board.search.trials[-MOST_TRIALS:]
    ]


def importance(board: Board) -> list[tuple[str, float]]:
    """How much of the spread of the search's scores each setting explains alone, most first.

    Kelley's epsilon squared (PNAS 21(9), 1935): the share of the sum of squares between groups,
    less what groups of this number share by chance. Settings that take many values are grouped
    into five of equal size.
    """
    if board.search is None:
        return []
    trials = [one for one in board.search.trials if one.value is not None]
    found = []
    for name in board.search.axes:
        members = [(one.settings[name], one.value or 0.0) for one in trials if name in one.settings]
        groups: dict[str, list[float]] = {}
        if len({shown(value) for value, _ in members}) > 5 and all(
            isinstance(value, int | float) for value, _ in members
        ):
            ordered = sorted(members, key=lambda one: float(one[0] or 0))
            for place, (_, score) in enumerate(ordered):
                groups.setdefault(str(5 * place // len(ordered)), []).append(score)
        else:
            for value, score in members:
                groups.setdefault(shown(value), []).append(score)
        share = _explained(list(groups.values()))
        if share is not None:
            found.append((name, share))
    return sorted(found, key=lambda one: -one[1])


def _explained(groups: Sequence[Sequence[float]]) -> float | None:
    """Epsilon squared, at least 0; None where groups or scores are too few to say."""
    scores = [score for group in groups for score in group]
    count, kinds = len(scores), len(groups)
    if kinds < 2 or count <= kinds:
        return None
    mean = math.fsum(scores) / count
    total = math.fsum((score - mean) ** 2 for score in scores)
    within = math.fsum(
        (score - math.fsum(group) / len(group)) ** 2 for group in groups for score in group
    )
    if total <= 0:
        return 0.0
    return max(0.0, 1 - (within / (count - kinds)) / (total / (count - 1)))


def _times(board: Board, entries: Sequence[Entry]) -> list[list[Any]]:
    """``[setting, trial, seed, purpose, state, start, seconds]`` of the runs that say when.

    A run is one of a setting, by its place, or of a trial; the start is in seconds since 1970.
    """
    runs: dict[str, tuple[int | None, int | None, Run]] = {}
    for place, entry in enumerate(entries):
        for run in entry.row.runs if entry.row else ():
            runs[run.run_id] = place, None, run
    for trial in board.search.trials if board.search else ():
        for run in trial.runs:
            runs.setdefault(run.run_id, (None, trial.number, run))
    found: list[tuple[float, list[Any]]] = []
    for setting, number, run in runs.values():
        started, ended = _seconds(run.started), _seconds(run.finished)
        if started is not None and ended is not None and ended >= started:
            took = round(ended - started, 1)
            told = [setting, number, run.seed, run.purpose, run.state, started, took]
            found.append((started, told))
    return [told for _, told in sorted(found, key=lambda one: one[0])[-MOST_TIMES:]]


def _seconds(text: str) -> float | None:
    try:
        return round(datetime.fromisoformat(text).timestamp(), 1)
    except (ValueError, OverflowError, OSError):
        return None


def _curves(read: Sequence[tuple[int, Entry]], metric: Metric, monitor: str, numbers: int) -> Json:
    """Curves of the runs of the first settings: per metric ``[setting, seed, epochs, values]``."""
    histories = [
        (place, run, run.history())
        for place, entry in read
        for run in (entry.row.runs if entry.row else ())
    ]
    names = sorted({name for _, _, history in histories for name in history})
    names = [*(name for name in names if name == monitor), *(n for n in names if n != monitor)]
    found: list[Json] = []
    longest = max((len(points) for *_, one in histories for points in one.values()), default=0)
    every = max(1, math.ceil(longest / MOST_EPOCHS))
    left_out = []
    for name in names:
        scale = metric.scale_of(name)
        lines: list[list[Any]] = []
        for place, run, history in histories:
            points = sorted(history.get(name, {}).items())
            if len(points) < 2:
                continue
            kept = [*points[:-1:every], points[-1]]
            epochs = [epoch for epoch, _ in kept]
            lines.append([place, run.seed, epochs, [_brief(value, scale) for _, value in kept]])
        if not lines:
            continue
        needed = sum(2 * len(line[2]) for line in lines)
        if found and needed > numbers:
            left_out.append(name)
            continue
        numbers -= needed
        found.append({"name": name, "label": metric.title_of(name), "lines": lines})
    return {"metrics": found, "every": every, "leftOut": left_out}


def _examples(read: Sequence[tuple[int, Entry]], metric: Metric, numbers: int) -> Json:
    """Scores per test example, the mean over a setting's seeds."""
    tables: list[tuple[int, dict[str, float]]] = []
    tested = next((run.data for _, entry in read for run in entry.runs), {})
    for place, entry in read:
        row = entry.row
        if row is None or any(run.data != tested for run in row.runs):  # other examples
            continue
        values = [per_example(score.run, metric) for score in row.scores]
        if not values or any(one is None for one in values):
            continue
        known = [one for one in values if one is not None]
        shared = [name for name in known[0] if all(name in one for one in known)]
        tables.append(
            (place, {name: sum(one[name] for one in known) / len(known) for name in shared})
        )
    if not tables:
        return {"names": [], "every": 1, "scores": []}
    names = [name for name in tables[0][1] if all(name in one for _, one in tables)]
    most = min(MOST_EXAMPLES, max(2, numbers // len(tables)))
    every = max(1, math.ceil(len(names) / most))
    names = names[::every]
    scale = metric.scale
    return {
        "names": names,
        "every": every,
        "scores": [[place, [_brief(one[name], scale) for name in names]] for place, one in tables],
    }


def per_example(run: Run, metric: Metric) -> dict[str, float] | None:
    """A run's score of each test example by its name; None where it kept none.

    The examples of an equal error rate are pairs of speakers, with the share of their trials that
    the threshold of validation gets wrong.
    """
    if metric.per_unit == "jackknife":
        stem = f"{metric.key.split('/')[0]}/error_rate_at_val_threshold_of_pair"
        kept = run.examples(["test/speakers", stem]) or {}
        pairs, wrong = kept.get("test/speakers", []), kept.get(stem, [])
        names = [" and ".join(map(str, one)) for one in pairs if isinstance(one, list)]
    else:
        kept = run.examples(["test/index", metric.key]) or {}
        wrong = kept.get(metric.key, [])
        names = [str(one) for one in kept.get("test/index", range(len(wrong)))]
    if not wrong or len(names) != len(wrong):
        return None
    return {
        name: float(value)
        for name, value in zip(names, wrong, strict=True)
        if isinstance(value, int | float) and math.isfinite(value)
    }


def _differ(entries: Sequence[Entry]) -> Json:
    """The settings in which any two entries differ: names, and the values of each."""
    flats: list[Mapping[str, Value]] = [
        settings_of(entry.runs[0]) if entry.runs else {} for entry in entries
    ]
    names = list(dict.fromkeys(name for flat in flats for name in flat))
    texts = {
        name: [shown(flat[name]) if name in flat else None for flat in flats] for name in names
    }
    differing = {name: values for name, values in texts.items() if len(set(values)) > 1}
    # A word a value, since most entries share theirs with many others.
    words = list(dict.fromkeys(value for values in differing.values() for value in values))
    places = {word: place for place, word in enumerate(words)}
    return {
        "words": words,
        "names": list(differing),
        "values": [[places[value] for value in values] for values in differing.values()],
    }


def shared_settings(entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """The settings that all entries share, by name."""
    flats = [settings_of(entry.runs[0]) for entry in entries if entry.runs]
    if not flats:
        return []
    return [
        (name, shown(value))
        for name, value in flats[0].items()
        if all(name in flat and shown(flat[name]) == shown(value) for flat in flats)
    ]
