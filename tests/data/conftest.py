"""Sets and folders that the tests of data share."""

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lightning_sep.data.corpus import Prepared
from lightning_sep.data.synthetic import Synthetic


@pytest.fixture(scope="session")
def synthetic_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data home that holds the synthetic set with its defaults."""
    home = tmp_path_factory.mktemp("data-home")
    Synthetic().open(home)
    return home


@pytest.fixture(scope="session")
def synthetic(synthetic_home: Path) -> Prepared:
    """The synthetic set, read from its memory-mapped cache."""
    return Synthetic().open(synthetic_home)


@pytest.fixture(scope="session")
def streamed(synthetic_home: Path) -> Prepared:
    """The synthetic set, read from its FLAC files because the cache's bound is 0."""
    return Synthetic(cache_limit_mb=0).open(synthetic_home)


@pytest.fixture
def tone() -> Callable[..., np.ndarray]:
    """A made-up sound, another one for each number."""

    def make(number: int, seconds: float = 0.5, rate: int = 8000) -> np.ndarray:
        time = np.arange(int(seconds * rate)) / rate
        noise = np.random.default_rng(number).normal(size=len(time))
        return 0.3 * np.sin(2 * np.pi * (150 + 37 * number) * time) + 0.02 * noise

    return make


@pytest.fixture
def published(tmp_path: Path, tone: Callable[..., np.ndarray]) -> Callable[..., Path]:
    """Writes a folder laid out like a published set: audio/, metadata.csv, SHA256SUMS."""
    made = 0

    def write(rows: list[dict[str, object]], rate: int = 8000, seconds: float = 0.5) -> Path:
        nonlocal made
        made += 1
        source = tmp_path / f"source{made}"
        for number, row in enumerate(rows):
            path = source / "audio" / str(row["filename"])
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, tone(number, seconds, rate), rate, subtype="PCM_16")
        with (source / "metadata.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        sums = [
            f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(source)}"
            for path in sorted(source.rglob("*"))
            if path.is_file()
        ]
        (source / "SHA256SUMS").write_text("\n".join(sums) + "\n")
        return source

    return write
