"""The sounds of a sweep's boards: what its best settings make of the same few test examples.

Which examples is known only when all runs are there: the worst, the median and the best one of the
first row, or the pairs that it is furthest wrong about. So the end of a sweep lets the kept weights
of each row's first seed make them, beside the sweep's report, and its pages show them. Sequences
and mixtures that are scored in snatches are drawn longer to be heard, and scored as they are heard.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import torch
from torch import Tensor

from lightning_sep.data.batch import Batch
from lightning_sep.data.examples import FIXED_SEEDS, Draw, Examples
from lightning_sep.data.progress import ProgressLine
from lightning_sep.errors import DataError, LightningSepError, one_line
from lightning_sep.fsio import make_folder, storage_errors, write_aside, write_json
from lightning_sep.functional.trial_counts import OTHERS, SAME
from lightning_sep.homes import data_home
from lightning_sep.leaderboard.audio import (
    FORMAT,
    LISTED,
    heard_runs,
    is_of_test_set,
    made_of,
    sounds_folder,
    worst_median_best,
)
from lightning_sep.leaderboard.board import Board
from lightning_sep.leaderboard.charts import per_example
from lightning_sep.leaderboard.metric import Metric
from lightning_sep.leaderboard.runs import Run
from lightning_sep.settings import build, from_tree
from lightning_sep.tasks.all_pairs import AllPairs
from lightning_sep.tasks.base import Task
from lightning_sep.tasks.verification import Verification
from lightning_sep.use import load_run

LEAST_S = 2.0  # less tells an ear next to nothing
_MP3_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)


class _Drawn(NamedTuple):
    """The test part as it is heard."""

    examples: Examples
    draw: Draw
    longer: bool  # than it was scored


@dataclass(frozen=True)
class _Row:
    """A row's first seed, ready to be heard."""

    run: Run
    task: Task
    drawn: _Drawn

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Test examples."""
        index = np.array(numbers, dtype=np.int64)
        return self.drawn.draw.batch(seed=FIXED_SEEDS["test"], epoch=0, index=index)

    def scores(self, metric: Metric, numbers: Sequence[int] | None = None) -> dict[str, float]:
        """Of test examples, or of all of them, by number: as recorded, or as they are heard."""
        if not self.drawn.longer:
            return per_example(self.run, metric) or {}
        chosen = range(self.drawn.draw.count) if numbers is None else numbers
        size = 1 if self.drawn.draw.alone else self.drawn.examples.batch_size
        self.task.on_test_epoch_start()
        for begin in range(0, len(chosen), size):
            self.task.test_step(self.batch(chosen[begin : begin + size]), begin)
        self.task.on_test_epoch_end()
        values = self.task.example_values
        pairs = zip(values.get("test/index", []), values.get(metric.key, []), strict=True)
        return {str(number): value for number, value in pairs if np.isfinite(value)}


@dataclass
class _Example:
    """One grid of the page, as it is listed."""

    number: str
    title: str
    sounds: list[dict[str, str | None]] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)


@torch.no_grad()
def write_sounds(board: Board) -> None:
    """Make the sounds of a sweep's board; those that were there before are replaced.

    Rows whose test set holds something else under the same numbers are not heard, nor are those
    whose weights are gone.

    Raises:
        LightningSepError: the first row cannot be heard: its weights or its data are not here.
    """
    folder = sounds_folder(board)
    rows: list[_Row] = []
    opened: dict[str, _Drawn] = {}
    for run in heard_runs(board):
        try:
            rows.append(_row(run, opened))
        except LightningSepError:
            if not rows:
                raise
    with storage_errors(folder):
        shutil.rmtree(folder, ignore_errors=True)
        make_folder(folder)
        if isinstance(rows[0].task, Verification):
            heading, found = "Score above the threshold", _pairs(rows, folder)
        else:
            heading, found = board.metric.heading, _waveforms(rows, board.metric, folder)
        listed = {
            "format": FORMAT,
            "made_of": made_of(board),
            "heading": heading,
            "longer": rows[0].drawn.longer,
            "examples": [vars(one) for one in found],
        }
        write_json(folder / LISTED, listed)


def try_to_write_sounds(boards: Sequence[Board]) -> list[str]:
    """Make the sounds of boards; why there are none of some, a line each."""
    lines = []
    for board in boards:
        try:
            write_sounds(board)
        except Exception as error:  # a net of the user's own, say: the sweep is done all the same
            lines.append(f"{board.name}: its page has nothing to hear: {one_line(error)}")
    return lines


def _row(run: Run, opened: dict[str, _Drawn]) -> _Row:
    task = load_run(run.folder)
    tree = from_tree(run.settings).tree
    key = repr((tree["data"], tree["examples"]))
    if key not in opened:
        prepared = build(tree["data"]).open(data_home(), ProgressLine())
        if run.data != {prepared.name: prepared.hash}:
            raise DataError(f"the {prepared.name} here is not what run {run.run_id} was tested on")
        opened[key] = _drawn(build(tree["examples"]).as_trained(task.facts), prepared)
    return _Row(run, task, opened[key])


def _drawn(examples: Examples, prepared: Any) -> _Drawn:
    longer = examples.lasting(prepared, LEAST_S)
    if longer is not examples:
        try:
            return _Drawn(longer, longer.draw(prepared, "test"), True)
        except LightningSepError:  # no recording is that long
            pass
    return _Drawn(examples, examples.draw(prepared, "test"), False)


def _waveforms(rows: Sequence[_Row], metric: Metric, folder: Path) -> list[_Example]:
    """The worst, the median and the best example of the first row."""
    first = rows[0]
    known = first.scores(metric)
    found = []
    for number, title in worst_median_best(known, higher_is_better=metric.higher_is_better):
        one = _Example(number, f"{title} of {len(known)}")
        place = [int(number)]
        batch = first.batch(place)
        for row in rows:
            mine = batch if row.drawn is first.drawn else row.batch(place)
            if not torch.equal(mine.waveform, batch.waveform):
                continue
            for name, waveform in row.task.audio_examples(mine, 1).items():
                signal = name.removeprefix("0-").replace("-", " ")
                if not is_of_test_set(signal):
                    _write(one, row.run.run_id, signal, waveform, row.task, folder)
                elif row is first:
                    _write(one, None, signal, waveform, row.task, folder)
            score = row.scores(metric, place).get(number)
            if score is not None:
                one.scores[row.run.run_id] = score
        if one.sounds:
            found.append(one)
    return found


def _pairs(rows: Sequence[_Row], folder: Path) -> list[_Example]:
    """The two speakers that the first row takes for one most, and the one it takes for two."""
    found = []
    for kind, numbers, speakers in _furthest(rows[0]):
        names = " and ".join(dict.fromkeys(speakers))
        title = f"most alike of two speakers: {names}"
        if kind == SAME:
            title = f"least alike of one speaker: {names}"
        one = _Example("-".join(map(str, numbers)), title)
        batch = rows[0].batch(numbers)
        for place, waveform in enumerate(batch.waveform):
            signal = f"recording {place + 1}"
            _write(one, None, signal, waveform, rows[0].task, folder)
        for row in rows:
            mine = row.batch(numbers)
            if torch.equal(mine.waveform, batch.waveform):
                assert isinstance(row.task, Verification)
                threshold = float(row.task.threshold)
                (tile,) = _all_pairs(row.task, [mine]).tiles()
                one.scores[row.run.run_id] = float(tile.scores[0, 1]) - threshold
        found.append(one)
    return found


def _furthest(row: _Row) -> Iterator[tuple[int, list[int], list[str]]]:
    """The trial of each kind that is furthest on the wrong side: its kind, the numbers of its
    snippets, and who speaks."""
    size = row.drawn.examples.batch_size
    count = row.drawn.draw.count
    steps = [range(begin, min(begin + size, count)) for begin in range(0, count, size)]
    batches = [row.batch(one) for one in steps]
    pairs = _all_pairs(row.task, batches)
    numbers: list[int] = torch.cat([one.index[one.active] for one in batches]).tolist()
    speakers: list[int] = torch.cat([one.labels[one.active] for one in batches]).tolist()
    assert isinstance(row.task, Verification)
    called = row.task.facts.speaker_names
    for kind, sign in ((OTHERS, 1.0), (SAME, -1.0)):
        best: tuple[float, int, int] | None = None
        for tile in pairs.tiles():
            wrong = torch.where(tile.kinds == kind, sign * tile.scores.double(), -torch.inf)
            value, place = wrong.flatten().max(0)
            if best is None or float(value) > best[0]:
                one, two = divmod(int(place), wrong.shape[1])
                best = float(value), tile.rows.start + one, tile.columns.start + two
        if best is not None and best[0] > -torch.inf:
            places = list(best[1:])
            who = [called[speakers[place]] for place in places]
            yield kind, [numbers[place] for place in places], who


def _all_pairs(task: Task, batches: Sequence[Batch]) -> AllPairs:
    """The pairs of what sounds in some batches."""
    assert isinstance(task, Verification)
    raw, labels, sessions = [], [], []
    for batch in batches:
        assert batch.sessions is not None
        raw.append(task.raw(batch, None)[batch.active])
        labels.append(batch.labels[batch.active])
        sessions.append(batch.sessions[batch.active])
    return AllPairs(
        head=task.head,
        loss=task.loss,
        raw=torch.cat(raw),
        labels=torch.cat(labels),
        sessions=torch.cat(sessions),
    )


def _write(
    example: _Example, run: str | None, signal: str, waveform: Tensor, task: Task, folder: Path
) -> None:
    """Write one signal, ``[channel, time]``, small: to be heard on a page, not to be measured."""
    if not bool(waveform.isfinite().all()):
        return
    rate = task.facts.sample_rate
    kind = "MP3" if rate in _MP3_HZ and len(waveform) <= 2 else "FLAC"  # which takes any
    name = "-".join([example.number, *signal.split(), *([run] if run else [])])
    file = f"{name}.{kind.lower()}"
    encoded = BytesIO()
    soundfile.write(encoded, waveform.float().clamp(-1, 1).T.numpy(), rate, format=kind)
    write_aside(folder / file, encoded.getvalue())
    example.sounds.append({"run": run, "signal": signal, "file": file})
