"""Runs small enough to be trained, killed and trained again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lightning_sep import experiment
from lightning_sep.settings import Settings, compose

SETTINGS = [
    "task=separation",
    "tracking=none",
    "examples.train=16",
    "examples.val=4",
    "examples.test=4",
    "examples.batch_size=4",
    "examples.segment_s=0.25",
    "trainer.epochs=3",
    "trainer.checkpoint_every_steps=2",
    "trainer.progress=false",
]

MakeSettings = Callable[..., Settings]


@pytest.fixture(scope="session")
def settings() -> MakeSettings:
    return lambda *more: compose([*SETTINGS, *more])


@pytest.fixture(scope="session")
def undisturbed(
    settings: MakeSettings, data_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> experiment.Result:
    """What a run gives when nothing happens to it."""
    return experiment.run(settings(), home=tmp_path_factory.mktemp("undisturbed"))
