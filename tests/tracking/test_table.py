"""A run's history as CSV."""

import csv
from pathlib import Path

import pytest

from lightning_sep import experiment
from lightning_sep.settings import build, compose


def test_the_history_is_a_table_that_is_whole_after_a_resume(tmp_path: Path) -> None:
    tracking = build(compose(["tracking=csv"]).tree["tracking"])
    assert tracking.audio_examples == 3
    rows = [
        {"epoch": 0, "step": 8, "train/loss": 0.5},
        {"epoch": 1, "step": 16, "train/loss": 0.25, "val/r2": None},
    ]
    first = tracking.open(tmp_path, {})
    first.log(rows[0])
    again = tracking.open(tmp_path, {})
    for row in rows:
        again.log(row)
    again.finish({})
    with (tmp_path / "metrics.csv").open() as file:
        assert list(csv.DictReader(file)) == [
            {"epoch": "0", "step": "8", "train/loss": "0.5", "val/r2": ""},
            {"epoch": "1", "step": "16", "train/loss": "0.25", "val/r2": ""},
        ]


def test_only_the_first_of_several_processes_writes_it(
    tmp_path: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_sep.training.own_rank", lambda: 1)
    settings = compose(
        [
            *("task=autoregression", "net.hidden=4", "examples.train=16", "examples.val=8"),
            *("examples.test=8", "trainer.epochs=1", "trainer.progress=false", "tracking=csv"),
        ]
    )
    result = experiment.run(settings, home=tmp_path)
    assert (result.folder / "metrics.jsonl").exists()
    assert not (result.folder / "metrics.csv").exists()
