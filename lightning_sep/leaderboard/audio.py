"""Sounds of a board: for each example a grid, a row a setting, a column a signal."""

import base64
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lightning_sep.leaderboard.board import Board
from lightning_sep.leaderboard.charts import per_example
from lightning_sep.leaderboard.metric import Metric
from lightning_sep.leaderboard.runs import Run

KINDS = {".mp3": "audio/mpeg", ".flac": "audio/flac"}
TEST_SET = None  # the row of the signals that belong to no setting


@dataclass(frozen=True)
class Example:
    """One test example as it can be heard.

    Args:
        number: of the example, as in its files' names; empty for files without one.
        title: what it is among the others: the worst, the median or the best of them.
        signals: the columns.
        sounds: data URI of (setting's place or ``TEST_SET``, signal).
        scores: of the heard run of each setting, by its place; None where it kept none.
    """

    number: str
    title: str
    signals: list[str]
    sounds: dict[tuple[int | None, str], str]
    scores: dict[int, float | None]

    @property
    def places(self) -> list[int | None]:
        """The rows: the test set's own signals, then the settings."""
        return sorted(
            {place for place, _ in self.sounds}, key=lambda one: -1 if one is None else one
        )


def examples_of(boards: Sequence[Board], budget_bytes: int) -> list[tuple[list[Example], int]]:
    """What can be heard of each board, and how many of its files found no room.

    Args:
        boards: the page's boards; those with sounds share the budget evenly.
        budget_bytes: of encoded audio on the whole page.
    """
    files = [
        {place: _files(row.scores[0].run) for place, row in enumerate(board.rows)}
        for board in boards
    ]
    share = budget_bytes // max(1, sum(any(one.values()) for one in files))
    return [_of_board(board, one, share) for board, one in zip(boards, files, strict=True)]


def _of_board(
    board: Board, files: Mapping[int, Mapping[tuple[str, str], tuple[Path, str]]], budget_bytes: int
) -> tuple[list[Example], int]:
    numbers = {number for one in files.values() for number, _ in one}
    scores = {
        place: _scores(board.rows[place].scores[0].run, board.metric)
        for place, one in files.items()
        if one
    }
    chosen = _chosen(numbers, scores, board.metric)
    sounds: dict[str, dict[tuple[int | None, str], str]] = {number: {} for number, _ in chosen}
    left_out = used = 0
    for place, one in files.items():  # the best rows first, each with all of the examples
        for (number, signal), (path, kind) in one.items():
            key = (TEST_SET if is_of_test_set(signal) else place, signal)
            if number not in sounds or key in sounds[number]:  # rows share their test set
                continue
            size = (path.stat().st_size + 2) // 3 * 4
            if used + size > budget_bytes:
                left_out += 1
                continue
            used += size
            encoded = base64.b64encode(path.read_bytes()).decode("ascii")
            sounds[number][key] = f"data:{kind};base64,{encoded}"
    examples = []
    for number, title in chosen:
        if not sounds[number]:
            continue
        signals = sorted({signal for _, signal in sounds[number]}, key=_order)
        places = sorted({place for place, _ in sounds[number] if place is not None})
        known = {place: scores[place].get(number) for place in places}
        examples.append(Example(number, title, signals, sounds[number], known))
    return examples, left_out


def is_of_test_set(signal: str) -> bool:
    """Mixtures, targets and recordings belong to the test set, everything else to a setting."""
    return signal.startswith(("mixture", "target", "recording"))


def _files(run: Run) -> dict[tuple[str, str], tuple[Path, str]]:
    """The sounds of a run by example and signal, each with its type; links are not followed."""
    folder = run.folder / "audio"
    found = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        kind = KINDS.get(path.suffix.lower())
        if kind is not None and not path.is_symlink() and path.is_file():
            found[_named(path.stem)] = (path, kind)
    return found


def _scores(run: Run, metric: Metric) -> dict[str, float]:
    """A run's score of each example, by the example's place in the test set."""
    values = None if metric.per_unit == "jackknife" else per_example(run, metric)
    return values or {}


def _chosen(
    numbers: Iterable[str], scores: Mapping[int, Mapping[str, float]], metric: Metric
) -> list[tuple[str, str]]:
    """The worst, the median and the best of the examples by their mean over the settings.

    Without scores they are the first three.
    """
    means: dict[str, float] = {}
    for number in numbers:
        known = [one[number] for one in scores.values() if number in one]
        means[number] = math.fsum(known) / len(known) if known else math.nan
    ordered = sorted(means, key=lambda number: (len(number), number))
    if not ordered or any(math.isnan(value) for value in means.values()):
        return [(number, "") for number in ordered[:3]]
    ordered.sort(key=lambda number: means[number], reverse=not metric.higher_is_better)
    last = len(ordered) - 1
    titles = {0: "worst", last // 2 if last > 1 else 0: "median", last: "best"}
    titles[0] = "worst" if last else ""
    return [(ordered[place], title) for place, title in sorted(titles.items())]


def _named(stem: str) -> tuple[str, str]:
    """``0-estimate-1`` is example 0, "estimate 1"."""
    match = re.fullmatch(r"(\d+)-(.+)", stem)
    return (match[1], match[2].replace("-", " ")) if match else ("", stem.replace("-", " "))


def _order(signal: str) -> tuple[bool, str]:
    return not is_of_test_set(signal), signal
