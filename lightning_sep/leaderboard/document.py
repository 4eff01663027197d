"""The boards as one JSON document, for other programs."""

import json
from typing import Any

from lightning_sep.leaderboard.board import Board, Boards
from lightning_sep.leaderboard.metric import Metric
from lightning_sep.leaderboard.plots import pareto_front
from lightning_sep.leaderboard.rows import Row
from lightning_sep.leaderboard.search import Tried
from lightning_sep.leaderboard.statistics import CONFIDENCE, Interval
from lightning_sep.leaderboard.words import headline, tried_text

FORMAT = 1


def as_json(found: Boards) -> dict[str, Any]:
    """The boards as one JSON document; values are in the metric's own unit, unscaled."""
    return {
        "format": FORMAT,
        "confidence": CONFIDENCE,
        "boards": [_board_json(board) for board in found.boards],
        "skipped": [{"folder": skip.folder, "reason": skip.reason} for skip in found.skipped],
    }


def as_text(found: Boards) -> str:
    """:func:`as_json` as text, a line for each setting."""
    return _lines(as_json(found), levels=4)


def _lines(value: Any, levels: int, indent: str = "\n") -> str:
    """JSON with a line for each item of the outer levels.

    The rest is left to one call each, since Python indents ten thousand settings in its own time.
    """
    if not levels or not value or not isinstance(value, dict | list):
        return json.dumps(value, allow_nan=False)
    deeper = indent + "  "
    if isinstance(value, dict):
        items = [f"{json.dumps(k)}: {_lines(v, levels - 1, deeper)}" for k, v in value.items()]
        start, end = "{}"
    else:
        items = [_lines(one, levels - 1, deeper) for one in value]
        start, end = "[]"
    return f"{start}{deeper}{f',{deeper}'.join(items)}{indent}{end}"


def _board_json(board: Board) -> dict[str, Any]:
    search = board.search
    return {
        "name": board.name,
        "task": board.task,
        "metric": {
            "key": board.metric.key,
            "label": board.metric.label,
            "unit": board.metric.unit,
            "higher_is_better": board.metric.higher_is_better,
        },
        "truth": board.truth,
        "headline": headline(board),
        "baselines": [{"label": label, "value": value} for label, value in board.baselines],
        "axes": board.axes,
        "pareto_front": [row.config_hash for row in pareto_front(board)],
        "best": None
        if board.best is None
        else {"config_hash": board.best.config_hash, "name": board.best.name}
        | {"run_id": board.best.run_id}
        | {"chosen_by": board.chosen_by},
        "rows": [_row_json(row, board) for row in board.rows],
        "apart": [{**_row_json(one.row, board), "reasons": one.reasons} for one in board.apart],
        "settings_tried": board.settings_tried,
        "tried": [_tried_json(one, board) for one in board.tried],
        "notes": board.notes,
        "search": None
        if search is None
        else {
            "monitor": search.monitor,
            "trials": len(search.trials),
            **{state: search.count(state) for state in ("finished", "pruned", "failed")},
        },
    }


def _tried_json(one: Tried, board: Board) -> dict[str, Any]:
    return {
        "name": one.name,
        "settings": dict(one.label),
        "config_hash": one.config_hash,
        "state": one.state,
        "validation": one.validation,
        "known": tried_text(one, board),
        "runs": [{"run_id": run.run_id, "seed": run.seed} for run in one.runs],
    }


def _row_json(row: Row, board: Board) -> dict[str, Any]:
    metric = board.metric
    return {
        "place": row.standing.place if row.standing else None,
        "may_be_best": row.may_be_best,
        "difference": None
        if row.standing is None or row is board.best
        else {
            "mean": row.standing.difference.mean,
            "interval": None
            if row.standing.difference.low is None
            else [row.standing.difference.low, row.standing.difference.high],
        },
        "rank_low": row.ranks[0] if row.ranks else None,
        "rank_high": row.ranks[1] if row.ranks else None,
        "name": row.name,
        "settings": dict(row.label),
        "config_hash": row.config_hash,
        "run_id": row.run_id,
        "trial": row.trial,
        "best": row is board.best,
        "validation": row.validation,
        "mean": row.interval.mean if row.interval else None,
        "interval": _ends(row.interval, metric),
        "seed_interval": _ends(row.seed_interval, metric),
        "next_seed": _ends(row.prediction, metric),
        "seeds": [
            {
                "seed": score.seed,
                "value": score.value,
                "run_id": score.run.run_id,
                "command": score.command,
            }
            for score in row.scores
        ],
        "failed": [
            {"run_id": run.run_id, "seed": run.seed, "error": run.error} for run in row.failed
        ],
        "percentiles": {f"q{q}": one.mean for q, one in row.percentiles.items()},
        "percentile_intervals": {f"q{q}": _ends(one, metric) for q, one in row.percentiles.items()},
        "interquartile_mean": row.interquartile.mean if row.interquartile else None,
        "interquartile_interval": _ends(row.interquartile, metric),
        "extras": row.extras,
        "parameters": row.parameters,
        "wall_s": row.wall_s,
        "device": row.device,
        "verified": row.verified,
        "differed": row.differed,
        "commit": row.commit,
    }


def _ends(interval: Interval | None, metric: Metric) -> list[float | None] | None:
    if interval is None or interval.low is None or interval.high is None:
        return None
    return list(metric.clipped(interval.low, interval.high))
