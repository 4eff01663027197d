"""A training step of the program, over one of Lightning's barebones Trainer on the same batches."""

import json
import sys
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from _measure import Line, environment, told

CASES = {
    "lstm_small": ["task=autoregression"],
    "blstm_small": ["task=verification"],
    "sudo_rm_rf_small": ["task=separation", "net=sudo_rm_rf_small", "examples.segment_s=0.5"],
}
MORE = ["tracking=none", "trainer.progress=false", "trainer.epochs=1"]
STEPS = 40


def lines(rounds: int, folder: Path) -> Iterator[Line]:
    env = environment(LIGHTNING_SEP_HOME=folder / "runs", LIGHTNING_SEP_DATA=folder / "data")
    for name in CASES:
        rows = [
            told([sys.executable, __file__, name, str(folder / f"{name}-{number}")], env)
            for number in range(rounds)
        ]
        taken = {way: [row[way] for row in rows] for way in rows[0]}
        bare = taken["barebones"]
        yield Line("steps", f"a step, {name}", "Lightning barebones", taken["program"], bare)
        yield Line(
            "steps",
            f"a step with loss_softmax, {name}",
            "uniform",
            taken["softmax"],
            taken["program"],
        )


def child(name: str, folder: str) -> None:
    """Median seconds of CPU from the end of one step to the end of the next, input included."""
    import pytorch_lightning as pl
    import torch

    from lightning_sep import experiment
    from lightning_sep.settings import compose

    torch.set_num_threads(1)
    count = STEPS * (1 if name == "blstm_small" else 16)
    overrides = [*CASES[name], *MORE, f"examples.train={count}"]

    def program(*more: str) -> float:
        ticks: list[float] = []
        settings = compose([*overrides, *more])
        experiment.run(
            settings,
            home=Path(folder) / "-".join(["run", *more]),
            alive=lambda: ticks.append(time.process_time()),
        )
        return between(ticks[:STEPS])

    def between(ticks: list[float]) -> float:
        return median(b - a for a, b in pairwise(ticks[5:]))

    class Plain(pl.LightningModule):
        """Net, head, loss and plain mean, nothing else."""

        def __init__(self, task: Any) -> None:
            super().__init__()
            self.parts = torch.nn.ModuleList([task.net])
            self.task = [task]  # not a part: its hooks are not called
            self.ticks: list[float] = []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            task = self.task[0]
            return task.scores(batch, task.raw(batch, None)).losses.mean()

        def on_train_batch_end(self, *_: Any) -> None:
            self.ticks.append(time.process_time())

        def configure_optimizers(self) -> Any:
            return self.task[0].configure_optimizers()

    def barebones() -> float:
        settings = compose(overrides)
        built = experiment.build_parts(settings)
        module = Plain(built.task)
        trainer = pl.Trainer(accelerator="cpu", max_epochs=1, gradient_clip_val=5.0, barebones=True)
        trainer.fit(module, built.examples.loader(built.prepared, "train", seed=0))
        return between(module.ticks)

    print(
        json.dumps(
            {
                "program": program(),
                "barebones": barebones(),
                "softmax": program("reweighting=loss_softmax", "reweighting.alpha=0.1"),
            }
        )
    )


if __name__ == "__main__":
    child(*sys.argv[1:])
