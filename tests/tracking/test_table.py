"""A run's history as CSV."""

import csv
from pathlib import Path

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
