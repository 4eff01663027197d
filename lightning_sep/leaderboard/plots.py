"""The plots of a board's page: forest, trials, parallel coordinates, learning curves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from lightning_sep.leaderboard.axes import Value, shown
from lightning_sep.leaderboard.board import Board
from lightning_sep.leaderboard.metric import Metric
from lightning_sep.leaderboard.rows import Row
from lightning_sep.leaderboard.search import Search, Trial
from lightning_sep.leaderboard.statistics import Interval
from lightning_sep.leaderboard.svg import (
    MARKERS,
    Scale,
    apart,
    around,
    cross,
    line,
    marker,
    points,
    px,
    robust_range,
    svg,
    text,
    tick_text,
)
from lightning_sep.leaderboard.words import PERCENT

FOREST_WIDTH, FOREST_ROW, FOREST_HEAD = 272, 40, 30
CHART_WIDTH, CHART_HEIGHT = 600, 320
PARALLEL_WIDTH = 1160
COLOURS = 7  # classes c0..c6 of the page's sheet
MOST_CURVES = COLOURS  # more curves than colours cannot be told apart
MANY = 150  # trials from which on each is drawn smaller and fainter
MOST_LINES = 1500  # trials in the parallel coordinates; more make the page heavy


class Forest:
    """The forest plot, a picture per table row on one scale, so that rows can be sorted."""

    def __init__(self, board: Board) -> None:
        self.metric = board.metric
        self.truth = board.truth
        self.scale = Scale(*_forest_range(board), 10, FOREST_WIDTH - 10)
        shown_unit = board.metric.scale
        wide = Scale(self.scale.low * shown_unit, self.scale.high * shown_unit, 0, 1)
        self.ticks = [tick / shown_unit for tick in wide.ticks(5)]
        self.baselines = [
            (label, value)
            for label, value in board.baselines
            if self.scale.low <= value <= self.scale.high
        ]

    def head(self) -> str:
        """The axis above the column."""
        y = FOREST_HEAD - 6
        body = [line(10, y + 4, FOREST_WIDTH - 10, y + 4, "axis")]
        for tick in self.ticks:
            body.append(line(self.scale(tick), y + 1, self.scale(tick), y + 4, "axis"))
            label = tick_text(round(tick * self.metric.scale, 9))
            body.append(text(self.scale(tick), y - 3, label, anchor="middle"))
        unit = f" in {self.metric.unit}" if self.metric.unit else ""
        title = f"Scale of the intervals: {self.metric.label}{unit}, {self.metric.direction}"
        return svg(FOREST_WIDTH, FOREST_HEAD, title, body, kind="forest")

    def row(self, row: Row) -> str:
        """Thin line: the board's interval; thick: new seeds only; dots: seeds; bar: mean."""
        middle, dots = 14, 29
        body = [line(self.scale(t), 0, self.scale(t), FOREST_ROW, "grid") for t in self.ticks]
        for _, value in self.baselines:
            x = self.scale(value)
            body.append(line(x, 0, x, FOREST_ROW, "baseline"))
        if row.interval is None:
            body.append(text(FOREST_WIDTH / 2, 24, "no score: every run failed", anchor="middle"))
            return svg(FOREST_WIDTH, FOREST_ROW, f"{row.name}: no score", body, kind="forest")
        wide, narrow = row.interval, row.seed_interval
        if wide.low is not None and wide.high is not None:
            body.append(self._reach(wide.low, wide.high, middle))
        if narrow is not None and narrow.low is not None and narrow.high is not None:
            low, high = self.metric.clipped(narrow.low, narrow.high)
            if low is not None and high is not None:
                body.append(line(self.scale(low), middle, self.scale(high), middle, "seeds"))
        x = self.scale(wide.mean)
        body.append(line(x, middle - 8, x, middle + 8, "mean"))
        body += [marker(0, self.scale(s.value), dots, 3, "dot") for s in row.scores]
        seeds = ", ".join(self.metric.number(score.value) for score in row.scores)
        title = f"{row.name}: mean {self.metric.with_unit(wide.mean)}"
        if wide.low is not None and wide.high is not None:
            low, high = self.metric.clipped(wide.low, wide.high)
            title += (
                f"; {PERCENT} interval {self.metric.number(low)} to {self.metric.number(high)}"
                f" for {self.truth}"
            )
        return svg(FOREST_WIDTH, FOREST_ROW, f"{title}; seeds: {seeds}", body, kind="forest")

    def _reach(self, low: float, high: float, y: float) -> str:
        ends = self.metric.clipped(low, high)
        low, high = ends[0] or 0.0, ends[1] or 0.0
        left, right = max(low, self.scale.low), min(high, self.scale.high)
        body = line(self.scale(left), y, self.scale(right), y, "reach")
        for value, end, sign in ((low, left, -1), (high, right, 1)):
            x = self.scale(end)
            if value == end:
                body += line(x, y - 4, x, y + 4, "reach")
            else:  # the interval goes on beyond the picture
                outline = points([(x, y - 4), (x + sign * 6, y), (x, y + 4)])
                body += f'<polygon class="arrow" points="{outline}"/>'
        return body


def _forest_range(board: Board) -> tuple[float, float]:
    values = [score.value for row in board.rows for score in row.scores]
    if not values:
        return 0.0, 1.0
    span = (max(values) - min(values)) or abs(values[0]) * 0.05 or 1.0
    least, most = min(values) - span, max(values) + span
    ends = list(values)
    for row in board.rows:
        if row.interval and row.interval.low is not None and row.interval.high is not None:
            low, high = board.metric.clipped(row.interval.low, row.interval.high)
            ends += [max(low or 0.0, least), min(high or 0.0, most)]
    for _, value in board.baselines:
        if min(ends) - span / 4 <= value <= max(ends) + span / 4:  # else it costs resolution
            ends.append(value)
    return around(ends)


def trials_plot(search: Search, metric: Metric) -> str:
    """Monitored metric over the trials of the search, with the best so far."""
    left, right, top, bottom = 62, CHART_WIDTH - 14, 14, CHART_HEIGHT - 44
    scale = metric.scale_of(search.monitor)
    valued = [(trial, trial.value) for trial in search.trials if trial.value is not None]
    values = [value * scale for _, value in valued]
    numbers = [trial.number for trial in search.trials]
    y = Scale(*robust_range(values), bottom, top) if values else Scale(0, 1, bottom, top)
    x = Scale(min(numbers) - 0.5, max(numbers) + 0.5, left, right)
    body = _frame(
        x, y, left, right, top, bottom, "trial", metric.title_of(search.monitor), whole_x=True
    )
    best: float | None = None
    steps: list[tuple[float, float]] = []
    for trial, raw in valued:
        value = raw * scale
        if trial.state == "finished" and (
            best is None or (value > best if search.higher_is_better else value < best)
        ):
            if best is not None:
                steps.append((x(trial.number), y(best)))
            best = value
            steps.append((x(trial.number), y(value)))
    if best is not None:
        steps.append((right, y(best)))
        body.append(f'<polyline class="running" points="{points(steps)}"/>')
    size = 4 if len(search.trials) <= MANY else 2.5
    for trial in search.trials:
        words = f"trial {trial.number}, {trial.state}"
        if trial.value is None:
            mark = cross(x(trial.number), bottom - 5, 3.5, "failed")
        else:
            words += f": {tick_text(trial.value * scale)}"
            place = (x(trial.number), y(trial.value * scale))
            mark = (
                marker(0, *place, size, "dot")
                if trial.state == "finished"
                else marker(2, *place, size, "pruned")
            )
        body.append(f"<g><title>{escape(words)}</title>{mark}</g>")
    title = (
        f"{search.monitor} over {len(search.trials)} trials: {search.count('finished')} finished,"
        f" {search.count('pruned')} pruned, {search.count('failed')} failed"
        + (f"; best {tick_text(best)}" if best is not None else "")
    )
    return svg(CHART_WIDTH, CHART_HEIGHT, title, body, kind="chart")


@dataclass(frozen=True)
class Curve:
    """Learning curve of one row: per epoch the mean, lowest and highest over its seeds."""

    name: str
    rank: int  # place in the table, which gives colour, dash and marker
    epochs: list[int]
    mean: list[float]
    low: list[float]
    high: list[float]


def learning_curves(board: Board) -> list[Curve]:
    """Curves of the best rows, as far as every seed of a row got."""
    curves: list[Curve] = []
    if not board.rows:
        return curves
    scale = board.metric.scale_of(board.rows[0].scores[0].run.monitor_name)
    for rank, row in enumerate(board.rows[:MOST_CURVES]):
        histories = [score.run.history(score.run.monitor_name) for score in row.scores]
        epochs = sorted(set.intersection(*(set(history) for history in histories)))
        if len(epochs) < 2:
            continue
        columns = [[history[epoch] * scale for history in histories] for epoch in epochs]
        curves.append(
            Curve(
                name=row.name,
                rank=rank,
                epochs=epochs,
                mean=[sum(column) / len(column) for column in columns],
                low=[min(column) for column in columns],
                high=[max(column) for column in columns],
            )
        )
    return curves


def curves_plot(curves: Sequence[Curve], board: Board) -> str:
    """Mean over seeds as a line with markers, the seeds' range as a band."""
    left, right, top, bottom = 62, CHART_WIDTH - 34, 14, CHART_HEIGHT - 44
    everything = [value for curve in curves for value in (*curve.low, *curve.high)]
    y = Scale(*robust_range(everything), bottom, top)
    first, last = min(c.epochs[0] for c in curves), max(c.epochs[-1] for c in curves)
    x = Scale(first, last, left, right)
    monitor = board.rows[0].scores[0].run.monitor_name
    name = board.metric.title_of(monitor)
    body = _frame(x, y, left, right, top, bottom, "epoch", name, whole_x=True)
    for curve in curves:
        upper = [(x(e), y(v)) for e, v in zip(curve.epochs, curve.high, strict=True)]
        lower = [(x(e), y(v)) for e, v in zip(curve.epochs, curve.low, strict=True)]
        body.append(f'<polygon class="band c{curve.rank}" points="{points(upper + lower[::-1])}"/>')
    for curve in curves:
        line_points = [(x(e), y(v)) for e, v in zip(curve.epochs, curve.mean, strict=True)]
        body.append(
            f'<polyline class="curve c{curve.rank} d{curve.rank}" points="{points(line_points)}"/>'
        )
        every = max(1, math.ceil(len(line_points) / 6))
        body += [
            marker(curve.rank, *place, 3.4, f"mark c{curve.rank}")
            for place in [*line_points[:-1:every], line_points[-1]]
        ]
    heights = apart([y(curve.mean[-1]) + 4 for curve in curves], 13, top + 8, bottom)
    for curve, height in zip(curves, heights, strict=True):
        body.append(text(right + 9, height, str(curve.rank + 1), kind=f"name c{curve.rank}"))
    ends = "; ".join(f"{curve.name} ends at {tick_text(curve.mean[-1])}" for curve in curves)
    return svg(CHART_WIDTH, CHART_HEIGHT, f"{monitor} over epochs: {ends}", body, kind="chart")


HARD = 5  # percentile of the hard examples, that a mean can be bought with


def pareto_front(board: Board) -> list[Row]:
    """The rows with the best score of the hard examples among those with as good a mean."""
    sign = 1.0 if board.metric.higher_is_better else -1.0
    points = [
        (sign * row.interval.mean, sign * row.percentiles[_hard(board)].mean, row)
        for row in board.rows
        if row.interval is not None and _hard(board) in row.percentiles
    ]
    front: list[Row] = []
    best = -math.inf
    for _, hard, row in sorted(points, key=lambda one: (-one[0], -one[1])):
        if hard > best:
            best = hard
            front.append(row)
    return front


def _hard(board: Board) -> int:
    return HARD if board.metric.higher_is_better else 100 - HARD


def pareto_plot(board: Board) -> str | None:
    """Mean against the hard examples' percentile, with both intervals; None for a lone point.

    Reweighting trades one for the other: who lies on the line is behind in neither.
    """
    rows = [row for row in board.rows if row.interval and _hard(board) in row.percentiles]
    if len(rows) < 2:
        return None
    left, right, top, bottom = 62, CHART_WIDTH - 34, 14, CHART_HEIGHT - 44
    scale, metric = board.metric.scale, board.metric
    means = [(row, row.interval.mean * scale) for row in rows if row.interval]
    hard = [row.percentiles[_hard(board)] for row in rows]
    x = Scale(*_reach([row.interval for row in rows if row.interval], scale), left, right)
    y = Scale(*_reach(hard, scale), bottom, top)
    unit = f" ({metric.unit})" if metric.unit else ""
    names = f"mean{unit}", f"{_hard(board)} % percentile{unit}"
    body = _frame(x, y, left, right, top, bottom, *names, whole_x=False)
    front = sorted(
        (x(row.interval.mean * scale), y(row.percentiles[_hard(board)].mean * scale))
        for row in pareto_front(board)
        if row.interval
    )
    body.append(f'<polyline class="running" points="{points(front)}"/>')
    for place, ((row, mean), one) in enumerate(zip(means, hard, strict=True), start=1):
        at_x, at_y = x(mean), y(one.mean * scale)
        mark = ""
        if row.interval and row.interval.low is not None and row.interval.high is not None:
            low, high = row.interval.low * scale, row.interval.high * scale
            mark += line(x(low), at_y, x(high), at_y, "whisker")
        if one.low is not None and one.high is not None:
            mark += line(at_x, y(one.low * scale), at_x, y(one.high * scale), "whisker")
        mark += marker(0, at_x, at_y, 4, "dot")
        if len(rows) <= MOST_CURVES:
            mark += text(at_x + 6, at_y - 6, str(place), kind="name")
        words = (
            f"{row.name}: mean {tick_text(mean)}, {_hard(board)} % {tick_text(one.mean * scale)}"
        )
        body.append(f"<g><title>{escape(words)}</title>{mark}</g>")
    leaders = ", ".join(row.name for row in pareto_front(board))
    title = (
        f"Mean against the {_hard(board)} % percentile of {len(rows)} settings; on the line: "
        f"{leaders}"
    )
    return svg(CHART_WIDTH, CHART_HEIGHT, title, body, kind="chart pareto")


def _reach(intervals: Sequence[Interval], scale: float) -> tuple[float, float]:
    """A range that holds the means, and their intervals as far as twice the means' span."""
    means = [one.mean * scale for one in intervals]
    span = (max(means) - min(means)) or abs(means[0]) * 0.05 or 1.0
    ends = list(means)
    for one in intervals:
        if one.low is not None and one.high is not None:
            ends += [
                max(one.low * scale, min(means) - span),
                min(one.high * scale, max(means) + span),
            ]
    return around(ends)


def curve_key(rank: int) -> str:
    """The line, dash and marker of a curve, for the legend."""
    body = [
        f'<polyline class="curve c{rank} d{rank}" points="1,7 33,7"/>',
        marker(rank % MARKERS, 17, 7, 3.4, f"mark c{rank}"),
    ]
    return (
        f'<svg class="key" aria-hidden="true" viewBox="0 0 34 14" width="34" height="14">'
        f"{''.join(body)}</svg>"
    )


def parallel_plot(search: Search, metric: Metric) -> str | None:
    """Each trial a line across the settings that the search moved; axes can be brushed.

    None when nothing was moved or fewer than two trials have a value.
    """
    trials = [trial for trial in search.trials if trial.value is not None][-MOST_LINES:]
    if not search.axes or len(trials) < 2:
        return None
    names = search.axes
    width = max(PARALLEL_WIDTH, 150 * (len(names) + 1) + 60)
    top, bottom, edge = 44, CHART_HEIGHT - 22, 90
    gap = (width - 2 * edge) / len(names)
    columns = [
        _Column(
            [trial.settings.get(name) for trial in trials],
            [name in trial.settings for trial in trials],
            top,
            bottom,
        )
        for name in names
    ]
    scale = metric.scale_of(search.monitor)
    scores = [(trial.value or 0.0) * scale for trial in trials]
    last = Scale(*robust_range(scores), bottom, top)
    lines = []
    order = sorted(
        range(len(trials)), key=lambda i: scores[i], reverse=not search.higher_is_better
    )  # good trials are drawn last, on top
    finished = [index for index in order if trials[index].state == "finished"]
    best = set(finished[-thick_lines(search) :])
    for index in order:
        trial, score = trials[index], scores[index]
        heights = [column.height(index) for column in columns] + [last(score)]
        kind = "trial good" if index in best else "trial"
        kind += " cut" if trial.state == "pruned" else ""
        path = points([(edge + gap * place, height) for place, height in enumerate(heights)])
        lines.append(
            f'<polyline class="{kind}" data-y="{" ".join(map(px, heights))}" points="{path}">'
            f"<title>{escape(_trial_words(trial, names, score))}</title></polyline>"
        )
    drawn = []
    for place, (name, column) in enumerate(zip(names, columns, strict=True)):
        drawn.append(_axis(edge + gap * place, top, bottom, name, column.ticks(), place))
    ticks = [(last(tick), tick_text(tick)) for tick in last.ticks(5)]
    arrow = "↑ better" if search.higher_is_better else "↓ better"
    drawn.append(
        _axis(
            edge + gap * len(names), top, bottom, search.monitor.split("/")[-1], ticks, len(names)
        )
    )
    drawn.append(text(edge + gap * len(names), top - 8, arrow, anchor="middle"))
    faint = " faint" if len(trials) > MANY else ""
    title = f"{len(trials)} trials across {', '.join(names)} and {search.monitor}"
    return (
        f'<svg class="chart parallel{faint}" role="group" viewBox="0 0 {px(width)} {CHART_HEIGHT}" '
        f'width="{px(width)}" height="{CHART_HEIGHT}" data-top="{top}" data-bottom="{bottom}">'
        f"<title>{escape(title)}</title>"
        f'<g role="img" aria-label="{escape(title)}">{"".join(lines)}</g>{"".join(drawn)}</svg>'
    )


def thick_lines(search: Search) -> int:
    """How many of the best trials stand out: a quarter, but never so many that they hide all."""
    return max(1, min(12, (search.count("finished") + 3) // 4))


class _Column:
    """One axis of the parallel coordinates: numbers on a scale, anything else in steps."""

    def __init__(
        self, values: Sequence[Value], present: Sequence[bool], top: float, bottom: float
    ) -> None:
        self.values, self.present = values, present
        self.absent = None if all(present) else bottom - 7  # a slot of its own below the scale
        floor = bottom - 34 if self.absent else bottom
        known = [value for value, here in zip(values, present, strict=True) if here]
        numbers = [
            float(v) for v in known if isinstance(v, int | float) and not isinstance(v, bool)
        ]
        self.scale: Scale | None = None
        self.steps: dict[str, float] = {}
        if len(numbers) == len(known) and len(set(numbers)) > 2:
            low, high = min(numbers), max(numbers)
            self.scale = Scale(low, high, floor, top, _spans_decades(numbers))
        else:
            words = list(dict.fromkeys(sorted((shown(v) for v in known), key=_natural)))
            room = (floor - top) / max(1, len(words))
            self.steps = {word: top + room * (i + 0.5) for i, word in enumerate(words)}
            self.room = min(26.0, room * 0.5)

    def height(self, index: int) -> float:
        if not self.present[index]:
            return (self.absent or 0.0) + 14 * self._aside(index)
        value = self.values[index]
        if self.scale is not None and isinstance(value, int | float):
            return self.scale(float(value))
        return self.steps[shown(value)] + self.room * self._aside(index)

    @staticmethod
    def _aside(index: int) -> float:
        """Spread by the golden ratio, so that trials of one choice do not hide each other."""
        return (index * 0.618034) % 1 - 0.5

    def ticks(self) -> list[tuple[float, str]]:
        if self.scale is not None:
            found = [(self.scale(tick), tick_text(tick)) for tick in self.scale.ticks(5)]
        else:
            found = [(height, word) for word, height in self.steps.items()]
        return [*found, (self.absent, "not set")] if self.absent else found


def _spans_decades(numbers: Sequence[float]) -> bool:
    """Whether values lie evenly over decades rather than over their range."""
    low, high = min(numbers), max(numbers)
    if low <= 0 or high / low < 50:
        return False
    middle = sorted(numbers)[len(numbers) // 2]
    on_log = math.log(middle / low) / math.log(high / low)
    return abs(on_log - 0.5) < abs((middle - low) / (high - low) - 0.5)


def _natural(word: str) -> tuple[int, float, str]:
    try:
        return 0, -float(word), word  # larger numbers higher up
    except ValueError:
        return 1, 0.0, word


def _trial_words(trial: Trial, names: Sequence[str], score: float) -> str:
    chosen = [f"{name}={shown(trial.settings[name])}" for name in names if name in trial.settings]
    return f"trial {trial.number}, {trial.state}: {tick_text(score)}; {', '.join(chosen)}"


def _axis(
    x: float, top: float, bottom: float, name: str, ticks: Sequence[tuple[float, str]], place: int
) -> str:
    short = name if len(name) <= 24 else "…" + name[-23:]
    body = line(x, top, x, bottom, "axis") + text(x, 14, short, anchor="middle", kind="t strong")
    for y, words in ticks:
        words = words if len(words) <= 22 else words[:21] + "…"
        body += line(x - 4, y, x, y, "axis") + text(x + 6, y + 4, words, kind="t halo")
    return (
        f"{body}"
        f'<rect class="brush" data-axis="{place}" x="{px(x - 9)}" y="{px(top)}" width="18" '
        f'height="0" hidden="hidden"/>'
        f'<rect class="grip" data-axis="{place}" x="{px(x - 16)}" y="{px(top - 6)}" width="32" '
        f'height="{px(bottom - top + 12)}" tabindex="0" role="button" '
        f'aria-label="{escape(f"Keep only trials in a range of {name}")}: arrow keys move the '
        f'range, Escape removes it"/>'
    )


def _frame(
    x: Scale,
    y: Scale,
    left: float,
    right: float,
    top: float,
    bottom: float,
    x_name: str,
    y_name: str,
    *,
    whole_x: bool,
) -> list[str]:
    body = []
    for tick in y.ticks(5):
        body.append(line(left, y(tick), right, y(tick), "grid"))
        body.append(text(left - 8, y(tick) + 4, tick_text(tick), anchor="end"))
    for tick in x.ticks(7):
        if whole_x and tick != int(tick):
            continue
        body.append(line(x(tick), bottom, x(tick), bottom + 4, "axis"))
        body.append(text(x(tick), bottom + 17, tick_text(tick), anchor="middle"))
    body.append(line(left, bottom, right, bottom, "axis"))
    body.append(text((left + right) / 2, bottom + 36, x_name, anchor="middle"))
    middle = (top + bottom) / 2
    body.append(
        f'<text class="t" x="14" y="{px(middle)}" text-anchor="middle" '
        f'transform="rotate(-90 14 {px(middle)})">{escape(y_name)}</text>'
    )
    return body
