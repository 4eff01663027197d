"""Parts of a board's page: the frames that the script draws charts into, sounds, commands."""

from collections.abc import Sequence
from html import escape

from lightning_sep.leaderboard.audio import TEST_SET, Example, Heard
from lightning_sep.leaderboard.board import Board
from lightning_sep.leaderboard.charts import Json, importance
from lightning_sep.leaderboard.entries import Entry
from lightning_sep.leaderboard.ranked import MOST_AGAIN, copy_button
from lightning_sep.leaderboard.rows import why_unscored
from lightning_sep.leaderboard.words import PERCENT, made_with


def charts(board: Board, data: Json) -> str:
    """The charts of a board, each a frame with its caption and its controls."""
    seeds = any(one.get("score") for one in data["settings"])
    searched = [one for one in data["trials"] if one[2] is not None]
    points = searched or [one for one in data["settings"] if one.get("score")]
    cards = []
    if seeds:
        cards.append(
            _figure(
                "seeds",
                "Score seed by seed",
                "A line is a setting, a dot a seed: lines that never cross agree in every seed.",
                _KEYS,
            )
        )
        if sum(1 for one in data["settings"] if one.get("difference")) > 1:
            cards.append(
                _figure(
                    "differences",
                    "Difference to the best",
                    f"Mean and {PERCENT} interval for all settings together; an interval that "
                    "holds 0 cannot be told from the best.",
                )
            )
    curves = data["curves"]
    if curves["metrics"]:
        options = "".join(
            f'<option value="{place}">{escape(one["label"])}</option>'
            for place, one in enumerate(curves["metrics"])
        )
        words = "The line is the mean over seeds, the band reaches from the lowest to the highest."
        if curves["every"] > 1:
            words += f" Of long curves every {curves['every']}th point, and the last."
        if curves["leftOut"]:
            words += f" No room for {len(curves['leftOut'])} more metrics: see metrics.jsonl."
        cards.append(
            _figure(
                "curves",
                "Learning curves",
                words,
                f'<label>Metric <select class="metric">{options}</select></label>'
                '<label><input type="checkbox" class="every"> every seed</label>'
                '<button type="button" class="plain in" aria-label="Zoom in">+</button>'
                '<button type="button" class="plain out" aria-label="Zoom out">−</button>'
                '<button type="button" class="plain whole">Whole</button>' + _KEYS,
            )
        )
    if sum(1 for one in data["settings"] if one.get("hard")) > 1:
        cards.append(
            _figure(
                "pareto",
                "Mean and hard examples",
                f"Mean against the {data['hard']} % percentile: reweighting trades one for the "
                f"other, and who lies on the line is behind in neither. Crosses: {PERCENT} "
                "intervals.",
            )
        )
    if len(data["examples"]["scores"]) > 1:
        every = data["examples"]["every"]
        thinned = f" Every {every}th of them." if every > 1 else ""
        what = "pair of speakers" if board.task == "verification" else board.metric.unit_name
        options = "".join(
            f'<option value="{at}">{escape(data["settings"][place]["name"])}</option>'
            for at, (place, _) in enumerate(data["examples"]["scores"])
        )
        cards.append(
            _figure(
                "examples",
                "Example by example",
                f"A dot is a {what} of the test set, mean over seeds.{thinned}",
                f'<label>A <select class="a">{options}</select></label>'
                f'<label>B <select class="b">{options}</select></label>'
                '<span class="tally small" role="status"></span>',
            )
        )
    if searched:
        cards.append(
            _figure(
                "search",
                "Search",
                "Validation score of each trial. Dot: finished; triangle: pruned; cross: failed; "
                "line: best so far.",
            )
        )
    if data["axes"] and len(points) > 1:
        what = "trial" if searched else "setting"
        options = "".join(
            f'<option value="{place}">{escape(one["name"])}</option>'
            for place, one in enumerate(data["axes"])
        )
        weights = "".join(
            f'<li>{escape(name)} <b>{share * 100:.0f} %</b><meter min="0" max="1" '
            f'value="{share:.3f}" aria-hidden="true"></meter></li>'
            for name, share in importance(board)
        )
        said = (
            '<p class="small quiet">How much of the spread of the scores a setting explains by '
            "itself (ε², corrected for chance; few trials say little):</p>"
            f'<ul class="weights">{weights}</ul>'
            if weights
            else ""
        )
        cards.append(
            _figure(
                "slice",
                "Score against one setting",
                f"A dot is a {what}.",
                f'<label>Setting <select class="axis">{options}</select></label>',
                said,
                wide=len(cards) % 2 == 0,  # else it would stand alone in its line
            )
        )
        if len(data["axes"]) > 1 or searched:
            cards.append(
                _figure(
                    "parallel",
                    "All settings at once",
                    f"A line is a {what}, darker where its score is better. Drag along an axis to "
                    "keep a range, click the axis to drop it; the ranges of the table do the same.",
                    '<span class="ramp small" aria-hidden="true"></span>'
                    '<button type="button" class="plain whole">Show all</button>'
                    '<span class="tally small" role="status"></span>',
                    wide=True,
                )
            )
    if len(data["runs"]) > 1:
        cards.append(
            _figure(
                "timeline",
                "When the runs ran",
                "A bar is a run, from start to end, in the order in which they began. Filled: "
                "finished; outline: pruned; orange: failed. Pale: search, full: finals.",
                wide=True,
            )
        )
    if len(data["differ"]["names"]) and len(data["settings"]) > 1:
        cards.append(
            '<div class="card wide js" data-part="differ"><div class="pad"><h3>What differs '
            'between the chosen rows</h3><p class="small quiet said"></p></div>'
            '<div class="scroll" tabindex="0" role="region" aria-label="What differs"></div></div>'
        )
    if not cards:
        return ""
    return (
        '<p class="small quiet js chosen" role="status"></p>'
        f'<div class="grid2">{"".join(cards)}</div>'
        '<noscript><p class="small quiet">The charts and filters need JavaScript; the tables do '
        "not.</p></noscript>"
    )


_KEYS = '<div class="keys"></div>'


def _figure(
    name: str, title: str, caption: str, controls: str = "", below: str = "", *, wide: bool = False
) -> str:
    kind = "card chart js wide" if wide else "card chart js"
    tools = f'<div class="controls">{controls}</div>' if controls else ""
    return (
        f'<figure class="{kind}" data-chart="{name}"><figcaption><h3>{escape(title)}</h3>'
        f"<p>{escape(caption)}</p></figcaption>{tools}"
        f'<div class="plot" role="img" aria-label="{escape(title)}"></div>'
        f'<p class="small quiet beyond" role="status" hidden></p>{below}</figure>'
    )


def sounds(board: Board, place: int, heard: Heard) -> str:
    """For each example a grid: a row a setting, a column a signal, its score beside it."""
    if not heard.examples:
        if board.task != "verification" or not board.rows:
            return ""
        return (
            '<div class="card"><div class="pad"><h3>Listen</h3><p class="small quiet">The end of a '
            "sweep makes the sounds of the pairs that were confused, where its data and weights "
            "are; this board has none. The chart “Example by example” shows the pairs of speakers."
            "</p></div></div>"
        )
    grids = "".join(_grid(board, place, one) for one in heard.examples)
    more = ""
    if heard.left_out:
        number = "1 file" if heard.left_out == 1 else f"{heard.left_out} files"
        more = f" {number} found no room on this page."
    return (
        '<div class="card listen"><div class="pad"><h3>Listen</h3><p class="small quiet">The '
        f"first seed of each setting, and its score of the example. {heard.told} One sound plays "
        "at a time; another of the same example goes on from the same place, with arrow keys too."
        f"{more}</p></div>{grids}</div>"
    )


def _grid(board: Board, place: int, example: Example) -> str:
    columns = list(dict.fromkeys(_column(signal) for signal in example.signals))
    heads = "".join(f'<th scope="col">{escape(one)}</th>' for one in columns)
    heading = escape(example.heading)
    rows = []
    for at in example.places:
        if at is TEST_SET:
            name, score = "Test set", ""
        else:
            row = board.rows[at]
            name = f'<span class="at">{at + 1}.</span> {escape(row.name)}'
            own = example.scores.get(at)
            score = board.metric.number(own)
            if example.heading != board.metric.heading and own is not None:
                score = f"{own:+.3f}".replace("-", "−")
        cells = "".join(
            _cell(example, at, column, "test set" if at is TEST_SET else board.rows[at].name)
            for column in columns
        )
        mine = "" if at is TEST_SET else f' data-s="{at}"'
        rows.append(
            f'<tr{mine}><th scope="row">{name}</th><td class="score">{score}</td>{cells}</tr>'
        )
    what = "pair" if board.task == "verification" else "example"
    number = f"Test {what} {escape(example.number)}" if example.number else "Samples"
    tag = f' <span class="tag">{escape(example.title)}</span>' if example.title else ""
    title = f"{number}{tag}"
    return (
        f'<div class="example"><h4 id="sound-{place}-{escape(example.number)}">{title}</h4>'
        f'<div class="scroll" tabindex="0" role="region" '
        f'aria-labelledby="sound-{place}-{escape(example.number)}"><table class="sounds"><thead>'
        f'<tr><th scope="col">Setting</th><th scope="col" class="score">{heading}</th>{heads}'
        f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div></div>"
    )


def _cell(example: Example, at: int | None, column: str, name: str) -> str:
    players = "".join(
        f'<audio controls preload="none" src="{uri}" '
        f'aria-label="{escape(f"{signal}, example {example.number}, {name}")}"></audio>'
        for (of, signal), uri in example.sounds.items()
        if of == at and _column(signal) == column
    )
    return f"<td>{players}</td>"


def _column(signal: str) -> str:
    """Targets and their estimates share a column: ``target 1`` and ``estimate 1``."""
    word, _, number = signal.rpartition(" ")
    return f"source {number}" if number.isdigit() and word in ("target", "estimate") else signal


def again(board: Board, entries: Sequence[Entry], place: int) -> str:
    """The commands that repeat the rows, and what became of each seed."""
    items = []
    for at, entry in enumerate(entries[:MOST_AGAIN]):
        row = entry.row
        if row is None:
            continue
        seeds = [
            f"{_seed(score.seed)}{escape(board.metric.with_unit(score.value))} · run "
            f"<code>{escape(score.run.run_id)}</code>"
            for score in row.scores
        ]
        seeds += [
            f'<span class="failed">✕</span> run <code>{escape(run.run_id)}</code> '
            f"{escape(why_unscored(run, board.metric))}"
            for run in row.failed
        ]
        body = ""
        if row.scores:
            first = row.scores[0]
            body = _command(first.command, f"command-{place}-{at}")
            body += _command(f"lightning-sep reproduce {first.run.run_id}")
            if row.prediction and row.prediction.low is not None:
                low, high = board.metric.clipped(row.prediction.low, row.prediction.high)
                seeds.append(
                    f"one more seed: {board.metric.number(low)} to "
                    f"{escape(board.metric.with_unit(high))}"
                )
        rank = "–" if entry.reasons else row.rank_text
        items.append(
            f'<details class="item"><summary>{escape(rank)} · {escape(entry.name)}</summary><div>'
            f'{body}<ul class="small plainlist">{"".join(f"<li>{one}</li>" for one in seeds)}</ul>'
            "</div></details>"
        )
    if not items:
        return ""
    more = sum(entry.row is not None for entry in entries[MOST_AGAIN:])
    left = f" The JSON has the commands of {more} more rows." if more else ""
    return (
        '<details class="card"><summary><h3>Run a row again</h3> <span class="small quiet">the '
        'command of every row, and its runs</span></summary><p class="small quiet again">The first '
        "command trains a row’s first seed; the others are the same with their own seed. The "
        "second trains it anew in a folder of its own and compares it with its record. One more "
        f"seed: {PERCENT} prediction interval. {escape(made_with(board))}{left}</p>"
        f"{''.join(items)}</details>"
    )


def _seed(seed: int | None) -> str:
    return "" if seed is None else f"seed {seed} · "


def _command(command: str, name: str = "") -> str:
    named = f' id="{name}"' if name else ""
    return f'<div class="cmd"><code{named}>{escape(command)}</code>{copy_button()}</div>'
