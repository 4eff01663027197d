"""Half precision is for nets alone: heads, losses and metrics stay in float32."""

from pathlib import Path

import pytest

from lightning_sep import experiment
from lightning_sep.fsio import read_lines
from lightning_sep.settings import compose

SMALL = {
    "separation": ["examples.train=8", "examples.segment_s=0.25", "examples.batch_size=4"],
    "autoregression": ["examples.train=8", "examples.frames=12", "examples.batch_size=4"],
    "verification": ["examples.train=2"],
}


@pytest.mark.parametrize("task", SMALL)
def test_every_task_trains_in_bfloat16(task: str, tmp_path: Path, data_home: Path) -> None:
    settings = compose(
        [
            *(f"task={task}", "examples.val=4", "examples.test=4", "trainer.epochs=1"),
            *("trainer.precision=bf16-mixed", "tracking=none", "trainer.progress=false"),
            *SMALL[task],
        ]
    )
    result = experiment.run(settings, home=tmp_path)
    assert result.state == "finished"
    [row] = read_lines(result.folder / "metrics.jsonl")
    assert row["train/non_finite"] == 0
