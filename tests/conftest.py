"""What all tests share: one thread, no network, a home and data of their own."""

import os

# Before torch is imported anywhere: the thread count is part of a result.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("WANDB_SILENT", "true")

from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import trees
from tests.mounts import mounted

# The same examples every time: whoever runs the tests again gets what was got before.
hypothesis.settings.register_profile("again", derandomize=True)
hypothesis.settings.load_profile("again")

collect_ignore = ["benchmarks"]  # programs, run by `make bench`

# They wait for others more than they compute, and take longest: last, they would wait alone.
_FIRST = ("slurm", "ddp", "faults", "end_to_end")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of the rooms that wait come first; else the order stays."""
    rooms = [Path(__file__).parent / name for name in _FIRST]

    def place(item: pytest.Item) -> int:
        return next(
            (n for n, room in enumerate(rooms) if item.path.is_relative_to(room)), len(rooms)
        )

    items.sort(key=place)


@pytest.fixture(scope="session")
def data_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where prepared data lie; made once for all tests, used by child processes too."""
    home = tmp_path_factory.mktemp("data")
    os.environ["LIGHTNING_SEP_DATA"] = str(home)
    return home


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, bytes | None]]:
    """What was made durable: each file with its content then, each folder with None."""
    found: list[tuple[Path, bytes | None]] = []
    sync = os.fsync

    def note(handle: int) -> None:
        path = Path(os.readlink(f"/proc/self/fd/{handle}"))
        found.append((path, None if path.is_dir() else path.read_bytes()))
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    return found


@pytest.fixture
def home(tmp_path: Path, data_home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where runs lie, for one test."""
    folder = tmp_path / "runs"
    monkeypatch.setenv("LIGHTNING_SEP_HOME", str(folder))
    return folder


@pytest.fixture
def songs(tmp_path: Path) -> Path:
    """Seven songs with four stems and their mixture, laid out like MUSDB18-HQ."""
    return trees.songs(tmp_path / "songs")


@pytest.fixture
def mixtures(tmp_path: Path) -> Path:
    """Mixtures of two speakers in tr, cv and tt, laid out and named like WSJ0-2mix."""
    return trees.mixtures(tmp_path / "2speakers" / "wav8k" / "min")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 4 MB; skipped where mounting is not permitted."""
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=4m", "tmpfs") as folder:
        yield folder
