"""One HTML file that shows the boards, needs no network and can fetch nothing.

Settings and names arrive in other people's records, so every piece of text is escaped here, and
the policy in the page's head lets no script run but the page's own.
"""

import base64
import hashlib
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from itertools import groupby

from lightning_sep.leaderboard.audio import Clip, clips_of
from lightning_sep.leaderboard.board import Board, Boards
from lightning_sep.leaderboard.metric import PERCENTILES
from lightning_sep.leaderboard.plots import (
    HARD,
    MOST_CURVES,
    MOST_LINES,
    curve_key,
    curves_plot,
    learning_curves,
    parallel_plot,
    pareto_plot,
    thick_lines,
    trials_plot,
)
from lightning_sep.leaderboard.ranked import chips, copy_button, ranked_table
from lightning_sep.leaderboard.ranking import MOST_RANKED
from lightning_sep.leaderboard.words import (
    PERCENT,
    apart_text,
    empty_advice,
    empty_home_advice,
    headline,
    made_with,
)

AUDIO_BYTES = 1_000_000  # encoded audio on the whole page


def page(found: Boards) -> str:
    """The whole page; the same records give the same bytes."""
    script, sheet = _piece("page.js"), _piece("page.css")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; "
        "img-src data:; media-src data:; base-uri 'none'; form-action 'none'"
    )
    clips, left_out = clips_of(found.boards, AUDIO_BYTES)
    sections = [
        _section(board, place, clips[place], left_out) for place, board in enumerate(found.boards)
    ]
    if not sections:
        sections = [f'<div class="card empty">{_sentence(empty_home_advice(found))}</div>']
    return "\n".join(
        [
            "<!doctype html>",
            '<html lang="en"><head><meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="referrer" content="no-referrer">',
            f"<title>{escape(_title(found))}</title>",
            '<link rel="icon" href="data:,">',
            f"<style>{sheet}</style></head><body>",
            '<a class="skip" href="#boards">Skip to the boards</a>',
            f'<header class="top wrap"><h1>Leaderboard</h1>{_about(found)}</header>',
            _navigation(found),
            f'<main id="boards" class="wrap">{"".join(sections)}{_skipped(found)}</main>',
            '<footer class="wrap">Made by <code>lightning-sep leaderboard</code> from the runs’ '
            "own records. This page holds all it shows and fetches nothing.</footer>",
            f"<script>{script}</script>",
            "</body></html>\n",
        ]
    )


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


def _section(board: Board, place: int, clips: Sequence[Clip], clips_left_out: int) -> str:
    parts = [
        f'<section class="board" id="board-{place}" aria-labelledby="title-{place}">',
        f'<div class="head"><h2 id="title-{place}">{escape(board.name)}</h2>'
        f'<span class="tag">{escape(board.task)}</span>'
        f'<span class="tag">{escape(board.metric.heading)}, {board.metric.direction}</span></div>',
    ]
    if board.rows:
        parts.append(f'<p class="headline">{_headline(board)}</p>')
    else:
        parts.append(f'<div class="card empty">{_sentence(empty_advice(board))}</div>')
    if board.rows or board.tried:
        parts.append(ranked_table(board, place))
    parts.append(_notes(board))
    parts += [
        _apart(board),
        _charts(board),
        _parallel(board),
        _percentiles(board, place),
        _audio(clips, clips_left_out),
        _again(board),
        _how(board) if board.rows else "",
        "</section>",
    ]
    return "".join(parts)


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


def _charts(board: Board) -> str:
    cards = []
    curves = learning_curves(board)
    if curves:
        keys = "".join(
            f"<li>{curve_key(curve.rank)} {curve.rank + 1}. {escape(curve.name)}</li>"
            for curve in curves
        )
        more = len(board.rows) - MOST_CURVES
        cards.append(
            _figure(
                "Learning curves",
                "Mean over seeds; the band reaches from the lowest to the highest seed."
                + (
                    f" The best {MOST_CURVES} settings; {more} more are left out."
                    if more > 0
                    else ""
                ),
                f'<div class="scroll">{curves_plot(curves, board)}</div>'
                f'<ul class="curvekeys">{keys}</ul>',
            )
        )
    search = board.search
    if search is not None and any(trial.value is not None for trial in search.trials):
        counts = ", ".join(
            f"{search.count(state)} {state}"
            for state in ("finished", "pruned", "failed")
            if search.count(state)
        )
        cards.append(
            _figure(
                "Search",
                f"Validation score of each trial ({counts}). Filled dot: finished; triangle: "
                "pruned; cross: failed; line: best so far. These scores choose, they do not rank.",
                f'<div class="scroll">{trials_plot(search, board.metric)}</div>',
            )
        )
    pareto = pareto_plot(board)
    if pareto is not None:
        cards.append(
            _figure(
                "Mean and hard examples",
                f"Mean against the {HARD} % of the examples that are hardest: reweighting trades "
                "one for the other, and who lies on the line is behind in neither. Numbers as in "
                f"the table from its top; crosses: {PERCENT} intervals.",
                f'<div class="scroll">{pareto}</div>',
            )
        )
    if not cards:
        return ""
    grid = ' class="grid2"' if len(cards) > 1 else ""
    return f"<div{grid}>{''.join(cards)}</div>"


def _parallel(board: Board) -> str:
    plot = parallel_plot(board.search, board.metric) if board.search else None
    if plot is None or board.search is None:
        return ""
    many = len(board.search.trials) > MOST_LINES
    return _figure(
        "What the search tried",
        f"Each line is a trial; the best {thick_lines(board.search)} are thick, pruned trials are "
        "dashed. Drag along an "
        "axis to keep a range, click it to remove the range; or focus an axis and use the arrow "
        "keys and Escape." + (f" The last {MOST_LINES} trials are drawn." if many else ""),
        f'<div class="scroll">{plot}</div>'
        '<p class="small quiet"><span class="shown" role="status"></span> '
        '<button type="button" class="copy reset">Show all</button></p>',
    )


def _figure(title: str, caption: str, body: str) -> str:
    return (
        f'<figure class="card"><figcaption><h3>{escape(title)}</h3><p>{escape(caption)}</p>'
        f"</figcaption>{body}</figure>"
    )


def _percentiles(board: Board, place: int) -> str:
    rows = [row for row in board.rows if row.percentiles]
    if not rows:
        return ""
    metric = board.metric
    columns = [(f"{q}\u00a0%", [row.percentiles.get(q) for row in rows]) for q in PERCENTILES]
    if any(row.interquartile is not None for row in rows):
        columns.append(("Middle half", [row.interquartile for row in rows]))
    heads = "".join(f'<th scope="col">{words}</th>' for words, _ in columns)
    choose = max if metric.higher_is_better else min
    best = [
        choose(
            (metric.number(one.mean) for one in column if one is not None), key=_shown, default=""
        )
        for _, column in columns
    ]
    body = []
    for place, row in enumerate(rows):
        cells = ""
        for (_, column), leader in zip(columns, best, strict=True):
            one = column[place]
            words = metric.number(None if one is None else one.mean)
            between = ""
            if one is not None and one.low is not None and one.high is not None:
                low, high = metric.clipped(one.low, one.high)
                between = f'<span class="sub">{metric.number(low)} to {metric.number(high)}</span>'
            cells += f"<td>{f'<b>{words}</b>' if words == leader else words}{between}</td>"
        body.append(f'<tr><th scope="row" class="name">{chips(row)}</th>{cells}</tr>')
    return (
        f'<div class="card"><div class="pad"><h3 id="percentiles-{place}">Percentiles over test '
        f'examples</h3><p class="small quiet">{escape(metric.heading)}, mean over seeds: a share '
        "of the examples scores below each value. Left columns are the hard examples; the middle "
        f"half is the mean without the upper and the lower quarter. Below: {PERCENT} interval for "
        f"new seeds on this test set. Bold: the best shown of a column.</p></div>"
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="percentiles-{place}">'
        f'<table class="percentiles"><thead><tr><th scope="col" class="name">Setting</th>{heads}'
        "</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div></div>"
    )


def _shown(words: str) -> float:
    """A number as it was shown."""
    return float(words.replace("−", "-"))


def _audio(clips: Sequence[Clip], left_out: int) -> str:
    if not clips:
        return ""
    groups = []
    # stable, so that the best rows stay first
    ordered = sorted(clips, key=lambda clip: (clip.example, not clip.is_of_test_set))
    for example, members in groupby(ordered, key=lambda clip: clip.example):
        players = "".join(
            f'<div class="clip"><b>{escape(clip.signal)}</b> <span class="quiet">'
            f"{escape('test set' if clip.is_of_test_set else clip.row)}</span>"
            f'<audio controls preload="none" src="{clip.uri}" '
            f'aria-label="{escape(f"{clip.signal}, example {example}, {clip.row}")}"></audio></div>'
            for clip in members
        )
        title = f"Test example {escape(example)}" if example else "Samples"
        groups.append(f'<h4>{title}</h4><div class="clips">{players}</div>')
    more = (
        f' <span class="quiet">{_count(left_out, "file")} found no room on this page; all are in '
        "the runs’ audio folders.</span>"
        if left_out
        else ""
    )
    return (
        '<div class="card"><div class="pad"><h3>Listen</h3><p class="small quiet">From the first '
        f"seed of each setting, best first; equal sounds appear once.{more}</p></div>"
        f"{''.join(groups)}</div>"
    )


def _again(board: Board) -> str:
    if not board.rows and not board.apart:
        return ""
    items = []
    for row in [*board.rows, *(one.row for one in board.apart)]:
        seeds = []
        for score in row.scores:
            seed = "" if score.seed is None else f"seed {score.seed} · "
            seeds.append(
                f'<p class="small quiet">{seed}{escape(board.metric.with_unit(score.value))} · run '
                f"<code>{escape(score.run.run_id)}</code></p>{_command(score.command)}"
            )
        seeds += [
            f'<p class="small"><span class="failed">✕ failed</span> · run <code>'
            f"{escape(run.run_id)}</code> · {escape(run.error or 'no reason was recorded')}</p>"
            for run in row.failed
        ]
        if row.scores:
            first = row.scores[0].run.run_id
            seeds.append(
                '<p class="small quiet">To train one of them anew and compare it with its record:'
                f"</p>{_command(f'lightning-sep reproduce {first}')}"
            )
            if row.prediction and row.prediction.low is not None:
                low, high = board.metric.clipped(row.prediction.low, row.prediction.high)
                seeds.append(
                    f'<p class="small quiet">One more seed should score between '
                    f"{board.metric.number(low)} and {escape(board.metric.with_unit(high))} "
                    f"({PERCENT} prediction interval).</p>"
                )
        items.append(
            f'<details class="item"><summary>{escape(row.rank_text)} · {escape(row.name)}'
            f"</summary><div>{''.join(seeds)}</div></details>"
        )
    return (
        '<div class="card"><div class="pad"><h3>Run a row again</h3><p class="small quiet">The '
        f"exact command of every seed. {escape(made_with(board))}</p></div>{''.join(items)}</div>"
    )


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
            f"The setting with the best {board.chosen_by}; it is reported on the test set, which "
            "had no part in the choice. It stands first, the others by their mean.",
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


def _command(command: str) -> str:
    return f'<div class="cmd"><code>{escape(command)}</code>{copy_button(command)}</div>'


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
