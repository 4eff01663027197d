"""A board in sentences: what is best, how well that is known, what to do when there is nothing."""

import shlex
from collections.abc import Sequence

from lightning_sep.leaderboard.board import Board, Boards
from lightning_sep.leaderboard.rows import Apart, Row
from lightning_sep.leaderboard.search import Tried
from lightning_sep.leaderboard.statistics import CONFIDENCE

PERCENT = f"{CONFIDENCE * 100:.0f} %"


def headline(board: Board) -> str:
    """The board in a sentence or two: what is best, by how much it is known, what ties with it."""
    top = board.best
    if top is None:
        return empty_advice(board)
    metric = board.metric
    count = board.settings_tried
    of = f" of {count} settings tried" if count > 1 else ""
    parts = [f"Best{of}: {top.name}, {metric.label} {known_as(top, board)}."]
    ties, ahead = _beside(top, board)
    if len(board.rows) == 1:
        parts.append("It is the only setting that is ranked.")
    elif all(len(row.scores) < 2 for row in board.rows):
        parts.append("With one seed each, no difference on this board can be told from chance.")
    elif ahead:
        parts.append(
            f"It was chosen by the {board.chosen_by}; on the test set it is distinguishably behind "
            f"{_listed(_few(ahead))}."
        )
    elif ties:
        parts.append(f"Tied with it (no distinguishable difference): {_listed(_few(ties))}.")
    else:
        runner_up = board.rows[1]
        gap = (
            abs(top.interval.mean - runner_up.interval.mean)
            if (top.interval and runner_up.interval)
            else None
        )
        parts.append(
            f"It is distinguishably better than every other ranked setting"
            f" (runner-up: {runner_up.name}, {metric.with_unit(gap)} behind)."
        )
    trivial = _not_better_than_trivial(top, board)
    if trivial:
        parts.append(trivial)
    return " ".join(parts)


def _beside(top: Row, board: Board) -> tuple[list[str], list[str]]:
    """Names of the rows that tie with the best one, and of those that are ahead of it."""
    others = [row.name for row in board.may_be_best if row is not top]
    return (others, []) if top.may_be_best else ([], others)


def made_with(board: Board) -> str:
    """The commits that the ranked rows were made with; empty where they do not say."""
    commits = dict.fromkeys(row.commit for row in board.rows if row.commit)
    return f"Code: commit {_listed([one[:12] for one in commits])}." if commits else ""


def known_as(row: Row, board: Board) -> str:
    """``9.31 ± 0.22 dB (95 % interval for ..., 5 seeds)``, or the mean of a lone seed, said so."""
    metric, interval = board.metric, row.interval
    if interval is None:
        return "no score"
    seeds = len(row.scores)
    if interval.half_width is None:
        return f"{metric.with_unit(interval.mean)} (one seed, so no interval)"
    low, high = metric.clipped(interval.low, interval.high)
    return (
        f"{metric.with_unit(interval.mean)} ({PERCENT} interval {metric.number(low)} to"
        f" {metric.number(high)} for {board.truth}, {seeds} seeds)"
    )


def empty_advice(board: Board) -> str:
    """What to do when nothing is ranked yet."""
    if board.apart:
        first = board.apart[0]
        return (
            "Nothing is ranked: no setting has finished all the seeds that the board asks for "
            f"(for example {first.row.name}: {'; '.join(first.reasons)}). The same command as "
            "before goes on with what is left."
        )
    return (
        "No final runs yet. Only runs on fresh seeds are ranked: finalists get them once the "
        "search has ended, unless the sweep asks for none; "
        f"`lightning-sep status {shlex.quote(board.name)}` says how far it is, and giving the "
        "sweep command again lets it go on."
    )


def empty_home_advice(found: Boards) -> str:
    """What to do when there is no board at all."""
    if found.skipped:
        return "No record here can be read; the folders and the reasons are listed below."
    return (
        "No runs yet. `lightning-sep sweep SWEEP.py` searches and ranks; "
        "`lightning-sep train` makes a single run."
    )


def summary_line(board: Board) -> str:
    """The board in one line: best setting, mean, interval, seeds, ties."""
    top = board.best
    if top is None:
        return f"{board.name}: {empty_advice(board)}"
    metric = board.metric
    score = metric.number(top.interval.mean) if top.interval else "–"
    width = top.interval.half_width if top.interval else None
    spread = "" if width is None else f" ± {metric.number(width)}"
    seeds = f"{len(top.scores)} seed{'' if len(top.scores) == 1 else 's'}"
    meaning = "no interval" if width is None else f"{PERCENT}, {board.truth}"
    ties, ahead = _beside(top, board)
    if len(board.rows) == 1:
        standing = "the only setting that is ranked"
    elif all(len(row.scores) < 2 for row in board.rows):
        standing = "with one seed each no difference can be told from chance"
    elif ahead:
        standing = f"on the test set behind {_listed(_few(ahead))}"
    elif ties:
        standing = f"tied with {_listed(_few(ties))}"
    else:
        standing = "ahead of all others"
    of = f"best of {board.settings_tried}: " if board.settings_tried > 1 else ""
    return (
        f"{board.name}: {of}{top.name}, {metric.label} {score}{spread} {metric.unit}".rstrip()
        + f" ({meaning}; {seeds}), {standing}"
    )


def _not_better_than_trivial(top: Row, board: Board) -> str | None:
    """A warning when even the best row cannot be told from a predictor that learnt nothing."""
    if top.interval is None or not board.baselines:
        return None
    higher = board.metric.higher_is_better
    label, value = (max if higher else min)(board.baselines, key=lambda item: item[1])
    end = top.interval.low if higher else top.interval.high
    end = top.interval.mean if end is None else end
    if (end > value) if higher else (end < value):
        return None
    return (
        f"Even so, it is not distinguishably better than a trivial predictor "
        f"({label}: {board.metric.with_unit(value)})."
    )


def _few(names: Sequence[str]) -> list[str]:
    return list(names) if len(names) <= 4 else [*names[:3], f"{len(names) - 3} more"]


def _listed(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def tried_text(one: Tried, board: Board) -> str:
    """What is known of a setting that only the search saw."""
    if one.state == "failed":
        errors = [run.error for run in one.runs if run.error]
        return f"failed in the search: {errors[0] if errors else 'no reason was recorded'}"
    if one.state == "pruned":
        return "pruned in the search, not run on fresh seeds"
    seeds = "once" if len(one.runs) == 1 else f"with {len(one.runs)} seeds"
    score = "–" if one.validation is None else validation_text(one.validation, board)
    return f"searched {seeds}, validation {score}, not run on fresh seeds"


def validation_text(value: float, board: Board) -> str:
    """A monitored value as shown: in the metric's own unit where it is the same on validation."""
    if board.monitor.split("/", 1)[-1] == board.metric.name:
        return board.metric.with_unit(value)
    return f"{value:.4g}".replace("-", "−")


def apart_text(one: Apart) -> str:
    """A setting that is not ranked, and why, in one line."""
    return f"{one.row.name}: {'; '.join(one.reasons)}"
