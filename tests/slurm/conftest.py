"""One cluster for all tests, and homes on it."""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.faults.conftest import data
from tests.faults.harness import Lab
from tests.slurm.cluster import NODES, PATH, Cluster, missing

__all__ = ["data"]

C = TypeVar("C", bound=Cluster)


def standing(kind: type[C], port: int, reason: str | None) -> Iterator[C]:
    """A cluster with all nodes idle, and nothing of it afterwards.

    Args:
        kind: what it has.
        port: the first of its ports.
        reason: why there can be none.
    """
    if reason:
        pytest.skip(reason)
    with tempfile.TemporaryDirectory(prefix="ls-", dir="/tmp") as place:
        root = Path(place)
        root.chmod(0o755)
        try:
            made = kind(root / "c", port)
        except TimeoutError as error:
            pytest.skip(f"Slurm is installed, but no cluster starts on this machine: {error}")
        yield made
        made.stop()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Four idle nodes."""
    yield from standing(Cluster, 20000 + os.getpid() % 2000 * (NODES + 1), missing())


@pytest.fixture
def make_lab(tmp_path: Path, data: Path, cluster: Cluster) -> Iterator[Callable[..., Lab]]:
    """Homes whose commands know the cluster; their jobs end with the test."""
    made: list[Lab] = []

    def make(name: str = "lab", home: Path | None = None) -> Lab:
        lab = Lab(tmp_path / name, data, home)
        lab.extra = {"SLURM_CONF": str(cluster.conf), "PATH": PATH}
        made.append(lab)
        return lab

    yield make
    cluster.clear()
    for lab in made:
        lab.close()


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    return make_lab()
