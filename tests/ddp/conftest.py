"""Processes that train together with this one: started once, for all tests of a file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lightning_sep import ranks
from tests.faults.conftest import data, lab, make_lab, sweeps

__all__ = ["data", "lab", "make_lab", "sweeps"]

PLUGIN = Path(__file__).parent / "plugin"


@pytest.fixture(scope="module", autouse=True)
def team(data_home: Path) -> Iterator[None]:
    """The environment of the processes that the tests of a file start, and their end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", f"{PLUGIN}:{Path.cwd()}")
        patch.setenv("LIGHTNING_SEP_PLUGINS", "disagreeing")
        patch.syspath_prepend(str(PLUGIN))
        yield
        ranks.dismiss()
