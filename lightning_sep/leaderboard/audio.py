"""Sounds of a board: for each example a grid, a row a setting, a column a signal."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning_sep.fingerprint import digest
from lightning_sep.leaderboard.board import Board
from lightning_sep.leaderboard.charts import per_example
from lightning_sep.leaderboard.runs import Run

KINDS = {".mp3": "audio/mpeg", ".flac": "audio/flac"}
TEST_SET = None  # the row of the signals that belong to no setting
MOST_HEARD = 12  # rows of a board, the first ones, whose sounds the end of a sweep makes
LISTED = "sounds.json"  # what those sounds are, in their folder
FORMAT = 1

Key = tuple[int | None, str]  # a setting's place or ``TEST_SET``, and a signal


@dataclass(frozen=True)
class Example:
    """One test example as it can be heard.

    Args:
        number: of the example; empty for files without one.
        title: what it is among the others: the worst, the median or the best of them.
        heading: of the scores.
        signals: the columns.
        sounds: data URI of (setting's place or ``TEST_SET``, signal).
        scores: of the heard run of each setting, by its place; None where it kept none.
    """

    number: str
    title: str
    heading: str
    signals: list[str]
    sounds: dict[Key, str]
    scores: dict[int, float | None]

    @property
    def places(self) -> list[int | None]:
        """The rows: the test set's own signals, then the settings."""
        own = {place for place, _ in self.sounds} | set(self.scores)
        return sorted(own, key=lambda one: -1 if one is None else one)


@dataclass(frozen=True)
class Heard:
    """What can be heard of a board.

    Args:
        examples: its grids.
        left_out: how many files found no room on the page.
        told: which examples they are.
    """

    examples: list[Example]
    left_out: int = 0
    told: str = ""


@dataclass(frozen=True)
class _Kept:
    """An example's files."""

    number: str
    title: str
    heading: str
    files: dict[Key, tuple[Path, str]]
    scores: dict[int, float | None]


def heard_runs(board: Board) -> list[Run]:
    """The run of each row that is heard: its first seed."""
    return [row.scores[0].run for row in board.rows[:MOST_HEARD]]


def sounds_folder(board: Board) -> Path:
    """Where the end of a sweep puts what its board lets one hear."""
    run = board.rows[0].scores[0].run
    return (
        run.folder.parent / "sweeps" / Path(run.sweep or "").name / "sounds" / Path(run.task).name
    )


def made_of(board: Board) -> str:
    """What decides which sounds there are."""
    return digest([FORMAT, [[run.run_id, run.finished] for run in heard_runs(board)]])


def wants_sounds(board: Board) -> bool:
    """Whether it is a sweep's board whose sounds are not made yet, or are of other runs, and whose
    runs kept the weights to make them."""
    if not board.rows or not board.rows[0].scores[0].run.sweep:
        return False
    kept = any((heard_runs(board)[0].folder / "checkpoints").glob("best*.ckpt"))
    return kept and _listed(board) is None


def examples_of(boards: Sequence[Board], budget_bytes: int) -> list[Heard]:
    """What can be heard of each board.

    Args:
        boards: the page's boards; what one does not need of its even share is left to the others.
        budget_bytes: of encoded audio on the whole page.
    """
    found = [_made(board) or _of_runs(board) for board in boards]
    needs = [
        sum(_size(path) for one in kept for path, _ in one.files.values()) for kept, _ in found
    ]
    shares = [0] * len(boards)
    order = sorted((place for place, need in enumerate(needs) if need), key=needs.__getitem__)
    for turn, place in enumerate(order):
        shares[place] = min(needs[place], (budget_bytes - sum(shares)) // (len(order) - turn))
    return [_embedded(*one, share) for one, share in zip(found, shares, strict=True)]


def worst_median_best(
    scores: Mapping[str, float], *, higher_is_better: bool
) -> list[tuple[str, str]]:
    """Examples by number, with what they are among the others; of equal ones the first."""
    ordered = sorted(scores, key=lambda number: (len(number), number))
    ordered.sort(key=lambda number: scores[number], reverse=not higher_is_better)
    last = len(ordered) - 1
    titles = {0: "worst", last // 2 if last > 1 else 0: "median", last: "best"}
    titles[0] = "worst" if last else ""
    return [(ordered[place], title) for place, title in sorted(titles.items()) if ordered]


def is_of_test_set(signal: str) -> bool:
    """Mixtures, targets and recordings belong to the test set, everything else to a setting."""
    return signal.startswith(("mixture", "target", "recording"))


def _embedded(kept: Sequence[_Kept], told: str, budget_bytes: int) -> Heard:
    """The files as data URIs, the test set's and those of the best rows first."""
    sounds: list[dict[Key, str]] = [{} for _ in kept]
    left_out = used = 0
    places = {place for one in kept for place, _ in one.files}
    for place in sorted(places, key=lambda one: -1 if one is None else one):
        for at, one in enumerate(kept):
            for key, (path, kind) in one.files.items():
                if key[0] != place:
                    continue
                if used + _size(path) > budget_bytes:
                    left_out += 1
                    continue
                used += _size(path)
                encoded = base64.b64encode(path.read_bytes()).decode("ascii")
                sounds[at][key] = f"data:{kind};base64,{encoded}"
    examples = []
    for one, own in zip(kept, sounds, strict=True):
        if own:
            signals = sorted({signal for _, signal in own}, key=_order)
            examples.append(Example(one.number, one.title, one.heading, signals, own, one.scores))
    return Heard(examples, left_out, told)


def _size(path: Path) -> int:
    """Of a file on the page."""
    return (path.stat().st_size + 2) // 3 * 4


def _listed(board: Board) -> dict[str, Any] | None:
    """The list of the sounds that the end of a sweep made of this very board."""
    try:
        listed = json.loads((sounds_folder(board) / LISTED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    fits = isinstance(listed, dict) and listed.get("made_of") == made_of(board)
    return listed if fits else None


def _made(board: Board) -> tuple[list[_Kept], str] | None:
    """What the end of its sweep made, of the same examples for all rows."""
    listed = _listed(board) if board.rows else None
    try:
        return None if listed is None else _read(listed, board)
    except (KeyError, TypeError, AttributeError):  # somebody else wrote it
        return None


def _read(listed: Mapping[str, Any], board: Board) -> tuple[list[_Kept], str]:
    folder = sounds_folder(board)
    places = {run.run_id: place for place, run in enumerate(heard_runs(board))}
    kept = []
    for one in listed["examples"]:
        files: dict[Key, tuple[Path, str]] = {}
        for sound in one["sounds"]:
            path = folder / Path(sound["file"]).name
            kind = _kind(path)
            if kind is not None:
                files[places.get(sound["run"], TEST_SET), sound["signal"]] = path, kind
        scores: dict[int, float | None] = {
            places[run]: float(value) for run, value in one["scores"].items() if run in places
        }
        title = str(one["title"])
        kept.append(_Kept(str(one["number"]), title, str(listed["heading"]), files, scores))
    told = "The test examples that the first row is worst, middling and best at."
    if board.task == "verification":
        told = "Of all pairs of the test, those that the first row is furthest wrong about: "
        told += "scored above 0, a pair is taken for one speaker."
    elif listed["longer"]:
        told += " They are longer than those that made its score, and scored as they are heard."
    return kept, told


def _of_runs(board: Board) -> tuple[list[_Kept], str]:
    """What runs wrote sounds of: their first test examples."""
    files = {place: _files(row.scores[0].run) for place, row in enumerate(board.rows)}
    numbers = {number for one in files.values() for number, _ in one}
    scores = {
        place: {} if board.metric.per_unit == "jackknife" else per_example(run, board.metric) or {}
        for place, run in enumerate(row.scores[0].run for row in board.rows)
        if files[place]
    }
    known = next(iter(scores.values()), {})
    chosen = [(number, "") for number in sorted(numbers, key=lambda one: (len(one), one))[:3]]
    if numbers <= set(known):
        chosen = worst_median_best(
            {number: known[number] for number in numbers},
            higher_is_better=board.metric.higher_is_better,
        )
    kept = []
    for number, title in chosen:
        own: dict[Key, tuple[Path, str]] = {}
        for place, one in files.items():
            for (of, signal), file in one.items():
                if of == number:  # rows share their test set
                    own.setdefault((TEST_SET if is_of_test_set(signal) else place, signal), file)
        rows = {place for place, _ in own if place is not None}
        each = {place: scores[place].get(number) for place in sorted(rows)}
        kept.append(_Kept(number, title, board.metric.heading, own, each))
    return kept, "Worst, median and best of the examples that runs wrote sounds of."


def _files(run: Run) -> dict[tuple[str, str], tuple[Path, str]]:
    """The sounds of a run by example and signal, each with its type."""
    folder = run.folder / "audio"
    found = {}
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        kind = _kind(path)
        if kind is not None:
            found[_named(path.stem)] = (path, kind)
    return found


def _kind(path: Path) -> str | None:
    """The type of a sound; links are not followed."""
    kind = KINDS.get(path.suffix.lower())
    return kind if not path.is_symlink() and path.is_file() else None


def _named(stem: str) -> tuple[str, str]:
    """``0-estimate-1`` is example 0, "estimate 1"."""
    match = re.fullmatch(r"(\d+)-(.+)", stem)
    return (match[1], match[2].replace("-", " ")) if match else ("", stem.replace("-", " "))


def _order(signal: str) -> tuple[bool, str]:
    return not is_of_test_set(signal), signal
