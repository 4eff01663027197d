"""A run with its mirror, and mirrors of runs that never were."""

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from lightning_sep import experiment
from lightning_sep.settings import compose
from lightning_sep.tracking.dashboard import Mirror

SETTINGS = [
    "task=separation",
    "examples.train=16",
    "examples.val=4",
    "examples.test=4",
    "examples.batch_size=4",
    "examples.segment_s=0.25",
    "trainer.epochs=2",
    "trainer.progress=false",
    "reweighting=loss_softmax",
    "reweighting.alpha=0.25",
]


def mirror(**changes: Any) -> Mirror:
    """What W&B is told of a run, of which nothing matters but what a test says."""
    kept: dict[str, Any] = {
        "run_id": "abc123",
        "name": "tanh s0",
        "group": "heads/tanh",
        "job_type": "final",
        "tags": [],
        "config": {},
        "monitor": ("val/r2", "max"),
        "project": "lightning-sep",
        "entity": None,
        "checkpoint": False,
    }
    return Mirror(**kept | changes)


@pytest.fixture(scope="session")
def tracked(
    tmp_path_factory: pytest.TempPathFactory, data_home: Any
) -> Iterator[tuple[experiment.Result, dict[str, str], dict[str, str]]]:
    """A run with its mirror, and the environment before and after it."""
    home = tmp_path_factory.mktemp("tracked")
    sweep = home / "sweeps" / "heads" / "sweep.json"
    sweep.parent.mkdir(parents=True)
    shared = [one for one in SETTINGS if not one.startswith("reweighting.")]
    sweep.write_text(json.dumps({"asks": {"settings": shared}, "extra": []}))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("WANDB_MODE")
        before = dict(os.environ)
        result = experiment.run(
            compose([*SETTINGS, "head=clip_at_eval"]),
            home=home,
            sweep="heads",
            trial=3,
            purpose="final",
        )
        yield result, before, dict(os.environ)
