"""Runs small enough to be trained, killed and trained again."""

import subprocess
from collections.abc import Callable, Iterator
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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB; skipped where mounting is not permitted."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"a small disk cannot be mounted here: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
