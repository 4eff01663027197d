"""The forest plot of the table, a picture a row; and who lies on the Pareto front."""

import math
from collections.abc import Callable, Sequence
from html import escape
from statistics import median

from lightning_sep.leaderboard.board import Board
from lightning_sep.leaderboard.rows import Row
from lightning_sep.leaderboard.svg import Scale, around, path, px, text, tick_text
from lightning_sep.leaderboard.words import PERCENT

FOREST_WIDTH, FOREST_ROW, FOREST_HEAD = 240, 36, 30
EDGE = 12  # of the width, on either side of the scale: there stand the arrows
DIGIT = 8  # width of a digit of the scale, at most
HARD = 5  # percentile of the hard examples, that a mean can be bought with


class Forest:
    """The forest plot, a picture per table row on one scale, so that rows can be sorted.

    The scale is that of the better half of the rows: what lies far behind them, such as a setting
    that collapsed, is an arrow at the edge and does not press the others together.

    Args:
        board: a board.
        place: of the board on the page.
    """

    def __init__(self, board: Board, place: int) -> None:
        self.metric = board.metric
        self.place = place
        self.scale = Scale(*forest_range(board), EDGE, FOREST_WIDTH - EDGE)
        unit = board.metric.scale
        wide = Scale(self.scale.low * unit, self.scale.high * unit, 0, 1)
        self.ticks = [tick / unit for tick in wide.ticks(4)]
        self.baselines = [
            (label, value)
            for label, value in board.baselines
            if self.scale.low <= value <= self.scale.high
        ]
        self.is_cut = any(
            not self.scale.low <= score.value <= self.scale.high
            for row in board.rows
            for score in row.scores
        )

    def head(self) -> str:
        """The axis above the column, and the grid that every row shows again."""
        y = FOREST_HEAD - 2
        places = [px(self.scale(tick)) for tick in self.ticks]
        body = path("axis", f"M{EDGE} {y}H{FOREST_WIDTH - EDGE}{_bars(places, y - 4, y)}")
        for tick, x in zip(self.ticks, places, strict=True):
            label = tick_text(round(tick * self.metric.scale, 9))
            half = DIGIT / 2 * len(label)  # a long number at the end stays within the picture
            middle = min(max(float(x), half), FOREST_WIDTH - half)
            body += text(middle, y - 8, label, anchor="middle")
        lines = path("grid", _bars(places, 0, FOREST_ROW))
        for _, value in self.baselines:
            lines += path("baseline", f"M{px(self.scale(value))} 0V{FOREST_ROW}")
        unit = f" in {self.metric.unit}" if self.metric.unit else ""
        title = f"Scale of the intervals: {self.metric.label}{unit}, {self.metric.direction}"
        grid = f'<defs><g id="grid-{self.place}">{lines}</g></defs>'
        return _picture(FOREST_HEAD, title, grid + body)

    def row(self, row: Row) -> str:
        """Thin line: the board's interval; thick: new seeds only; dots: seeds; bar: mean."""
        middle, dots = 12, 27
        body = f'<use href="#grid-{self.place}"/>'
        if row.interval is None:
            body += text(FOREST_WIDTH / 2, 22, "no run has a score", anchor="middle")
            return _picture(FOREST_ROW, f"{row.name}: no score", body)
        wide, narrow = row.interval, row.seed_interval
        if wide.low is not None and wide.high is not None:
            body += self._reach(wide.low, wide.high, middle)
        if narrow is not None and narrow.low is not None and narrow.high is not None:
            low, high = self.metric.clipped(narrow.low, narrow.high)
            ends = px(self.scale(low or 0.0)), px(self.scale(high or 0.0))
            if ends[0] != ends[1]:
                body += path("seeds", f"M{ends[0]} {middle}H{ends[1]}")
        inside = [score.value for score in row.scores if self._holds(score.value)]
        if self._holds(wide.mean):
            body += path("mean", f"M{px(self.scale(wide.mean))} {middle - 8}v16")
        if inside:
            places = "".join(f"M{px(self.scale(value))} {dots}h0" for value in inside)
            body += path("dots", places)
        body += self._beyond([wide.mean, *(score.value for score in row.scores)], dots)
        seeds = ", ".join(self.metric.number(score.value) for score in row.scores)
        title = f"Mean {self.metric.with_unit(wide.mean)}"
        if wide.low is not None and wide.high is not None:
            low, high = self.metric.clipped(wide.low, wide.high)
            title += f"; {PERCENT} interval {self.metric.number(low)} to {self.metric.number(high)}"
        return _picture(FOREST_ROW, f"{title}; seeds: {seeds}", body)

    def _holds(self, value: float) -> bool:
        return self.scale.low <= value <= self.scale.high

    def _reach(self, low: float, high: float, y: float) -> str:
        ends = self.metric.clipped(low, high)
        low, high = ends[0] or 0.0, ends[1] or 0.0
        left, right = px(self.scale(low)), px(self.scale(high))
        steps = f"M{left} {y}H{right}" if left != right else ""
        steps += "".join(
            f"M{x} {y - 4}v8" for x, value in ((left, low), (right, high)) if self._holds(value)
        )
        return path("reach", steps) if steps else ""

    def _beyond(self, values: Sequence[float], y: float) -> str:
        """An arrow at the edge where something lies beyond it."""
        steps = ""
        if any(value < self.scale.low for value in values):
            steps += f"M8 {y - 5}L1 {y}L8 {y + 5}z"
        if any(value > self.scale.high for value in values):
            steps += f"M{FOREST_WIDTH - 8} {y - 5}l7 5l-7 5z"
        return path("arrow", steps) if steps else ""


def forest_range(board: Board) -> tuple[float, float]:
    """The range of the forest plot: that of the better half of the rows, and of all near them."""
    is_far = far_behind(board)
    near = [row for row in board.rows if row.interval is not None and not is_far(row)]
    if not near:
        return 0.0, 1.0
    values = [score.value for row in near for score in row.scores]
    span = (max(values) - min(values)) or abs(values[0]) * 0.05 or 1.0
    ends = list(values)
    for row in near:
        if row.interval and row.interval.low is not None and row.interval.high is not None:
            low, high = board.metric.clipped(row.interval.low, row.interval.high)
            ends += [max(low or 0.0, min(values) - span), min(high or 0.0, max(values) + span)]
    for _, value in board.baselines:
        if min(ends) - span / 4 <= value <= max(ends) + span / 4:  # else it costs resolution
            ends.append(value)
    return around(ends)


def far_behind(board: Board) -> Callable[[Row], bool]:
    """Whether a row lies so far behind the better half that scales are made without it."""
    rows = [(row, row.interval) for row in board.rows if row.interval is not None]
    if not rows:
        return lambda row: False
    sign = 1.0 if board.metric.higher_is_better else -1.0
    means = sorted((sign * interval.mean for _, interval in rows), reverse=True)
    good = [one for one in rows if sign * one[1].mean >= median(means)]
    widths = [interval.half_width or 0.0 for _, interval in good]
    spread = max(
        (max(s.value for s in row.scores) - min(s.value for s in row.scores)) for row, _ in good
    )
    reach = max(3 * (means[0] - median(means)), 2 * max(widths), spread) or abs(means[0]) * 0.05
    return lambda row: row.interval is not None and means[0] - sign * row.interval.mean > reach


def pareto_front(board: Board) -> list[Row]:
    """The rows with the best score of the hard examples among those with as good a mean."""
    sign = 1.0 if board.metric.higher_is_better else -1.0
    hard_of = HARD if board.metric.higher_is_better else 100 - HARD
    points = [
        (sign * row.interval.mean, sign * row.percentiles[hard_of].mean, row)
        for row in board.rows
        if row.interval is not None and hard_of in row.percentiles
    ]
    front: list[Row] = []
    best = -math.inf
    for _, hard, row in sorted(points, key=lambda one: (-one[0], -one[1])):
        if hard > best:
            best = hard
            front.append(row)
    return front


def _bars(places: Sequence[str], top: float, bottom: float) -> str:
    return "".join(f"M{x} {px(top)}V{px(bottom)}" for x in places)


def _picture(height: int, title: str, body: str) -> str:
    return (
        f'<svg class="forest" role="img" viewBox="0 0 {FOREST_WIDTH} {height}" '
        f'width="{FOREST_WIDTH}" height="{height}"><title>{escape(title)}</title>{body}</svg>'
    )
