"""The history without gaps or doubles, and runs that end early."""

import csv
import json
import math
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_sep import experiment
from lightning_sep.callbacks.history import History
from lightning_sep.errors import Interrupted, LeaseLost, NonFiniteLoss
from lightning_sep.fsio import append_line, read_lines
from lightning_sep.parts import build_parts
from lightning_sep.record import read_record
from lightning_sep.run_folder import RunFolder
from lightning_sep.settings import compose

MONITOR = "val/si_sdr_improvement_db"


def history(folder: Path) -> list[dict[str, object]]:
    rows = read_lines(folder / "metrics.jsonl")
    return [{key: value for key, value in row.items() if key != "time_s"} for row in rows]


def runs(home: Path) -> list[Path]:
    return [path for path in home.iterdir() if path.name != "leases"]


def test_each_epoch_has_one_line(undisturbed):
    assert [(row["epoch"], row["step"]) for row in history(undisturbed.folder)] == [
        (0, 4),
        (1, 8),
        (2, 12),
    ]


@pytest.mark.parametrize("stops", [(2,), (4,), (5,), (8,), (3, 4, 5)])
def test_stops_leave_neither_gaps_nor_doubles(tmp_path, settings, undisturbed, stops):
    folder = tmp_path / undisturbed.run_id
    for stop in stops:
        asked = iter(range(1, 1000))
        with pytest.raises(Interrupted):
            experiment.run(
                settings(), home=tmp_path, should_stop=lambda a=asked, s=stop: next(a) >= s
            )
        # As after a kill between an epoch's line and its checkpoint.
        append_line(folder / "metrics.jsonl", json.dumps({"epoch": 9, "step": 999}))
        with (folder / "metrics.jsonl").open("a") as file:
            file.write('{"epoch": 10, "st')
    result = experiment.run(settings(), home=tmp_path)
    assert history(folder) == history(undisturbed.folder)
    assert result.record["metrics"] == undisturbed.record["metrics"]
    assert result.record["attempts"] == len(stops) + 1


def test_time_is_that_of_all_attempts(tmp_path, settings, undisturbed):
    made = settings("tracking=csv", "tracking.audio_examples=0")
    asked = iter(range(100))
    with pytest.raises(Interrupted):
        experiment.run(made, home=tmp_path, should_stop=lambda: next(asked) >= 7)
    experiment.run(made, home=tmp_path)
    folder = tmp_path / undisturbed.run_id
    times = [row["time_s"] for row in read_lines(folder / "metrics.jsonl")]
    assert times == sorted(times)
    with (folder / "metrics.csv").open() as file:  # a tracker hears of all of them too
        assert [float(row["time_s"]) for row in csv.DictReader(file)] == times


def test_what_a_run_returns_is_its_record(undisturbed):
    assert read_record(undisturbed.folder) == undisturbed.record


def test_the_monitored_value_is_that_of_the_best_epoch(undisturbed):
    values = [row[MONITOR] for row in history(undisturbed.folder)]
    assert undisturbed.monitored == max(values)
    assert undisturbed.record["monitor"]["epoch"] == values.index(max(values))
    assert undisturbed.record["metrics"][MONITOR] == max(values)


def test_an_error_rate_is_best_where_it_is_least(tmp_path):
    settings = compose(
        [
            *("task=verification", "tracking=none", "trainer.progress=false", "trainer.epochs=4"),
            *("examples.train=32", "examples.val=32", "examples.test=16", "net.hidden=4"),
            "optimizer.learning_rate=0.05",
        ]
    )
    record = experiment.run(settings, home=tmp_path).record
    shown = [
        row["val/equal_error_rate"] for row in read_lines(next(tmp_path.glob("*/metrics.jsonl")))
    ]
    assert len(set(shown)) > 1, "or every epoch would be the best"
    assert record["monitor"]["epoch"] == shown.index(min(shown))
    assert record["monitor"]["value"] == record["metrics"]["val/equal_error_rate"] == min(shown)


def test_an_attempt_that_lost_its_run_does_not_even_begin_a_history(tmp_path):
    def gone() -> None:
        raise LeaseLost("another process has the run")

    folder = RunFolder(tmp_path)
    one = History(folder, generation=1, monitor=MONITOR, mode="max", told=print, guard=gone)
    with pytest.raises(LeaseLost):
        one.begin()
    assert not list(tmp_path.iterdir())


def test_each_validation_is_reported_once(tmp_path, settings, undisturbed):
    reports: list[tuple[int, float]] = []

    def report(epoch: int, value: float) -> bool:
        reports.append((epoch, value))
        return False

    experiment.run(settings(), home=tmp_path, report=report, purpose="search")
    assert reports == [(row["epoch"], row[MONITOR]) for row in history(undisturbed.folder)]


def test_a_pruned_run_is_recorded_without_a_test(tmp_path, settings):
    result = experiment.run(
        settings(), home=tmp_path, purpose="search", report=lambda epoch, value: epoch == 1
    )
    assert result.state == result.record["state"] == "pruned"
    assert [row["epoch"] for row in history(result.folder)] == [0, 1]
    assert not any(name.startswith("test/") for name in result.record["metrics"])
    assert result.record["examples_file"] is None


def test_a_run_stays_pruned_after_a_kill_before_its_record(tmp_path, settings):
    """The child dies where the record would be written; nobody is asked a second time."""
    about: dict[str, Any] = {"home": tmp_path, "purpose": "search", "sweep": "a"}
    child = os.fork()
    if child == 0:
        try:
            experiment.write_record = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            experiment.run(settings(), report=lambda epoch, _: epoch == 1, **about)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    [folder] = runs(tmp_path)
    assert read_record(folder) is None

    def report(epoch: int, value: float) -> bool:
        raise AssertionError("the run had ended")

    result = experiment.run(settings(), report=report, judged=True, **about)
    assert result.state == "pruned"
    assert [row["epoch"] for row in history(folder)] == [0, 1]


def test_a_kill_before_the_record_of_a_finished_run_costs_only_the_test(
    tmp_path, settings, undisturbed
):
    child = os.fork()
    if child == 0:
        try:
            experiment.write_record = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
            experiment.run(settings(), home=tmp_path)
        finally:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    folder = tmp_path / undisturbed.run_id
    before = (folder / "metrics.jsonl").read_bytes()
    append_line(folder / "metrics.jsonl", json.dumps({"epoch": 9, "step": 999}))
    result = experiment.run(settings(), home=tmp_path)
    assert (folder / "metrics.jsonl").read_bytes() == before
    assert result.record["metrics"] == undisturbed.record["metrics"]


def test_a_search_takes_a_pruned_run_as_it_is(tmp_path, settings):
    def run() -> experiment.Result:
        return experiment.run(
            settings(),
            home=tmp_path,
            purpose="search",
            sweep="a",
            judged=True,
            report=lambda *_: True,
        )

    first = run()
    written = (first.folder / "record.json").stat().st_mtime_ns
    assert run().state == "pruned"
    assert (first.folder / "record.json").stat().st_mtime_ns == written


def test_training_ends_after_epochs_without_improvement(tmp_path, settings):
    made = settings("trainer.patience=1", "trainer.epochs=6", "optimizer.learning_rate=1e-30")
    result = experiment.run(made, home=tmp_path)
    assert result.state == "finished"
    assert [row["epoch"] for row in history(result.folder)] == [0, 1]
    parts = build_parts(made)
    assert result.record["coverage"] == parts.examples.coverage(parts.prepared, seed=0, epochs=2)


def test_patience_counts_on_after_a_stop(tmp_path, settings):
    made = settings("trainer.patience=2", "trainer.epochs=6", "optimizer.learning_rate=1e-30")
    asked = iter(range(1, 100))
    with pytest.raises(Interrupted):
        experiment.run(made, home=tmp_path, should_stop=lambda: next(asked) >= 8)
    result = experiment.run(made, home=tmp_path)
    assert [row["epoch"] for row in history(result.folder)] == [0, 1, 2]


def after_epochs(folder: Path, *epochs: tuple[dict[str, float], float]) -> Iterator[History]:
    """A history after each epoch, given its metrics and a parameter of the net at its end."""
    one = History(
        RunFolder(folder), generation=1, monitor="val/x", mode="max", told=len, guard=dict
    )
    module: Any = torch.nn.Linear(1, 1)
    for epoch, (metrics, weight) in enumerate(epochs):
        module.epoch_metrics = {"train/loss": 1.0, "train/non_finite": 0.0} | metrics
        torch.nn.init.constant_(module.weight, weight)
        trainer: Any = SimpleNamespace(current_epoch=epoch, global_step=4 * epoch)
        one.on_train_epoch_end(trainer, module)
        yield one


@pytest.mark.parametrize(
    ("bad", "weight", "words"),
    [
        (
            {"train/loss": 0.0, "train/non_finite": 2.0},
            1.0,
            r"no loss of epoch 1 .* \(2 examples\)",
        ),
        ({}, math.nan, r"parameters are no longer finite after epoch 1 \(step 4\)"),
    ],
)
def test_divergence_is_told_though_epochs_before_were_good(tmp_path, bad, weight, words):
    good = {"val/x": 1.0}
    epochs = after_epochs(tmp_path, (good | {"train/non_finite": 2.0}, 1.0), (good | bad, weight))
    one = next(epochs)
    with pytest.raises(NonFiniteLoss, match=words):
        next(epochs)
    assert (one.best_epoch, len(one.rows)) == (0, 2)


def test_patience_counts_from_the_last_better_epoch(tmp_path):
    values = [-math.inf, 1.0, 0.5, math.nan, 2.0, 2.0, math.inf, 3.0]
    seen = [
        (one.epochs_without_improvement, one.best_epoch)
        for one in after_epochs(tmp_path, *(({"val/x": value}, 1.0) for value in values))
    ]
    assert seen == [(1, None), (0, 1), (1, 1), (2, 1), (0, 4), (1, 4), (2, 4), (0, 7)]


def test_divergence_is_told_apart_and_recorded(tmp_path, settings):
    made = settings("optimizer.learning_rate=1e38", "trainer.gradient_clip=null")
    with pytest.raises(NonFiniteLoss, match=r"learning_rate|head and loss"):
        experiment.run(made, home=tmp_path)
    [folder] = runs(tmp_path)
    record = read_record(folder)
    assert record is not None
    assert record["state"] == "failed"
    assert record["error"]
    needed = {
        *("run_id", "state", "task", "settings", "seed", "sweep", "trial", "metrics"),
        *("parameters", "data", "environment", "started", "finished"),
    }
    assert needed <= record.keys()


def test_a_run_that_a_search_gave_up_is_trained_to_its_end_by_itself(
    tmp_path, settings, undisturbed
):
    pruned = experiment.run(settings(), home=tmp_path, purpose="search", report=lambda *_: True)
    assert pruned.state == "pruned"
    result = experiment.run(settings(), home=tmp_path)
    assert result.state == "finished"
    assert history(result.folder) == history(undisturbed.folder)
    assert result.record["metrics"] == undisturbed.record["metrics"]
