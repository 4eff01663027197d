"""What the end of a sweep lets one hear: which examples, whose scores, how long."""

import json
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from lightning_sep import experiment
from lightning_sep.evaluate import evaluate
from lightning_sep.leaderboard.audio import sounds_folder, wants_sounds
from lightning_sep.leaderboard.board import Board, load_boards
from lightning_sep.leaderboard.page import page
from lightning_sep.listen import try_to_write_sounds
from lightning_sep.parts import build_parts
from lightning_sep.settings import compose
from lightning_sep.use import load_run

SMALL = ["tracking=none", "trainer.epochs=1", "trainer.progress=false"]
TASKS = {
    "separation": [
        *("task=separation", "net.levels=2", "net.filters=4", "examples.segment_s=0.25"),
        *("examples.train=8", "examples.val=4", "examples.test=5", "examples.batch_size=4"),
    ],
    "autoregression": [
        *("task=autoregression", "net.hidden=8", "net.layers=1", "examples.train=4"),
        *("examples.val=4", "examples.test=5", "examples.batch_size=4"),
    ],
    "verification": [
        *("task=verification", "head=softmax", "net.hidden=4", "net.layers=1"),
        *("examples.speakers=4", "examples.snippets=2", "examples.train=1", "examples.val=2"),
    ],
}
AXES = {"separation": "head=tanh,sine", "verification": "loss.margin=1,2", "autoregression": ""}


@pytest.fixture(scope="module")
def made(data_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home of three sweeps of one fresh seed: two settings, two settings, and one."""
    home = tmp_path_factory.mktemp("heard") / "runs"
    for task, settings in TASKS.items():
        name, _, values = AXES[task].partition("=")
        for trial, value in enumerate(values.split(",")):
            axis = [f"{name}={value}"] if name else []
            chosen = compose([*SMALL, *settings, *axis, "seed=1000"])
            experiment.run(chosen, home=home, sweep=task, trial=trial, purpose="final")
    boards = load_boards(home).boards
    assert all(map(wants_sounds, boards))
    assert try_to_write_sounds(boards) == []
    assert not any(map(wants_sounds, boards))
    return home


def board_of(home: Path, name: str) -> Board:
    (board,) = load_boards(home, [name]).boards
    return board


def listed(board: Board) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((sounds_folder(board) / "sounds.json").read_text())
    return content


@pytest.mark.parametrize(
    ("task", "longer", "signals"),
    [
        (
            "separation",
            "examples.segment_s=2",
            {None: {"mixture", "target 1", "target 2"}, "own": {"estimate 1", "estimate 2"}},
        ),
        ("autoregression", "examples.frames=250", {None: {"recording"}, "own": {"continued"}}),
    ],
)
def test_worst_median_and_best_of_the_first_row_for_all_rows(made, task, longer, signals) -> None:
    board = board_of(made, task)
    scores = []
    for row in board.rows:
        result, path = evaluate(row.run_id, ["data=synthetic", longer], home=made)
        values = json.loads((path.parent / result["examples_file"]).read_text())
        scores.append(dict(zip(values["test/index"], values[board.metric.key], strict=True)))
    order = sorted(scores[0], key=scores[0].__getitem__)
    content = listed(board)
    assert content["longer"] is True
    assert content["heading"] == board.metric.heading
    assert [(one["number"], one["title"]) for one in content["examples"]] == [
        (str(order[place]), f"{word} of {len(order)}")
        for place, word in (
            (0, "worst"),
            ((len(order) - 1) // 2, "median"),
            (len(order) - 1, "best"),
        )
    ]
    for one in content["examples"]:
        for row, known in zip(board.rows, scores, strict=True):
            found = one["scores"][row.run_id]
            assert found == pytest.approx(known[int(one["number"])], abs=1e-4)
        assert {(sound["run"], sound["signal"]) for sound in one["sounds"]} == {
            *((None, signal) for signal in signals[None]),
            *((row.run_id, signal) for row in board.rows for signal in signals["own"]),
        }
        for sound in one["sounds"]:
            samples, rate = soundfile.read(sounds_folder(board) / sound["file"])
            assert len(samples) >= 2 * rate


def test_what_is_heard_is_what_the_net_makes_of_the_mixture(made: Path) -> None:
    board = board_of(made, "separation")
    one = listed(board)["examples"][0]
    run = board.rows[1].run_id

    def sound(of: str | None, signal: str) -> np.ndarray:
        (file,) = (s["file"] for s in one["sounds"] if (s["run"], s["signal"]) == (of, signal))
        samples, _ = soundfile.read(BytesIO((sounds_folder(board) / file).read_bytes()))
        return np.asarray(samples)

    mixture = torch.from_numpy(sound(None, "mixture")).float()
    with torch.no_grad():
        sources = load_run(run, made).separate(mixture[None, None])[0, :, 0].numpy()
    both = np.corrcoef([*sources, sound(run, "estimate 1"), sound(run, "estimate 2")])[:2, 2:]
    assert max(both.trace(), both[::-1].trace()) > 1.8  # of 2: as far as MP3 keeps a waveform


def test_the_pairs_that_are_furthest_wrong(made: Path) -> None:
    board = board_of(made, "verification")
    content = listed(board)
    scores, labels, names, thresholds = [], [], [], []
    for row in board.rows:
        task = load_run(row.run_id, made)
        run = row.scores[0].run
        settings = compose([*SMALL, *TASKS["verification"]])
        built = build_parts(settings)
        draw = built.examples.draw(built.prepared, "test")
        batch = draw.batch(seed=8, epoch=0, index=np.arange(draw.count))
        with torch.no_grad():
            raw = task.raw(batch, None)
            forth = task.head.divergence_parts(raw)(slice(None), slice(None))
        scores.append((-(forth + forth.T) / 2).numpy())
        labels, names = batch.labels.numpy(), task.facts.speaker_names
        thresholds.append(float(task.threshold))
        assert run.run_id in content["examples"][0]["scores"]
    sessions = batch.sessions.numpy()
    same = labels[:, None] == labels
    trial = ~same | (sessions[:, None] != sessions)
    upper = np.triu(np.ones_like(same), 1) & trial
    for one, kind, sign in zip(content["examples"], (~same, same), (1, -1), strict=True):
        wrong = np.where(upper & kind, sign * scores[0], -np.inf)
        pair = np.unravel_index(wrong.argmax(), wrong.shape)
        assert one["number"] == f"{pair[0]}-{pair[1]}"
        assert all(names[labels[snippet]] in one["title"] for snippet in pair)
        for row, known, threshold in zip(board.rows, scores, thresholds, strict=True):
            assert one["scores"][row.run_id] == pytest.approx(known[pair] - threshold, abs=1e-4)
        assert [(s["run"], s["signal"]) for s in one["sounds"]] == [
            (None, "recording 1"),
            (None, "recording 2"),
        ]
    html = page(load_boards(made, ["verification"]))
    assert html.count("<audio") == 4
    assert "Score above the threshold" in html


def test_other_runs_ask_for_other_sounds(made: Path, tmp_path: Path) -> None:
    home = tmp_path / "runs"
    shutil.copytree(made, home)
    board = board_of(home, "separation")
    before = listed(board)
    shutil.rmtree(board.rows[0].scores[0].run.folder)
    left = board_of(home, "separation")
    assert wants_sounds(left)
    assert try_to_write_sounds([left]) == []
    after = listed(left)
    assert {run for one in after["examples"] for run in one["scores"]} == {left.rows[0].run_id}
    kept = {path.name for path in sounds_folder(left).iterdir()} - {"sounds.json"}
    assert kept == {s["file"] for one in after["examples"] for s in one["sounds"]}
    assert before["made_of"] != after["made_of"]


def test_without_weights_there_is_a_line_and_no_sound(made: Path, tmp_path: Path) -> None:
    home = tmp_path / "runs"
    shutil.copytree(made, home)
    for path in home.glob("*/checkpoints/best*.ckpt"):
        path.write_bytes(b"torn")
    shutil.rmtree(home / "sweeps")
    (line,) = try_to_write_sounds([board_of(home, "verification")])
    assert line.startswith("verification: its page has nothing to hear: run ")
    assert "<audio" not in page(load_boards(home, ["verification"]))
    for path in home.glob("*/checkpoints/best*.ckpt"):
        path.unlink()
    assert not wants_sounds(board_of(home, "verification"))


@pytest.mark.parametrize(
    "change",
    [{"examples": 3}, {"examples": [{}]}, {"heading": None, "examples": [{"number": 1}]}],
)
def test_a_list_of_somebody_else_is_not_heard(made: Path, tmp_path: Path, change) -> None:
    home = tmp_path / "runs"
    shutil.copytree(made, home)
    board = board_of(home, "verification")
    path = sounds_folder(board) / "sounds.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    assert "<audio" not in page(load_boards(home, ["verification"]))
