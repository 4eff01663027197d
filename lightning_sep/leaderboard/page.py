"""One HTML file that shows the boards, needs no network and can fetch nothing.

Settings and names arrive in other people's records, so every piece of text is escaped here, and
the policy in the page's head lets no script run but the page's own.
"""

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from lightning_sep.leaderboard.audio import Heard, examples_of
from lightning_sep.leaderboard.board import ON_TEST, Board, Boards
from lightning_sep.leaderboard.charts import Json, board_json, shared_settings
from lightning_sep.leaderboard.entries import Entry, axes_of, entries_of
from lightning_sep.leaderboard.figures import again, charts, sounds
from lightning_sep.leaderboard.metric import PERCENTILES
from lightning_sep.leaderboard.ranked import chips, settings_table, trials_table
from lightning_sep.leaderboard.ranking import MOST_RANKED
from lightning_sep.leaderboard.words import (
    PERCENT,
    apart_text,
    empty_advice,
    empty_home_advice,
    headline,
)

AUDIO_BYTES = 2_400_000  # encoded audio on the whole page
MOST_PERCENTILES = 100  # rows of the table of percentiles


def page(found: Boards) -> str:
    """The whole page; the same records give the same bytes."""
    heard = examples_of(found.boards, AUDIO_BYTES)
    drawn = [
        _section(board, place, len(found.boards), heard[place])
        for place, board in enumerate(found.boards)
    ]
    sections, data = [html for html, _ in drawn], [numbers for _, numbers in drawn]
    if not sections:
        sections = [f'<div class="card empty">{_sentence(empty_home_advice(found))}</div>']
    scripts = [_AWAKE, _piece("page.js")]
    if found.boards:
        scripts.insert(1, _piece("echarts/echarts.min.js"))
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src {hashes}; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en" class="still"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{escape(_title(found))}</title>",
            '<link rel="icon" href="data:,">',
            f"<script>{scripts[0]}</script>",
            f"<style>{_sheet()}</style></head><body>",
            '<a class="skip" href="#boards">Skip to the boards</a>',
            f'<header class="top wrap"><h1>Leaderboard</h1>{_about(found)}</header>',
            _navigation(found),
            f'<main id="boards" class="wrap">{"".join(sections)}{_skipped(found)}</main>',
            '<footer class="wrap">Made by <code>lightning-sep leaderboard</code> from the runs’ '
            "own records. This page holds all it shows and fetches nothing. Charts by Apache "
            "ECharts 6.1.0 (Apache-2.0; zrender and d3: BSD-3-Clause).</footer>",
            f'<script type="application/json" id="data">{_block(data)}</script>',
            *(f"<script>{script}</script>" for script in scripts[1:]),
            "</body></html>\n",
        ]
    )


# Before anything is laid out: the sheet tells apart the pages whose script runs and the others.
_AWAKE = 'document.documentElement.classList.remove("still")'


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")


def _block(data: list[Json]) -> str:
    """JSON that no text of a record can end: every ``<`` is written as an escape."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c")


def _sheet() -> str:
    """The style sheet; the rules of cards stand in it for narrow screens and for wide tables."""
    return _piece("page.css").replace("/* cards */", _piece("cards.css"))


def _piece(name: str) -> str:
    return files("lightning_sep.leaderboard").joinpath(name).read_text(encoding="utf-8")


def _title(found: Boards) -> str:
    names = ", ".join(board.name for board in found.boards[:3])
    return f"Leaderboard: {names}" if names else "Leaderboard"


def _about(found: Boards) -> str:
    runs = [score.run for board in found.boards for row in board.rows for score in row.scores]
    if not runs:
        return ""
    latest = max(run.finished for run in runs)[:10]
    facts = [
        _count(len(found.boards), "board"),
        _count(len(runs), "ranked run"),
        *([f"latest of {escape(latest)}"] if latest else []),
    ]
    return f'<p class="quiet">{" · ".join(facts)}</p>'


def _navigation(found: Boards) -> str:
    if len(found.boards) < 2:
        return ""
    links = "".join(
        f'<li><a href="#board-{place}">{escape(board.name)}</a></li>'
        for place, board in enumerate(found.boards)
    )
    return f'<nav aria-label="Boards"><div class="wrap"><ul>{links}</ul></div></nav>'


def _section(board: Board, place: int, boards: int, heard: Heard) -> tuple[str, Json]:
    """A board's part of the page, and what its charts draw."""
    entries = entries_of(board)
    axes = axes_of(entries, board.axes)
    drawn = board_json(board, entries, axes, boards)
    question = f'<p class="question">{escape(board.question)}</p>' if board.question else ""
    parts = [
        f'<section class="board" id="board-{place}" aria-labelledby="title-{place}">',
        f'<div class="head"><h2 id="title-{place}">{escape(board.name)}</h2>'
        f'<span class="tag">{escape(board.task)}</span>'
        f'<span class="tag">{escape(board.metric.heading)}, {board.metric.direction}</span>'
        f'<span class="tag">{_count(board.settings_tried, "setting")} tried</span></div>{question}',
        f'<p class="headline">{_headline(board)}</p>'
        if board.rows
        else f'<div class="card empty">{_sentence(empty_advice(board))}</div>',
        _shared(entries),
        settings_table(board, place, entries, axes) if entries else "",
        _notes(board),
        _apart(board),
        trials_table(board, place, axes),
        charts(board, drawn),
        _percentiles(board, place),
        sounds(board, place, heard),
        again(board, entries, place),
        _how(board) if board.rows else "",
        "</section>",
    ]
    return "".join(parts), drawn


_TOLD = re.compile(
    r"task|net|head|loss|reweighting|data|trainer\.epochs|examples\.train"
    r"|examples\.segment_s|[a-z]+\.learning_rate"
)


def _shared(entries: Sequence[Entry]) -> str:
    """What all settings share: the main ones in a line, all of them behind it."""
    shared = shared_settings(entries)
    if not shared:
        return ""
    main = "".join(
        f'<span class="chip"><i>{escape(name)}=</i><b>{escape(value)}</b></span> '
        for name, value in shared
        if _TOLD.fullmatch(name)
    )
    rest = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in shared)
    return (
        f'<details class="shared"><summary>Shared by all: {main}<span class="quiet small">all '
        f"{len(shared)}</span></summary><dl>{rest}</dl></details>"
    )


def _headline(board: Board) -> str:
    words, best = escape(headline(board)), escape(board.rows[0].name)
    return words.replace(best, f"<strong>{best}</strong>", 1)


def _notes(board: Board) -> str:
    if not board.notes:
        return ""
    items = "".join(f"<li>{escape(note)}</li>" for note in board.notes)
    return f'<div class="card warn"><ul class="notes">{items}</ul></div>'


def _apart(board: Board) -> str:
    if not board.apart:
        return ""
    items = "".join(f"<li>{escape(apart_text(one))}</li>" for one in board.apart)
    return (
        f'<div class="card warn"><div class="pad"><h3>Not ranked</h3></div>'
        f'<ul class="notes">{items}</ul></div>'
    )


def _percentiles(board: Board, place: int) -> str:
    rows = [row for row in board.rows if row.percentiles]
    if not rows:
        return ""
    more = len(rows) - MOST_PERCENTILES
    said = f" The first {MOST_PERCENTILES}; the JSON has {more} more." if more > 0 else ""
    rows = rows[:MOST_PERCENTILES]
    metric = board.metric
    columns = [(f"{q}\u00a0%", [row.percentiles.get(q) for row in rows]) for q in PERCENTILES]
    if any(row.interquartile is not None for row in rows):
        columns.append(("Middle half", [row.interquartile for row in rows]))
    heads = "".join(f'<th scope="col">{words}</th>' for words, _ in columns)
    choose, hard = (max, "Left") if metric.higher_is_better else (min, "Right")
    best = [
        choose(
            (metric.number(one.mean) for one in column if one is not None), key=_shown, default=""
        )
        for _, column in columns
    ]
    body = []
    for at, row in enumerate(rows):
        cells = ""
        for (q, column), leader in zip(columns, best, strict=True):
            one = column[at]
            words = metric.number(None if one is None else one.mean)
            between = ""
            if one is not None and one.low is not None and one.high is not None:
                low, high = metric.clipped(one.low, one.high)
                between = f'<span class="sub">{metric.number(low)} to {metric.number(high)}</span>'
            cells += (
                f"<td data-q='{q}'>{f'<b>{words}</b>' if words == leader else words}{between}</td>"
            )
        body.append(f'<tr><th scope="row" class="name">{chips(row)}</th>{cells}</tr>')
    return (
        f'<div class="card"><div class="pad"><h3 id="percentiles-{place}">Percentiles over test '
        f'examples</h3><p class="small quiet">{escape(metric.heading)}, mean over seeds: a share '
        f"of the examples scores below each value. {hard} columns are the hard examples; "
        f"the middle half is the mean without the upper and the lower quarter. Below: {PERCENT} "
        f"interval for new seeds on this test set. Bold: the best shown of a column.{said}"
        "</p></div>"
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="percentiles-{place}">'
        f'<table class="percentiles"><thead><tr><th scope="col" class="name">Setting</th>{heads}'
        "</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div></div>"
    )


def _shown(words: str) -> float:
    """A number as it was shown."""
    return float(words.replace("−", "-"))


def _how(board: Board) -> str:
    metric = board.metric
    crossed = board.of_new_units
    answers = [
        (
            "Which runs count?",
            "Final runs only: settings chosen on validation, run again on fresh seeds, scored once "
            "on the test set. The search’s own scores never enter the table."
            if any(score.run.purpose == "final" for row in board.rows for score in row.scores)
            else "Every finished single run; runs that differ in nothing but the seed share a row.",
        ),
        (
            f"What does the {PERCENT} interval promise?",
            f"It holds the mean over {board.truth}: analysis of variance over seeds × "
            f"{metric.unit_name}s, Student’s t with Satterthwaite’s degrees of freedom. A new seed "
            "is another initialisation and order of the data, not other data."
            if crossed
            else "It holds the mean over new seeds on this very test set: Student’s t over the "
            "seeds’ means. It does not speak of other test examples.",
        ),
        (
            "Which is the best?",
            f"The setting with the best {board.chosen_by}"
            + (
                ", which favours it: its score on the test set is too good by what luck gave it."
                if board.chosen_by == ON_TEST
                else "; it is reported on the test set, which had no part in the choice."
            )
            + " It stands first, the others by their mean.",
        ),
        (
            "Which may be best?",
            "Those that no other is distinguishably better than. Each is compared with the best "
            f"one{f' on the same {metric.unit_name}s' if crossed else ''}, seed by seed where they "
            "ran the same seeds; the intervals of the differences hold all together with "
            f"{PERCENT} (Bonferroni). Overlapping intervals of two rows are not the test: they "
            "miss most real differences.",
        ),
        (
            "What is a rank such as 1–3?",
            "The ranks that this setting may truly have: every pair of settings is compared, and "
            "corrected after Holm. That asks more than who may be best, so it says less; boards of "
            f"more than {MOST_RANKED} settings show the place by the mean instead.",
        ),
    ]
    if metric.floor is not None:
        answers.append(
            (
                "What of runs that collapsed?",
                f"Where a row is behind, a run worse than {metric.with_unit(metric.floor)}, which "
                "takes no training, is also taken as one that reached it. That favours the row; "
                "but its scatter, tens of times that of the others, does not make it a candidate. "
                "The end of its difference that is nearer to 0 comes from there.",
            )
        )
    if metric.baselines:
        answers.append(
            (
                "What is the trivial predictor?",
                "A score that needs no training; whoever is not clearly better has learnt nothing.",
            )
        )
    body = "".join(f"<dt>{escape(q)}</dt><dd>{escape(a)}</dd>" for q, a in answers)
    return (
        '<details class="card"><summary>How to read this board</summary>'
        f'<dl class="how">{body}</dl></details>'
    )


def _skipped(found: Boards) -> str:
    if not found.skipped:
        return ""
    items = "".join(
        f"<li><code>{escape(skip.folder)}</code>: {escape(skip.reason)}</li>"
        for skip in found.skipped
    )
    return (
        f'<details class="card warn"><summary>{_count(len(found.skipped), "record")} could not be '
        f'read</summary><ul class="notes">{items}</ul></details>'
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _sentence(words: str) -> str:
    """Text with `commands` in backticks set as code."""
    parts = escape(words).split("`")
    return "".join(
        f"<code>{part}</code>" if place % 2 else part for place, part in enumerate(parts)
    )
