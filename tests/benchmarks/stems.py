"""A batch of aligned stems, against libsndfile reading the same segments from their WAV files."""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from _measure import Line, environment, told

BATCH, SAMPLES, RATE, SECONDS, SONGS = 16, 147_443, 44_100, 20, 4  # 3.3 s, as Wave-U-Net takes
STEMS = ("bass", "drums", "other", "vocals")


def lines(rounds: int, folder: Path) -> Iterator[Line]:
    env = environment(LIGHTNING_SEP_HOME=folder / "runs", LIGHTNING_SEP_DATA=folder / "data")
    figures = told([sys.executable, __file__, str(rounds), str(folder)], env)
    for what, taken in figures.items():
        yield Line("stems", what, "soundfile", taken["ours"], taken["soundfile"])


def child(rounds: int, folder: Path) -> None:
    """Seconds of CPU of a batch of four stereo stems, all ways in turn."""
    import numpy as np
    import soundfile
    import torch

    from lightning_sep.data.songs import Songs
    from lightning_sep.data.stems import Stems
    from lightning_sep.memory import keep_freed_memory

    torch.set_num_threads(1)
    keep_freed_memory()  # as the program does
    generator = np.random.default_rng(0)
    for song in range(3 * SONGS):
        place = folder / "songs" / ("train", "val", "test")[song % 3] / str(song)
        place.mkdir(parents=True)
        for stem in STEMS:
            samples = generator.integers(-8000, 8000, (SECONDS * RATE, 2)).astype(np.int16)
            soundfile.write(place / f"{stem}.wav", samples, RATE)
    prepared = Songs(str(folder / "songs")).open(folder / "data")
    draw = Stems(segment_samples=SAMPLES, gain_range=[0.7, 1.0]).draw(prepared, "train")
    paths = [folder / "songs" / cut.recording.id for cut in prepared.cuts("train")]
    index = np.arange(BATCH)

    def read(epoch: int) -> None:
        rows, offset = draw.places(seed=0, epoch=epoch, index=index)
        for row, first in zip(rows.ravel(), offset.ravel(), strict=True):
            soundfile.read(paths[row], SAMPLES, int(first), dtype="int16")

    def ready(epoch: int) -> None:
        batch = draw.batch(seed=0, epoch=epoch, index=index)
        batch.waveform.sum()

    ways: dict[str, Callable[[int], object]] = {
        "a batch as a worker sends it": lambda epoch: draw.batch(seed=0, epoch=epoch, index=index),
        "a batch, summed as float32": ready,
    }
    figures: dict[str, dict[str, list[float]]] = {}
    for what, ours in ways.items():
        taken: dict[str, list[float]] = {"ours": [], "soundfile": []}
        for epoch in range(-1, rounds):
            for name, way in (("ours", ours), ("soundfile", read)):
                started_s = time.process_time()
                way(epoch)
                if epoch >= 0:  # the first time opens files and pages
                    taken[name].append(time.process_time() - started_s)
        figures[what] = taken
    print(json.dumps(figures))


if __name__ == "__main__":
    child(int(sys.argv[1]), Path(sys.argv[2]))
