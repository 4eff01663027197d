"""The tables of the page: all settings with a forest plot along the rows, and all trials."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from lightning_sep.leaderboard.axes import label_text, shown
from lightning_sep.leaderboard.board import Board
from lightning_sep.leaderboard.charts import MOST_TRIALS
from lightning_sep.leaderboard.entries import Axis, Entry
from lightning_sep.leaderboard.plots import Forest
from lightning_sep.leaderboard.rows import Row
from lightning_sep.leaderboard.search import Trial, Tried
from lightning_sep.leaderboard.table import (
    count_text,
    difference_text,
    extra_text,
    interval_text,
    time_text,
)
from lightning_sep.leaderboard.words import PERCENT, tried_text, validation_text

MOST_AGAIN = 1000  # settings whose commands are on the page; the JSON has all


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        words: its heading.
        kind: CSS class of its cells.
        sort: ``number`` or ``text``; empty for a column that nothing is sorted by.
        first: which way a first click sorts.
        sub: a second line of the heading.
        below: what stands under the heading, as HTML.
        label: its name where the rows are laid out as cards; the heading without it.
    """

    words: str
    kind: str
    sort: str = "number"
    first: str = "descending"
    sub: str = ""
    below: str = ""
    label: str | None = None


def settings_table(board: Board, place: int, entries: Sequence[Entry], axes: Sequence[Axis]) -> str:
    """A board as a table: every setting tried, the ranked ones first."""
    metric, forest = board.metric, Forest(board, place)
    with_device = len({row.device for row in board.rows}) > 1
    best_first = "descending" if metric.higher_is_better else "ascending"
    score = Column(metric.heading, "score", "number", best_first, metric.direction, label="")
    interval = Column(
        f"{PERCENT} interval and every seed", "plot", "", below=forest.head(), label=""
    )
    columns = [
        _PICK,
        Column("Rank", "rank", first="ascending", label=""),
        *_axis_columns(axes),
        score,
        interval,
        Column("Difference to the best", "difference", first=best_first),
        Column("Validation", "more", first="descending" if board.monitor_rises else "ascending"),
        Column("Seeds", "more"),
        *(Column(heading, "more") for _, heading in metric.extras),
        Column("Size", "more", first="ascending", sub="parameters"),
        Column("Time", "more", first="ascending", sub="of a run"),
        *([Column("Device", "more", "text")] if with_device else []),
        Column("Run again", "copies", ""),
    ]
    rows = [_row(one, at, board, forest, axes, place) for at, one in enumerate(entries)]
    ranked = [row for row, one in zip(rows, entries, strict=True) if one.kind == "ranked"]
    rest = [row for row, one in zip(rows, entries, strict=True) if one.kind != "ranked"]
    more = board.settings_tried - len(entries)
    if more > 0:
        rest.append(
            f'<tr><td class="note" colspan="{len(columns)}">{more} more settings; the JSON has '
            "them.</td></tr>"
        )
    span = 2 + max(1, len(axes))
    feet = "".join(
        f'<tr><th scope="row" class="base" colspan="{span}">{escape(label)} '
        f'<span class="sub">trivial predictor</span></th>'
        f'<td class="score">{metric.number(value)}</td>'
        f'<td class="void" colspan="{len(columns) - span - 1}"></td></tr>'
        for label, value in board.baselines
    )
    return (
        f'<div class="card">{_tools(place, "settings")}'
        + _table(place, "settings", f"title-{place}", columns, [ranked, rest], feet)
        + f"{_forest_legend(board, forest)}</div>"
    )


def trials_table(board: Board, place: int, axes: Sequence[Axis]) -> str:
    """Every trial of the search: its state, what it scored on validation and its settings."""
    search = board.search
    if search is None:
        return ""
    monitor = search.monitor
    columns = [
        _PICK,
        Column("Trial", "rank", first="ascending", label=""),
        *_axis_columns(axes),
        Column(
            board.metric.title_of(monitor),
            "score",
            first="descending" if search.higher_is_better else "ascending",
            sub="higher is better" if search.higher_is_better else "lower is better",
            label="",
        ),
        Column("State", "state", "text", "ascending"),
        Column("Began", "more", "text", "ascending"),
        Column("Took", "more"),
        Column("Run", "copies", "text", "ascending"),
    ]
    trials = search.trials[-MOST_TRIALS:]
    rows = [_trial(one, at, board, axes) for at, one in enumerate(trials)]
    left = len(search.trials) - len(trials)
    note = f" The newest {len(trials)}; {left} older ones are left out." if left else ""
    return (
        f'<details class="card trials"><summary><h3 id="trials-{place}">All '
        f"{len(search.trials)} trials of the search</h3> "
        f'<span class="small quiet">{_states(board)}; validation scores, which choose and do not '
        f"rank.{note}</span></summary>{_tools(place, 'trials')}"
        + _table(place, "trials", f"trials-{place}", columns, [rows], "")
        + "</details>"
    )


def row_id(board: Board, entry: Entry) -> str:
    """The anchor of a setting's row: the board and the setting's hash, so that links last."""
    return re.sub(r"[^\w-]", "-", f"{board.name}-{entry.config_hash[:16]}")


_PICK = Column("Compare", "pick", "", label="")


def _states(board: Board) -> str:
    if board.search is None:
        return ""
    counts = [(board.search.count(one), one) for one in ("finished", "pruned", "failed")]
    return ", ".join(f"{count} {state}" for count, state in counts if count)


def _axis_columns(axes: Sequence[Axis]) -> list[Column]:
    if not axes:
        return [Column("Setting", "name", "text", "ascending")]
    return [
        Column(
            one.name,
            "name num" if one.is_number else "name",
            "number" if one.is_number else "text",
            "ascending",
        )
        for one in axes
    ]


def _table(
    place: int,
    name: str,
    title: str,
    columns: Sequence[Column],
    bodies: Sequence[Sequence[str]],
    feet: str,
) -> str:
    head = "".join(_head(one) for one in columns)
    sections = "".join(f"<tbody>{''.join(rows)}</tbody>" for rows in bodies if rows)
    foot = f"<tfoot>{feet}</tfoot>" if feet else ""
    # Where rows are laid out as cards a cell says what it is; the sheet says it once a column.
    labels = "".join(
        f"#{name}-{place} td:nth-child({at})::before,#{name}-{place} tbody th:nth-child({at})"
        f'::before{{content:"{_css(one.words if one.label is None else one.label)}"}}'
        for at, one in enumerate(columns, start=1)
        if one.label != ""
    )
    return (
        f'<style>{labels}</style><div class="scroll" tabindex="0" role="region" '
        f'aria-labelledby="{title}"><table class="ranked" id="{name}-{place}" '
        f'data-table="{name}"><thead><tr>{head}</tr></thead>{sections}{foot}</table></div>'
    )


def _css(words: str) -> str:
    """Text inside a string of a style sheet, whatever it holds."""
    return "".join(
        letter
        if letter.isascii() and (letter.isalnum() or letter in " .-")
        else f"\\{ord(letter):x} "
        for letter in words
    )


def _head(one: Column) -> str:
    below = f'<span class="sub">{escape(one.sub)}</span>' if one.sub else ""
    words = _breakable(one.words)
    if not one.sort:
        said = f'<span class="said">{words}</span>' if one.kind in ("pick", "copies") else words
        return f'<th scope="col" class="{one.kind}">{said}{below}{one.below}</th>'
    return (
        f'<th scope="col" class="{one.kind}" data-kind="{one.sort}" data-first="{one.first}">'
        f'<button type="button" class="sort">{words}</button>{below}{one.below}</th>'
    )


def _tools(place: int, name: str) -> str:
    """What narrows and orders a table; the page's script fills it in."""
    field = f"{name}-filter-{place}"
    return (
        f'<div class="tools js" data-for="{name}-{place}">'
        f'<label for="{field}">Filter <input type="search" id="{field}" '
        'placeholder="word, run id …" autocomplete="off"></label>'
        f'<label for="{name}-sort-{place}">Sort <select id="{name}-sort-{place}" class="by">'
        "</select></label>"
        '<button type="button" class="plain order" aria-label="Turn the order round">↓</button>'
        '<details class="ranges"><summary>Ranges</summary><div></div></details>'
        '<button type="button" class="plain clear">Reset</button>'
        '<span class="shown small quiet" role="status"></span></div>'
    )


def _row(
    entry: Entry, at: int, board: Board, forest: Forest, axes: Sequence[Axis], place: int
) -> str:
    metric, row = board.metric, entry.row
    with_device = len({one.device for one in board.rows}) > 1
    beyond = 4 + len(metric.extras) + with_device
    name = row_id(board, entry)
    validation = entry.validation
    start = (
        f'<tr id="{escape(name)}" data-s="{at}" class="{_kinds(entry)}">{_BOX}'
        f"{_rank(entry, board, name)}{_axis_cells(axes, at, entry.name)}"
    )
    if row is None or entry.reasons:
        words = (
            f"not ranked: {'; '.join(entry.reasons)}"
            if row
            else tried_text(entry.tried, board)
            if entry.tried
            else ""
        )
        return (
            f'{start}<td class="score" data-v=""></td><td class="rest">'
            f'{escape(words)}</td><td class="void"></td>{_validated(validation, board)}'
            f'<td class="void" colspan="{beyond}"></td></tr>'
        )
    mean = row.interval.mean if row.interval else None
    interval = interval_text(row, board)
    difference = None if row.standing is None else row.standing.difference.mean
    cells = [
        f'<td class="score" data-v="{_blank(mean, metric.scale)}">{metric.number(mean)}'
        f'<span class="sub">{interval if interval != "–" else "no interval"}</span></td>',
        f'<td class="plot">{forest.row(row)}</td>',
        _cell(difference, _broken(difference_text(row, board)), "difference", scale=metric.scale),
        _validated(validation, board),
        f"<td>{len(row.scores)}</td>",
        *(_cell(row.extras.get(key), extra_text(row, key)) for key, _ in metric.extras),
        _cell(row.parameters, count_text(row.parameters)),
        _cell(row.wall_s, time_text(row.wall_s)),
    ]
    if with_device:
        cells.append(f"<td>{escape(row.device)}</td>")
    checked = f"<br>{row.verified_text}" if row.verified_text else ""
    button = (
        f'<button type="button" class="copy js" data-copy="{place}-{at}">Copy</button>'
        if row.scores and at < MOST_AGAIN
        else ""
    )
    cells.append(
        f'<td class="copies">{button}<span class="sub"><code>{escape(row.run_id)}</code>{checked}'
        "</span></td>"
    )
    return f"{start}{''.join(cells)}</tr>"


def _kinds(entry: Entry) -> str:
    best = " best" if entry.row and entry.row.may_be_best else ""
    return f"{entry.kind}{best}"


def _rank(entry: Entry, board: Board, name: str) -> str:
    row = entry.row
    place = row.standing.place if row and row.standing and not entry.reasons else ""
    words = row.rank_text if row and not entry.reasons else "–"
    standing = _standing(row, board) if row and not entry.reasons else ""
    below = f'<span class="sub">{standing}</span>' if standing else ""
    first = 0 if row is not None and row is board.best else place  # the chosen one stands first
    return (
        f'<td class="rank" data-v="{first}"><a class="anchor" href="#{escape(name)}">'
        f"{words}</a>{below}</td>"
    )


def _axis_cells(axes: Sequence[Axis], at: int, name: str) -> str:
    if not axes:
        return f'<th scope="row" class="name">{escape(name)}</th>'
    cells = []
    for place, axis in enumerate(axes):
        tag = 'th scope="row"' if place == 0 else "td"
        kind = "name num" if axis.is_number else "name"
        value = axis.values[at]
        if value is None:
            cells.append(f'<{tag} class="{kind}" data-v="">·</{tag.split()[0]}>')
        else:
            words = _breakable(shown(value[0]), "_")
            cells.append(f'<{tag} class="{kind}">{words}</{tag.split()[0]}>')
    return "".join(cells)


def _trial(trial: Trial, at: int, board: Board, axes: Sequence[Axis]) -> str:
    run = trial.runs[0] if trial.runs else None
    own = [(trial.settings[axis.name],) if axis.name in trial.settings else None for axis in axes]
    mine = [
        Axis(axis.name, [value], axis.is_number, axis.is_logarithmic)
        for axis, value in zip(axes, own, strict=True)
    ]
    took = run.wall_s if run else None
    name = label_text([(k, v) for k, v in trial.settings.items()])
    why = f'<span class="sub">{escape(run.error)}</span>' if run and run.error else ""
    return (
        f'<tr data-s="{at}" class="{trial.state}">{_BOX}'
        f'<td class="rank">{trial.number}</td>{_axis_cells(mine, 0, name)}'
        f"{_validated(trial.value, board, 'score')}"
        f'<td class="state">{_MARKS.get(trial.state, "")} {escape(trial.state)}{why}</td>'
        f"<td>{escape(_when(run.started if run else ''))}</td>{_cell(took, time_text(took))}"
        f'<td class="copies"><code>{escape(run.run_id if run else "–")}</code></td></tr>'
    )


_MARKS = {"finished": "●", "pruned": "△", "failed": "✕"}


def _when(text: str) -> str:
    try:
        return datetime.fromisoformat(text).strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return "–"


_BOX = '<td class="pick"><input type="checkbox" class="js"></td>'  # the script names it


def _cell(value: float | None, words: str, kind: str = "", *, scale: float = 1.0) -> str:
    """A cell that is sorted and filtered by its value as it is shown."""
    named = f' class="{kind}"' if kind else ""
    return f'<td{named} data-v="{_blank(value, scale)}">{words}</td>'


def _validated(value: float | None, board: Board, kind: str = "") -> str:
    """A cell with a validation score."""
    words = "–" if value is None else validation_text(value, board)
    return _cell(value, escape(words), kind, scale=board.metric.scale_of(board.monitor))


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


def chips(row: Row | Tried) -> str:
    """A row's settings, names quiet and values strong."""
    if not row.label:
        return escape(row.name)
    return "".join(
        f'<span class="chip"><i>{_breakable(name)}=</i>'
        f"<b>{_breakable(shown(value), '_')}</b></span> "
        for name, value in row.label
    )


def _breakable(words: str, marks: str = "_./") -> str:
    """Escaped text that may break after certain marks, as long names need."""
    parts = re.split(f"(?<=[{re.escape(marks)}])", words)
    return "<wbr>".join(escape(part) for part in parts if part)


def _forest_legend(board: Board, forest: Forest) -> str:
    def key(body: str) -> str:
        return f'<svg aria-hidden="true" viewBox="0 0 30 14" width="30" height="14">{body}</svg>'

    thin = '<path class="reach" d="M2 7H28M2 3V11M28 3V11"/>'
    thick = '<path class="seeds" d="M4 7H26"/>'
    bar, dot = '<path class="mean" d="M15 1V13"/>', '<path class="dots" d="M15 7h0"/>'
    dashes = '<path class="baseline" d="M15 0V14"/>'
    items = [f"{key(bar)}mean over seeds"]
    widths = {row.interval != row.seed_interval for row in board.rows}
    if True in widths:
        items.append(f"{key(thin)}{PERCENT} interval, {escape(board.truth)}")
        items.append(f"{key(thick)}{PERCENT} interval, new seeds only")
    elif any(row.interval and row.interval.low is not None for row in board.rows):
        items.append(f"{key(thin + thick)}{PERCENT} interval, {escape(board.truth)}")
    items.append(f"{key(dot)}one seed")
    if forest.is_cut:
        steps = "M19 2L11 7L19 12z" if board.metric.higher_is_better else "M11 2L19 7L11 12z"
        arrow = f'<path class="arrow" d="{steps}"/>'
        items.append(f"{key(arrow)}beyond this scale, which is that of the better rows")
    for label, value in forest.baselines:
        items.append(f"{key(dashes)}{escape(label)}, {escape(board.metric.with_unit(value))}")
    return f'<div class="legend">{"".join(f"<span>{item}</span>" for item in items)}</div>'


def copy_button() -> str:
    """A button that copies the command beside it."""
    return '<button type="button" class="copy js">Copy</button>'


def _blank(value: float | None, scale: float = 1.0) -> str:
    return "" if value is None else f"{value * scale:.6g}"
