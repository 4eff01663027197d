"""The level at which a recording goes through a net is that of the mixtures in training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from lightning_sep import use
from lightning_sep.parts import build_task
from lightning_sep.settings import compose
from lightning_sep.tasks.separation import Separation
from tests.data.test_audio_files import mp3
from tests.tasks import facts

RATE = 8000
SAMPLES = np.random.default_rng(3).uniform(-0.2, 0.3, 600)  # its mean is not 0
LEVELS = {
    "none": 1.0,
    "peak": float(np.abs(SAMPLES).max()),
    "sources": float(np.abs(SAMPLES).max()),
    "std": float(SAMPLES.std()),
}


def task_of(normalise: str) -> Separation:
    torch.manual_seed(0)
    head = "linear" if normalise == "std" else "tanh"
    settings = compose(["task=separation", f"head={head}", "loss=mse"])
    known = replace(facts.MIXTURES, sample_rate=RATE, normalise=normalise)
    task = build_task(settings.tree, known, to_train=False)
    assert isinstance(task, Separation)
    return task.eval()


@pytest.mark.parametrize("normalise", LEVELS)
def test_a_file_goes_in_at_the_level_of_training_and_comes_out_at_its_own(
    normalise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(normalise)
    monkeypatch.setattr(use, "load_run", lambda run: task)
    soundfile.write(tmp_path / "a.wav", SAMPLES, RATE, subtype="DOUBLE")
    written = use.separate("a run", [tmp_path / "a.wav"], tmp_path / "out")
    level = LEVELS[normalise]
    offset = SAMPLES.mean() if normalise == "std" else 0.0  # as of every mixture in training
    raw = task.net(torch.tensor((SAMPLES - offset) / level, dtype=torch.float32)[None, None])[0]
    made = raw if normalise == "std" else raw.tanh()
    for path, source in zip(written, made.detach().numpy(), strict=True):
        found, rate = soundfile.read(path)
        assert rate == RATE
        expected = np.clip(level * source, -1, 1)
        assert np.abs(expected).max() > 0.01
        np.testing.assert_allclose(found, expected, atol=1.01 / 32768)


@pytest.mark.parametrize("normalise", LEVELS)
def test_a_net_of_any_normalisation_takes_silence(
    normalise: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = task_of(normalise)
    monkeypatch.setattr(use, "load_run", lambda run: task)
    soundfile.write(tmp_path / "a.wav", np.zeros(300), RATE)
    for path in use.separate("a run", [tmp_path / "a.wav"], tmp_path / "out"):
        assert np.isfinite(soundfile.read(path)[0]).all()


@pytest.mark.parametrize("mode", ["CONSTANT", "VARIABLE"])
def test_of_an_mp3_without_its_length_what_can_be_read_is_separated_and_the_rest_is_told(
    mode: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(use, "load_run", lambda run: task_of("peak"))
    path = tmp_path / "a.mp3"
    path.write_bytes(mp3(path, mode=mode, rate=44100))
    written = use.separate("a run", [path], tmp_path / "out")
    assert (len(soundfile.read(written[0])[0]) > 2 * 44100) == (mode == "CONSTANT")
    assert ("does not say how long it is" in capfd.readouterr().err) == (mode == "VARIABLE")
