"""Homes for the faults, and what the same sweep gives when nothing happens to it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lightning_sep.parts import open_data
from lightning_sep.settings import compose
from tests.faults.harness import TINY, Lab, write_sweep


@pytest.fixture(scope="session")
def data(data_home: Path) -> Path:
    """Where data lie; prepared before any process starts, so that all of them do the same."""
    open_data(compose(TINY))
    return data_home


@pytest.fixture(scope="session")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the files of sweeps lie, so that their reports name the same path."""
    return tmp_path_factory.mktemp("sweeps")


@pytest.fixture(scope="session")
def tiny(sweeps: Path) -> Path:
    """Three heads and a final: four runs of half a second."""
    return write_sweep(sweeps / "tiny.py")


@pytest.fixture(scope="session")
def one(sweeps: Path) -> Path:
    """A single run, one of those of the tiny sweep."""
    return write_sweep(sweeps / "one.py", "yield 'head=tanh'", finalists=0)


@pytest.fixture
def make_lab(tmp_path: Path, data: Path) -> Iterator[Callable[..., Lab]]:
    """Homes of one test; what runs on them is ended with it."""
    made: list[Lab] = []

    def make(name: str = "lab", home: Path | None = None) -> Lab:
        made.append(Lab(tmp_path / name, data, home))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab()


@pytest.fixture(scope="session")
def undisturbed(tiny: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The tiny sweep, run by one command with two workers to whom nothing happens."""
    made = Lab(tmp_path_factory.mktemp("undisturbed"), data)
    made.start("sweep", str(tiny), "--workers", "2").end()
    yield made
    made.close()
