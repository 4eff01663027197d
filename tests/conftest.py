"""What all tests share: one thread, no network, a home and data of their own."""

import os

# Before torch is imported anywhere: the thread count is part of a result.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("WANDB_SILENT", "true")

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Small enough for seconds, large enough that every code path is walked.
TINY = {
    "separation": [
        "task=separation",
        "examples.train=24",
        "examples.val=8",
        "examples.test=8",
        "examples.batch_size=4",
        "examples.segment_s=0.25",
        "trainer.epochs=2",
    ],
    "autoregression": [
        "task=autoregression",
        "examples.train=24",
        "examples.val=8",
        "examples.test=8",
        "examples.batch_size=4",
        "examples.frames=12",
        "trainer.epochs=2",
    ],
    "verification": [
        "task=verification",
        "examples.train=4",
        "trainer.epochs=2",
    ],
}


@pytest.fixture(scope="session")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where prepared data lie; made once for all tests, used by child processes too."""
    home = tmp_path_factory.mktemp("data")
    os.environ["LIGHTNING_SEP_DATA"] = str(home)
    return home


@pytest.fixture
def home(tmp_path: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs lie, for one test."""
    folder = tmp_path / "runs"
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(folder))
    return folder


Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def command(home: Path, tmp_path: Path) -> Command:
    """Runs ``lightning-sep`` in a process of its own, in an empty folder."""

    def run(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "lightning_sep", *arguments],
            cwd=options.pop("cwd", tmp_path),
            env={**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})},
            capture_output=True,
            text=True,
            timeout=300,
            **options,
        )

    return run
