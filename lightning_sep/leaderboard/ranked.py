"""The ranked table of the page: sortable, filtered, with a forest plot along its rows."""

from html import escape

from lightning_sep.leaderboard.axes import shown
from lightning_sep.leaderboard.board import Board
from lightning_sep.leaderboard.plots import Forest
from lightning_sep.leaderboard.rows import Row
from lightning_sep.leaderboard.search import Tried
from lightning_sep.leaderboard.table import (
    count_text,
    difference_text,
    extra_text,
    interval_text,
    time_text,
)
from lightning_sep.leaderboard.words import PERCENT, tried_text, validation_text

MOST_TRIED = 200  # settings of the search alone in the table; JSON has all


def ranked_table(board: Board, place: int) -> str:
    """A board as a table: ranks, settings, scores, and the forest plot as its middle column."""
    # Roles are written out because a narrow screen lays the rows out as cards, and a browser
    # forgets that a table is one when its display changes.
    metric, forest = board.metric, Forest(board)
    with_device = len({row.device for row in board.rows}) > 1
    columns = [
        _head("Rank", "rank", sort="ascending", sorted_now=True),
        _head("Setting", "name", sort="ascending"),
        _head(
            metric.heading,
            "score",
            sort="descending" if metric.higher_is_better else "ascending",
            sub=metric.direction,
        ),
        f'<th scope="col" role="columnheader" class="plot"><span class="sub">{PERCENT} interval '
        f"and every seed</span>{forest.head()}</th>",
        _head("Difference to the best", "more", sort="descending"),
        _head("Seeds", "more", sort="descending"),
        *(_head(heading, "more", sort="descending") for _, heading in metric.extras),
        _head("Parameters", "more", sort="ascending"),
        _head("Run time", "more", sort="ascending"),
        *([_head("Device", "more", sort="ascending")] if with_device else []),
        '<th scope="col" role="columnheader" class="more">Run again</th>',
    ]
    rows = [
        _ranked_row(row, board, forest, row_place, with_device)
        for row_place, row in enumerate(board.rows)
    ]
    rest = [_tried_row(one, board, len(columns)) for one in board.tried[:MOST_TRIED]]
    if len(board.tried) > MOST_TRIED:
        words = f"{len(board.tried) - MOST_TRIED} more settings were searched; the JSON has them."
        rest.append(
            f'<tr role="row" class="tried"><td role="cell" class="rank"></td>'
            f'<td role="cell" class="rest" colspan="{len(columns) - 1}">{words}</td></tr>'
        )
    second = f'<tbody role="rowgroup" class="tried">{"".join(rest)}</tbody>' if rest else ""
    feet = [
        f'<tr role="row"><td role="cell" class="rank"></td>'
        f'<th scope="row" role="rowheader" class="name">{escape(label)} '
        f'<span class="sub">trivial predictor</span></th>'
        f'<td role="cell" class="score">{metric.number(value)}</td>'
        f'<td role="cell" class="more rest" colspan="{len(columns) - 3}"></td></tr>'
        for label, value in board.baselines
    ]
    many = " many" if any(len(row.label) > 2 for row in board.rows) else ""  # a wider column
    foot = f'<tfoot role="rowgroup">{"".join(feet)}</tfoot>' if feet else ""
    return (
        '<div class="card"><div class="tools">'
        f'<label for="filter-{place}">Filter <input type="search" id="filter-{place}" '
        'placeholder="setting, run id …" autocomplete="off"></label>'
        '<span class="shown small quiet" role="status"></span></div>'
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="title-{place}">'
        f'<table class="ranked{many}" role="table"><thead role="rowgroup"><tr role="row">'
        f"{''.join(columns)}</tr></thead>"
        f'<tbody role="rowgroup">{"".join(rows)}</tbody>{second}{foot}</table></div>'
        f"{_forest_legend(board, forest)}</div>"
    )


def _ranked_row(row: Row, board: Board, forest: Forest, place: int, with_device: bool) -> str:
    metric = board.metric
    mean = row.interval.mean if row.interval else None
    interval = interval_text(row, board)
    ids = " ".join([row.config_hash, *(score.run.run_id for score in row.scores)])
    best = row.may_be_best
    words = _standing(row, board)
    standing = f'<span class="sub">{words}</span>' if words else ""
    cells = [
        f'<td role="cell" class="rank" data-v="{place}">{row.rank_text}{standing}</td>',
        f'<th scope="row" role="rowheader" class="name" data-v="{escape(row.name)}">'
        f'{chips(row)}<span class="sub">run <code>{escape(row.run_id)}</code>'
        f"{f' · {row.verified_text}' if row.verified_text else ''}</span></th>",
        f'<td role="cell" class="score" data-v="{_blank(mean)}">{metric.number(mean)}'
        f'<span class="sub">{interval if interval != "–" else "no interval"}</span></td>',
        f'<td role="cell" class="plot">{forest.row(row)}</td>',
        _more(
            "Difference to the best",
            None if row.standing is None else row.standing.difference.mean,
            _broken(difference_text(row, board)),
            kind="more difference",
        ),
        _more("Seeds", len(row.scores), str(len(row.scores))),
        *(
            _more(heading, row.extras.get(key), extra_text(row, key))
            for key, heading in metric.extras
        ),
        _more("Parameters", row.parameters, count_text(row.parameters)),
        _more("Run time", row.wall_s, time_text(row.wall_s)),
    ]
    if with_device:
        cells.append(f'<td role="cell" class="more" data-label="Device">{escape(row.device)}</td>')
    button = copy_button(row.scores[0].command, row.name) if row.scores else ""
    cells.append(f'<td role="cell" class="more" data-label="Run again">{button}</td>')
    kind = ' class="best"' if best else ""
    return f'<tr role="row"{kind} data-text="{escape(ids)}">{"".join(cells)}</tr>'


def _tried_row(one: Tried, board: Board, columns: int) -> str:
    """A setting that only the search saw: its validation score, and that it is nothing more."""
    value = "–" if one.validation is None else validation_text(one.validation, board)
    ids = escape(" ".join([one.config_hash, *(run.run_id for run in one.runs)]))
    return (
        f'<tr role="row" class="tried" data-text="{ids}"><td role="cell" class="rank">–</td>'
        f'<th scope="row" role="rowheader" class="name" data-v="{escape(one.name)}">{chips(one)}'
        f'</th><td role="cell" class="score">{escape(value)}<span class="sub">validation</span>'
        f'</td><td role="cell" class="rest" colspan="{columns - 3}">'
        f"{escape(tried_text(one, board))}</td></tr>"
    )


def _broken(words: str) -> str:
    """A difference with its interval below it."""
    mean, _, interval = words.partition(" ")
    return f'{mean} <span class="sub">{interval.strip("()")}</span>' if interval else mean


def _standing(row: Row, board: Board) -> str:
    if row is board.best:
        return "best"
    if not row.may_be_best:
        return ""
    return "may be best" if any(len(one.scores) > 1 for one in board.rows) else "not tested"


def _more(heading: str, value: float | None, words: str, *, kind: str = "more") -> str:
    return (
        f'<td role="cell" class="{kind}" data-label="{escape(heading)}" data-v="{_blank(value)}">'
        f"{words}</td>"
    )


def _head(
    words: str, kind: str, *, sort: str, sorted_now: bool = False, sub: str | None = None
) -> str:
    now = f' aria-sort="{sort}"' if sorted_now else ""
    below = f'<span class="sub">{escape(sub)}</span>' if sub else ""
    return (
        f'<th scope="col" role="columnheader" class="{kind}" data-first="{sort}"{now}>'
        f'<button type="button" class="sort">{escape(words)}</button>{below}</th>'
    )


def chips(row: Row | Tried) -> str:
    """A row's settings, names quiet and values strong."""
    if not row.label:
        return escape(row.name)
    return "".join(
        f'<span class="chip"><i>{_breakable(name)}=</i>'
        f"<b>{_breakable(shown(value), '_')}</b></span> "
        for name, value in row.label
    )


def _breakable(words: str, marks: str = "_.") -> str:
    """Escaped text that may break after certain marks, as long names need."""
    words = escape(words)
    for mark in marks:
        words = words.replace(mark, f"{mark}<wbr>")
    return words


def _forest_legend(board: Board, forest: Forest) -> str:
    def key(body: str) -> str:
        return f'<svg aria-hidden="true" viewBox="0 0 30 14" width="30" height="14">{body}</svg>'

    thin = '<path class="reach" d="M2 7H28M2 3V11M28 3V11"/>'
    thick = '<path class="seeds" d="M4 7H26"/>'
    bar, dot = '<path class="mean" d="M15 1V13"/>', '<circle class="dot" cx="15" cy="7" r="3"/>'
    dashes = '<path class="baseline" d="M15 0V14"/>'
    items = [f"{key(bar)}mean over seeds"]
    widths = {row.interval != row.seed_interval for row in board.rows}
    if True in widths:
        items.append(f"{key(thin)}{PERCENT} interval, {escape(board.truth)}")
        items.append(f"{key(thick)}{PERCENT} interval, new seeds only")
    elif any(row.interval and row.interval.low is not None for row in board.rows):
        items.append(f"{key(thin + thick)}{PERCENT} interval, {escape(board.truth)}")
    items.append(f"{key(dot)}one seed")
    for label, value in forest.baselines:
        items.append(f"{key(dashes)}{escape(label)}, {escape(board.metric.with_unit(value))}")
    return f'<div class="legend">{"".join(f"<span>{item}</span>" for item in items)}</div>'


def copy_button(command: str, name: str = "") -> str:
    """A button that copies a command; ``name`` says of which row where the place does not."""
    said = f' aria-label="{escape(f"Copy the command of {name}")}"' if name else ""
    return f'<button type="button" class="copy" data-copy="{escape(command)}"{said}>Copy</button>'


def _blank(value: float | None) -> str:
    return "" if value is None else str(value)
