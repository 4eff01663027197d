"""A board as a table in Markdown and in a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from lightning_sep.leaderboard.board import Board, Boards
from lightning_sep.leaderboard.metric import fixed
from lightning_sep.leaderboard.rows import Row
from lightning_sep.leaderboard.words import (
    PERCENT,
    apart_text,
    empty_home_advice,
    headline,
    made_with,
    tried_text,
)
from lightning_sep.terminal import plain as without_codes

MOST_TRIED = 20  # settings of the search alone in a terminal; JSON has all


def headings(board: Board) -> list[str]:
    """Column headings of a board."""
    metric = board.metric
    arrow = "↑" if metric.higher_is_better else "↓"
    return [
        "Rank",
        "Setting",
        f"{metric.heading} {arrow}",
        f"{PERCENT} interval",
        "Difference to the best",
        "Seeds",
        *(heading for _, heading in metric.extras),
        "Parameters",
        "Run time",
        "Run",
    ]


def cells(row: Row, board: Board) -> list[str]:
    """A row's values as shown, in the order of `headings`."""
    metric = board.metric
    return [
        row.rank_text,
        row.name,
        metric.number(row.interval.mean if row.interval else None),
        interval_text(row, board),
        difference_text(row, board),
        str(len(row.scores)),
        *(extra_text(row, key) for key, _ in metric.extras),
        count_text(row.parameters),
        time_text(row.wall_s),
        ", ".join(filter(None, [row.run_id, row.verified_text])),
    ]


def markdown(found: Boards) -> str:
    """All boards as Markdown, with the commands that repeat their rows."""
    parts = ["# Leaderboard", ""]
    if not found.boards:
        parts += [empty_home_advice(found), ""]
    for board in found.boards:
        parts += [f"## {_markdown(board.name)}", "", _markdown(headline(board)), ""]
        if board.rows:
            heads = headings(board)
            parts += [_line(heads), _line(["---", "---", *["---:"] * (len(heads) - 2)])]
            parts += [_line(cells(row, board)) for row in board.rows]
            parts += [_line(_baseline_cells(item, board)) for item in board.baselines]
            parts += ["", f"Intervals are for {board.truth}; {board.metric.direction}."]
            parts += [f"{_markdown(note)}" for note in board.notes]
            parts.append("")
        if board.tried:
            parts += [_TRIED, "", _line(["Setting", "What is known"]), _line(["---", "---"])]
            parts += [_line([one.name, tried_text(one, board)]) for one in board.tried] + [""]
        if board.apart:
            parts += ["Not ranked:", ""]
            parts += [f"- {_markdown(apart_text(one))}" for one in board.apart] + [""]
        commands = [row.scores[0].command for row in board.rows]
        if commands:
            parts += [" ".join(filter(None, [made_with(board), _REPEAT])), ""]
            parts += [f"    {' '.join(command.split())}" for command in commands] + [""]
    if found.skipped:
        parts += [_markdown(skipped_text(found)), ""]
    return "\n".join(parts).rstrip() + "\n"


def plain(found: Boards) -> str:
    """All boards as aligned text, for a pipe or a log."""
    parts: list[str] = []
    if not found.boards:
        parts.append(empty_home_advice(found))
    for board in found.boards:
        parts += [f"{board.name} ({board.task})", headline(board)]
        if board.rows:
            lines = [headings(board), *(cells(row, board) for row in board.rows)]
            lines += [_baseline_cells(item, board) for item in board.baselines]
            widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
            parts.append("")
            for line in lines:
                places = zip(line, widths, strict=True)
                text = "  ".join(
                    cell.ljust(width) if place < 2 else cell.rjust(width)
                    for place, (cell, width) in enumerate(places)
                )
                parts.append(text.rstrip())
            parts += ["", *filter(None, [f"Intervals are for {board.truth}.", made_with(board)])]
            parts += board.notes
        parts += [f"Not ranked: {apart_text(one)}" for one in board.apart]
        parts += _tried_lines(board)
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def print_rich(found: Boards, console: Console) -> None:
    """All boards on a terminal."""
    if not found.boards:
        console.print(escape(empty_home_advice(found)))
    for board in found.boards:
        console.print(f"[bold]{escape(board.name)}[/] [dim]{escape(board.task)}[/]")
        console.print(escape(headline(board)))
        if board.rows:
            console.print(_rich_table(board))
            first = [f"Intervals are for {board.truth}.", made_with(board)]
            for note in [*filter(None, first), *board.notes]:
                console.print(f"[dim]{escape(note)}[/]")
        for one in board.apart:
            console.print(f"[dim]{escape(f'Not ranked: {apart_text(one)}')}[/]")
        for line in _tried_lines(board):
            console.print(f"[dim]{escape(line)}[/]")
        console.print()


def escape(text: str) -> str:
    """Text from outside as rich shows it as it is."""
    return escape_markup(without_codes(text))


_REPEAT = "To repeat the first seed of each row, best first:"
_TRIED = "Tried in the search alone, so not ranked:"


def _tried_lines(board: Board) -> list[str]:
    if not board.tried:
        return []
    lines = [f"  {one.name}: {tried_text(one, board)}" for one in board.tried[:MOST_TRIED]]
    more = len(board.tried) - MOST_TRIED
    return [_TRIED, *lines, *([f"  and {more} more; --json has them all"] if more > 0 else [])]


def _rich_table(board: Board) -> Table:
    table = Table(show_edge=False, pad_edge=False, header_style="bold")
    for place, heading in enumerate(headings(board)):
        table.add_column(escape(heading), justify="left" if place < 2 else "right")
    for row in board.rows:
        style = "bold" if row.may_be_best else None
        table.add_row(*map(escape, cells(row, board)), style=style)
    for place, item in enumerate(board.baselines):
        if not place:
            table.add_section()
        table.add_row(*map(escape, _baseline_cells(item, board)), style="dim")
    return table


def interval_text(row: Row, board: Board) -> str:
    """``9.02 to 9.60``, a dash for a lone seed."""
    interval = row.interval
    if interval is None or interval.low is None:
        return "–"
    low, high = board.metric.clipped(interval.low, interval.high)
    return f"{board.metric.number(low)} to {board.metric.number(high)}"


def difference_text(row: Row, board: Board) -> str:
    """``−0.33 (−0.51 to −0.15)``: the mean less that of the best row, which has a dash itself."""
    if row.standing is None or row is board.best:
        return "–"
    difference, metric = row.standing.difference, board.metric
    text = metric.number(difference.mean, signed=True)
    if difference.low is None or difference.high is None:
        return text
    low, high = (metric.number(end, signed=True) for end in (difference.low, difference.high))
    return f"{text} ({low} to {high})"


def extra_text(row: Row, key: str) -> str:
    """A further metric's mean over the row's seeds."""
    value = row.extras.get(key)
    return "–" if value is None else fixed(value, 3).replace("-", "−")


def count_text(count: int | None) -> str:
    """A number of parameters, to three digits."""
    if count is None:
        return "–"
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.3g} {letter}"
    return str(count)


def time_text(time_s: float | None) -> str:
    """A duration in the unit that suits it."""
    if time_s is None:
        return "–"
    if time_s < 120:
        return f"{time_s:.0f} s"
    return f"{time_s / 60:.0f} min" if time_s < 7200 else f"{time_s / 3600:.1f} h"


def skipped_text(found: Boards) -> str:
    """How many records are not used, which, and why."""
    count = len(found.skipped)
    named = "; ".join(f"{skip.folder} ({skip.reason})" for skip in found.skipped[:5])
    more = f" and {count - 5} more" if count > 5 else ""
    return f"{count} record{' is' if count == 1 else 's are'} not used: {named}{more}."


def _baseline_cells(item: tuple[str, float], board: Board) -> list[str]:
    label, value = item
    empty = [""] * (len(headings(board)) - 3)
    return ["", f"{label} (trivial)", board.metric.number(value), *empty]


def _line(items: Sequence[str]) -> str:
    return f"| {' | '.join(_markdown(item) for item in items)} |"


def _markdown(words: str) -> str:
    """Text that Markdown shows as it is: settings may hold bars, stars, tags or line ends."""
    for mark in ("\\", "`", "*", "_", "|", "[", "]"):
        words = words.replace(mark, "\\" + mark)
    return " ".join(words.replace("&", "&amp;").replace("<", "&lt;").split())
