"""Sweeps over a tiny numerical problem, run by real worker processes."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lightning_sep.launchers.local import Local
from lightning_sep.leases.process import Owner
from lightning_sep.sweep.commands import launch
from lightning_sep.sweep.definition import load_sweep
from lightning_sep.sweep.finals import Finals
from lightning_sep.sweep.folder import create, open_sweep
from lightning_sep.sweep.study import SweepStudy

ROOT = Path(__file__).parents[2]
SCRIPT = Path(__file__).parent / "quadratic.py"

SOURCE = """
from lightning_sep.sweep.definition import Sweep

SWEEP = Sweep(metric="val/value", {fields})


def overrides(trial):
    {body}
"""
RATES = "yield f\"rate={trial.suggest_categorical('rate', [0.05, 0.1, 0.2, 0.3, 0.4])}\""


@pytest.fixture(scope="session")
def quadratic() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tests_sweep_quadratic", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Sandbox:
    """One home, its sweeps and its worker processes."""

    def __init__(self, home: Path, quadratic: ModuleType) -> None:
        self.home = home
        self.runner = quadratic.Quadratic(home)
        self.processes: list[subprocess.Popen[bytes]] = []
        self.pages: list[list[str]] = []

    def write(self, name: str = "quick", body: str = RATES, **fields: Any) -> Path:
        """A sweep file."""
        values = {"direction": "minimize", "trials": 5, "finalists": 2, "final_seeds": 2}
        values |= {"settings": ["steps=4"], **fields}
        text = ", ".join(f"{key}={value!r}" for key, value in values.items())
        path = self.home.parent / f"{name}.py"
        path.write_text(SOURCE.format(fields=text, body=body))
        return path

    def begin(self, name: str = "quick", body: str = RATES, **fields: Any) -> SweepStudy:
        """A sweep on disk that no worker has touched."""
        return create(self.home, load_sweep(self.write(name, body, **fields)))

    def open(self, name: str = "quick") -> SweepStudy:
        return open_sweep(self.home, name)

    def command(self, names: Any) -> list[str]:
        return [sys.executable, str(SCRIPT), str(self.home), *names]

    def worker(self, *names: str, **environment: str) -> subprocess.Popen[bytes]:
        """A worker process without a launcher."""
        log = (self.home.parent / f"worker-{len(self.processes)}.log").open("ab")
        process = subprocess.Popen(
            self.command(names or ("quick",)),
            stdout=log,
            stderr=log,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        )
        log.close()
        self.processes.append(process)
        return process

    def launch(self, *files: Path, workers: int = 2, **options: Any) -> int:
        """The command, with real worker processes of the tiny problem."""

        def page(names: list[str], home: Path) -> Path:
            self.pages.append(names)
            return home / "page.html"

        return launch(
            list(files),
            home=self.home,
            launcher=Local(workers),
            runner=self.runner,
            command=self.command,
            page=page,
            **options,
        )

    def record(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(path.read_text())
        return found

    def check(self, name: str = "quick") -> None:
        """What holds after every finished sweep, whatever has happened."""
        study = self.open(name)
        trials = study.trials()
        assert Finals(study).done()
        assert len(trials) == study.budget
        assert [trial.number for trial in trials] == list(range(study.budget))
        assert all(trial.state.is_finished() for trial in trials)
        assert not list((study.folder / "leases").iterdir())
        assert not (study.folder / "sweep.lock").is_symlink()
        for path in self.home.glob("*/lease.json"):
            lease = self.record(path)
            owner = Owner.read(lease["owner"])
            assert not lease["token"] or (owner is not None and not owner.alive()), path
        for path in self.home.glob("*/record.json"):
            record = self.record(path)
            assert record["epochs"] == list(range(len(record["epochs"]))), path
            written = path.parent / "records.log"  # missing where the writer was killed on the way
            assert not written.exists() or len(written.read_text().splitlines()) == 1, path


def wait_until(condition: Callable[[], bool], limit_s: float = 30.0) -> None:
    """Poll until something holds."""
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, "waited too long"
        time.sleep(0.02)


@pytest.fixture(name="wait_until")
def wait_until_fixture() -> Callable[..., None]:
    return wait_until


@pytest.fixture
def sandbox(
    tmp_path: Path, quadratic: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Sandbox]:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("LIGHTNING_SEP_LEASE_S", "2")
    made = Sandbox(tmp_path / "runs", quadratic)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
            process.wait()
